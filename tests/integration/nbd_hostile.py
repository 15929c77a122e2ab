"""
Clients that mean harm, while a good one works: nbd_hostile.py SOCKET PID LIMIT_MIB

The device: 64 MiB. PID is the server's; its memory must stay below LIMIT_MIB. The last 16 MiB of the
device belong to the good client, which writes and verifies all the while.
"""
import os
import random
import struct
import sys
import time
import threading

import nbd_wire as nbd
from nbd_wire import Client, Closed

path, pid, limit_mib = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
SIZE = 64 << 20
GOOD = 48 << 20
ok = True
most_rss = 0


def rss():
    global most_rss
    with open("/proc/%d/statm" % pid) as f:
        mib = int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE") >> 20
    most_rss = max(most_rss, mib)
    return mib


class Good(threading.Thread):
    """Writes and verifies until told to stop."""

    def __init__(self):
        super().__init__()
        self.stop, self.rounds, self.error = threading.Event(), 0, None

    def run(self):
        try:
            c = Client(path, timeout=60).start(structured=True)
            rng = random.Random(9)
            while not self.stop.is_set():
                expected = {}
                for i in range(16):
                    at = GOOD + rng.randrange(255) * 65536
                    expected[at] = rng.randbytes(rng.choice([512, 4096, 65536]))
                    c.write(at, expected[at])
                for at, data in expected.items():
                    assert c.read(at, len(data)) == data, "the good client read other data"
                self.rounds += 1
                rss()
        except Exception as e:
            self.error = e


def newcomer():
    """Is served; perhaps only when the server has noticed that others have left."""
    for _ in range(600):
        try:
            c = Client(path).start()
            assert len(c.read(0, 4096)) == 4096
            c.close()
            return
        except (Closed, ConnectionError):
            good.stop.wait(0.1)
    raise AssertionError("newcomers are not served")


def check(what):
    def run(function):
        global ok
        before = good.rounds

        def whole():
            function()
            newcomer()
            for _ in range(600):  # and so is who was there
                if good.rounds > before or good.error:
                    break
                good.stop.wait(0.1)
            assert good.error is None, good.error
            assert good.rounds > before, "the good client was stopped"

        ok &= nbd.check(what, whole)

    return run


def closed(client):
    """The server must end this connection (what it still says before is taken)."""
    client.s.settimeout(30)
    try:
        while client.s.recv(65536):
            pass
    except ConnectionError:
        pass
    client.close()


good = Good()
good.start()


@check("garbage instead of a hello")
def _():
    rng = random.Random(2)
    for i in range(50):
        c = Client(path, flags=None)
        try:
            c.send(rng.randbytes(rng.choice([1, 4, 20, 1000, 100000])))
            c.s.shutdown(1)
        except (Closed, OSError):
            pass
        closed(c)


@check("unknown client flags")
def _():
    closed(Client(path, flags=0xFFFF0003))


@check("a wrong magic number among options")
def _():
    c = Client(path)
    c.send_option(nbd.LIST, magic=b"IHAVEOPX")
    closed(c)


@check("every kind of option with data that lies about its length")
def _():
    rng = random.Random(3)
    for option in list(range(0, 14)) + [0xFFFFFFFF]:
        for data in [b"", b"\xff" * 4, b"\xff\xff\xff\xfc" + b"x" * 40, struct.pack(">I", 1) + b"a" + b"\xff" * 7,
                     rng.randbytes(300), b"\0" * 5000]:
            c = Client(path)
            try:
                c.send_option(option, data)
                if option == nbd.EXPORT_NAME:
                    c.s.shutdown(1)
                    c.s.recv(100)  # what "" gives; nothing for the others
                else:
                    c.take_answer()
                    c.send_option(nbd.ABORT)
            except (Closed, ConnectionError):
                pass
            c.close()


@check("options of 2^32 bytes: refused, and skipped no further than they are sent")
def _():
    for option in nbd.INFO, nbd.GO, nbd.SET_META, 99:
        c = Client(path)
        c.send_option(option, length=0xFFFFFFFF)
        assert c.take_answer()[0] & nbd.ERROR
        c.send(bytes(1 << 20))
        c.close()
    c = Client(path)
    c.send_option(nbd.EXPORT_NAME, length=0xFFFFFFFF)
    closed(c)


@check("a flood of options, answers read")
def _():
    c = Client(path)
    try:
        for i in range(10000):
            c.option(nbd.LIST)
        raise AssertionError("endless options")
    except Closed:
        pass


@check("a flood of options, answers not read")
def _():
    c = Client(path, timeout=1)
    try:
        for i in range(1000000):
            c.send_option(nbd.LIST)
    except (Closed, OSError):
        pass
    c.close()


@check("half a handshake, kept open: ended by the server")
def _():
    clients = [Client(path, flags=None) for i in range(10)]
    for i, c in enumerate(clients):
        c.send(b"\0\0\0\3IHAVEOPT\0\0\0\7\0\0\0\x08"[: 2 * i + 1])
    for c in clients:
        closed(c)


