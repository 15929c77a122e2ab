"""Requests that only a bare client makes: nbd_requests.py SOCKET. The device: mem:8M?block=4096."""
import random
import struct
import sys

import nbd_wire as nbd
from nbd_wire import Client

path = sys.argv[1]
SIZE = 8 << 20
ok = True


def check(what):
    def run(function):
        global ok
        ok &= nbd.check(what, function)

    return run


@check("requests at any byte, mixed, against a model")
def _():
    c = Client(path).start()
    rng = random.Random(4)
    model = bytearray(c.read(0, 1 << 20))
    for step in range(1500):
        at = rng.randrange(1 << 20)
        n = rng.choice([1, 3, 511, 512, 4095, 4096, 4097, 20000, 100000])
        n = min(n, (1 << 20) - at)
        kind = rng.choice([nbd.READ, nbd.WRITE, nbd.ZEROES, nbd.TRIM])
        if kind == nbd.READ:
            assert c.read(at, n) == model[at : at + n], (step, at, n)
        elif kind == nbd.WRITE:
            data = rng.randbytes(n)
            c.write(at, data, rng.choice([0, nbd.FUA]))
            model[at : at + n] = data
        elif kind == nbd.ZEROES:
            flags = rng.choice([0, nbd.NO_HOLE, nbd.FUA, nbd.FAST_ZERO])
            assert c.request(nbd.ZEROES, at, n, flags=flags)[0] == 0
            model[at : at + n] = bytes(n)
        else:  # undefined contents inside: put known ones there
            assert c.request(nbd.TRIM, at, n, flags=rng.choice([0, nbd.FUA]))[0] == 0
            c.write(at, bytes(n))
            model[at : at + n] = bytes(n)
    assert c.read(0, 1 << 20) == model


@check("unaligned writes side by side from two connections lose nothing")
def _():
    a, b = Client(path).start(), Client(path).start()
    for i in range(300):
        at = (i * 1000) % 100000
        a.send_request(nbd.WRITE, at, 500, b"a" * 500)
        b.send_request(nbd.WRITE, at + 500, 500, b"b" * 500)
        assert a.take_reply()[1] == 0 and b.take_reply()[1] == 0
        assert a.read(at, 1000) == b"a" * 500 + b"b" * 500, at


@check("many requests in flight, answered by cookie")
def _():
    c = Client(path).start(structured=True)
    blocks = {}
    for i in range(64):
        c.write(i * 4096, bytes([i + 1]) * 4096)
    for round in range(20):
        for i in range(64):
            blocks[c.send_request(nbd.READ, i * 4096, 4096)] = i
        for i in range(64):
            cookie, error, data = c.take_reply()
            assert error == 0 and data == bytes([blocks.pop(cookie) + 1]) * 4096


@check("more requests than slots, sent before the first reply is read")
def _():
    c = Client(path).start()
    for i in range(1000):
        c.send_request(nbd.FLUSH)
    assert sorted(c.take_reply()[0] for i in range(1000)) == list(range(1, 1001))


@check("32 MiB in one request is refused here (past the end), 8 MiB is done")
def _():
    c = Client(path).start()
    data = random.Random(1).randbytes(SIZE)
    c.write(0, data)
    assert c.read(0, SIZE) == data
    assert c.request(nbd.WRITE, 0, 32 << 20, bytes(32 << 20))[0] == 28
    assert c.read(0, SIZE) == data


@check("a hole comes as a hole, but not with the flag against it")
def _():
    c = Client(path).start(structured=True)
    assert c.request(nbd.ZEROES, 0, 65536)[0] == 0
    c.send_request(nbd.READ, 0, 65536)
    assert c.take_chunk()[2] == 2
    c.send_request(nbd.READ, 0, 65536, flags=nbd.DF)
    chunk = c.take_chunk()
    assert chunk[2] == 1 and chunk[3][8:] == bytes(65536)
    c.write(65535, b"x")
    c.send_request(nbd.READ, 0, 65536)
    assert c.take_chunk()[2] == 1


@check("block status: exact, clipped to the request, one extent if asked")
def _():
    c = Client(path).start(meta=True)
    assert c.request(nbd.ZEROES, 0, SIZE)[0] == 0
    c.write(8192, b"x" * 4096)

    def status(at, n, flags=0):
        error, data = c.request(nbd.STATUS, at, n, flags=flags)
        assert error == 0 and data[:4] == struct.pack(">I", 1), (error, data)
        return [struct.unpack(">II", data[i : i + 8]) for i in range(4, len(data), 8)]

    assert status(0, SIZE) == [(8192, 3), (4096, 0), (SIZE - 12288, 3)]
    assert status(0, SIZE, nbd.REQ_ONE) == [(8192, 3)]
    assert status(9000, 5000) == [(12288 - 9000, 0), (9000 + 5000 - 12288, 3)]
    assert status(9000, 100) == [(100, 0)]
    assert status(SIZE - 1, 1) == [(1, 3)]