@check("a wrong magic number among requests")
def _():
    c = Client(path).start()
    c.send_request(nbd.READ, 0, 4096, magic=0x25609514)
    closed(c)


@check("unknown commands and flags, all of them")
def _():
    c = Client(path).start(structured=True)
    for kind in list(range(8, 300)) + [0xFFFF]:
        assert c.request(kind, 0, 512)[0] == 22
    for kind in nbd.READ, nbd.FLUSH, nbd.TRIM, nbd.CACHE, nbd.ZEROES, nbd.STATUS:
        for bit in range(5, 16):
            n = 0 if kind == nbd.FLUSH else 512
            assert c.request(kind, 0, n, flags=1 << bit)[0] == 22
    for bit in range(1, 16):
        assert c.request(nbd.WRITE, 0, data=b"x" * 512, flags=1 << bit)[0] == 22


@check("offsets and lengths at every edge")
def _():
    edges = [0, 1, 511, SIZE - 1, SIZE, SIZE + 1, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
    c = Client(path, timeout=60).start(meta=True)
    for at in edges:
        for n in [0, 1, 512, 4097, (32 << 20) + 1, (1 << 31), (1 << 32) - 1]:
            for kind in nbd.READ, nbd.CACHE, nbd.STATUS, nbd.TRIM, nbd.ZEROES:
                if kind in (nbd.TRIM, nbd.ZEROES) and at + n > at and at + n <= SIZE:
                    continue  # it would work, on the good client's data too
                error, _ = c.request(kind, at, n)
                assert not error == (at + n <= SIZE and not (kind == nbd.READ and n > 32 << 20)
                                     and not (kind == nbd.STATUS and n == 0)), (kind, at, n, error)


@check("writes that announce 2^32 bytes and send some")
def _():
    for sent in 0, 1, 100000, 1 << 22:
        c = Client(path).start()
        c.send_request(nbd.WRITE, 0, 0xFFFFFFFF, bytes(sent))
        assert c.take_reply()[1] == 22
        c.close()


@check("disconnect in the middle of a header and of a payload")
def _():
    for n in list(range(1, 28)):
        c = Client(path).start()
        c.send(struct.pack(">IHHQQI", nbd.MAGIC, 0, nbd.WRITE, 1, 0, 4096)[:n])
        c.close()
    for size in 4096, 65536, 1 << 20, 32 << 20:
        for part in 0, 1, size // 2, size - 1:
            c = Client(path).start()
            c.send_request(nbd.WRITE, 0, size, bytes(part))
            c.close()


@check("payload a byte at a time")
def _():
    c = Client(path).start()
    c.send_request(nbd.WRITE, 0, 3000)
    for i in range(3000):
        c.send(b"z")
    assert c.take_reply()[1] == 0 and c.read(0, 3000) == b"z" * 3000


stuck = []


@check("clients that never read their replies")
def _():
    for i in range(8):
        c = Client(path, timeout=0.5).start()
        try:
            for k in range(200000):
                c.send_request(nbd.READ, 0, 1 << 20)
        except (Closed, OSError):
            pass
        stuck.append(c)


@check("clients that hold every buffer with halves of writes")
def _():
    for i in range(8):
        c = Client(path, timeout=60).start()
        c.send_request(nbd.WRITE, 0, 32 << 20, bytes(31 << 20))
        stuck.append(c)


@check("they leave, all at once")
def _():
    for c in stuck:
        c.close()


@check("over 100 connections where 40 are allowed: some are served, the rest turned away")
def _():
    # Connections of the checks before may still be on their way out, so some more tries are fine.
    clients, turned_away, end = [], 0, time.monotonic() + 30
    while (len(clients) < 30 or turned_away < 70) and time.monotonic() < end:
        try:
            clients.append(Client(path).start())
        except (Closed, OSError):
            turned_away += 1
    assert 30 <= len(clients) <= 40 and turned_away >= 70, (len(clients), turned_away)
    for c in clients:
        assert c.read(0, 512)
    for c in clients:
        c.close()


@check("connections opened and dropped, a thousand times")
def _():
    for i in range(1000):
        try:
            c = Client(path, flags=None)
            if i % 3 == 0:
                c.send(b"\0\0\0\3")
            c.close()
        except (Closed, OSError):
            pass  # too many at the moment


@check("and all places are free again")
def _():
    clients, end = [], time.monotonic() + 30
    while len(clients) < 35 and time.monotonic() < end:
        try:
            clients.append(Client(path).start())
        except (Closed, OSError):
            pass
    assert len(clients) == 35, len(clients)
    for c in clients:
        c.close()


good.stop.set()
good.join()
ok &= nbd.check("the good client noticed nothing", lambda: None if good.error is None else exec("raise good.error"))


def memory():
    assert most_rss < limit_mib, "%d MiB, allowed are %d" % (most_rss, limit_mib)
    print("# at most %d MiB" % most_rss)


ok &= nbd.check("the server's memory stayed within bounds (%d MiB)" % limit_mib, memory)
sys.exit(not ok)