@check("block status of many extents is cut short, never wrong")
def _():
    c = Client(path).start(meta=True)
    assert c.request(nbd.ZEROES, 0, SIZE)[0] == 0
    for at in range(0, SIZE, 8192):
        c.write(at, b"x" * 4096)
    at, count = 0, 0
    while at < SIZE:
        error, data = c.request(nbd.STATUS, at, SIZE - at)
        assert error == 0 and len(data) > 4
        for i in range(4, len(data), 8):
            n, state = struct.unpack(">II", data[i : i + 8])
            assert n == 4096 and state == (0 if count % 2 == 0 else 3), (at, n, state)
            at += n
            count += 1


@check("errors say what is wrong")
def _():
    c = Client(path).start(structured=True)
    for kind, at, n, flags, error in [
        (nbd.READ, SIZE, 1, 0, 22),
        (nbd.READ, (1 << 64) - 1, 1, 0, 22),
        (nbd.READ, 0, 0xFFFFFFFF, 0, 75),
        (nbd.ZEROES, SIZE - 1, 2, 0, 28),
        (nbd.TRIM, 0, 0xFFFFFFFF, 0, 22),
        (nbd.FLUSH, 1, 0, 0, 22),
        (nbd.STATUS, 0, 4096, 0, 22),
        (nbd.READ, 0, 4096, 1 << 9, 22),
        (77, 0, 0, 0, 22),
    ]:
        c.send_request(kind, at, n, flags=flags)
        _, got, message = c.take_reply()
        assert got == error and message, (kind, at, n, got, message)
    assert len(c.read(0, 1)) == 1


@check("length 0 does no harm")
def _():
    for structured in False, True:
        c = Client(path).start(structured=structured)
        for kind in nbd.READ, nbd.WRITE, nbd.ZEROES, nbd.TRIM, nbd.CACHE:
            c.send_request(kind, 0, 0)
            assert c.take_reply(0)[1] == 0
        assert c.read(0, 3)


@check("the old way in: NBD_OPT_EXPORT_NAME, with and without the zeroes")
def _():
    for flags, extra in (3, 0), (1, 124):
        c = Client(path, flags=flags)
        c.send_option(nbd.EXPORT_NAME, b"")
        size, _ = struct.unpack(">QH", c.take(10))
        assert size == SIZE and c.take(extra) == bytes(extra)
        assert c.request(nbd.CACHE, 0, 4096)[0] == 0
    c = Client(path)
    c.send_option(nbd.EXPORT_NAME, b"nothing of this name")
    try:
        c.take(1)
        raise AssertionError("an answer")
    except nbd.Closed:
        pass


@check("metadata contexts: listed, selected, forgotten")
def _():
    c = Client(path)
    empty = c.name(b"") + struct.pack(">I", 0)
    assert [a[0] for a in c.option(nbd.LIST_META, empty)] == [4, nbd.ACK]
    query = c.name(b"") + struct.pack(">I", 1) + c.name(b"base:")
    assert [a[0] for a in c.option(nbd.LIST_META, query)] == [4, nbd.ACK]
    assert c.option(nbd.SET_META, query)[-1][0] == nbd.ERROR | 3  # before structured replies
    assert c.option(nbd.STRUCTURED)[-1][0] == nbd.ACK
    assert [a[0] for a in c.option(nbd.SET_META, query)] == [nbd.ACK]
    full = c.name(b"") + struct.pack(">I", 2) + c.name(b"x-y:z") + c.name(b"base:allocation")
    assert [a[0] for a in c.option(nbd.SET_META, full)] == [4, nbd.ACK]
    assert [a[0] for a in c.option(nbd.SET_META, empty)] == [nbd.ACK]  # selects none
    c.structured = True
    assert c.go()[-1][0] == nbd.ACK
    assert c.request(nbd.STATUS, 0, 4096)[0] == 22


@check("disconnect: what is in progress is answered first")
def _():
    c = Client(path).start()
    for i in range(50):
        c.send_request(nbd.WRITE, i * 4096, 4096, bytes([i]) * 4096)
    c.send_request(nbd.DISC)
    for i in range(50):
        assert c.take_reply()[1] == 0
    try:
        c.take(1)
        raise AssertionError("more than the replies")
    except nbd.Closed:
        pass


sys.exit(not ok)
