"""A bare NBD client, for tests that say exactly what goes over the wire."""
import socket
import struct
import time

READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS = range(8)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO = 1, 2, 4, 8, 16
EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO, STRUCTURED, LIST_META, SET_META = 1, 2, 3, 5, 6, 7, 8, 9, 10
ACK, ERROR = 1, 1 << 31
MAGIC = 0x25609513


class Closed(Exception):
    """The server ended the connection."""


class Client:
    def __init__(self, path, flags=3, timeout=20):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(timeout)
        while True:
            try:
                self.s.connect(path)
                break
            except BlockingIOError:  # the server's queue of connections is full at the moment
                time.sleep(0.001)
        self.cookie = 0
        self.structured = False
        if flags is None:
            return
        greeting = self.take(18)
        assert greeting[:16] == b"NBDMAGICIHAVEOPT" and greeting[16:] == b"\0\3", greeting
        self.send(struct.pack(">I", flags))

    def close(self):
        self.s.close()

    def send(self, data):
        try:
            self.s.sendall(data)
        except OSError as e:
            raise Closed(str(e))

    def take(self, n):
        data = b""
        while len(data) < n:
            try:
                part = self.s.recv(n - len(data))
            except ConnectionError as e:
                raise Closed(str(e))
            if not part:
                raise Closed("end of stream")
            data += part
        return data

    def send_option(self, option, data=b"", length=None, magic=b"IHAVEOPT"):
        self.send(magic + struct.pack(">II", option, len(data) if length is None else length) + data)

    def take_answer(self):
        magic, option, kind, n = struct.unpack(">QIII", self.take(20))
        assert magic == 0x3E889045565A9
        return kind, self.take(n)

    def option(self, option, data=b"", **how):
        """All answers to an option: [(type, data)...], the last is the final one."""
        self.send_option(option, data, **how)
        answers = []
        while True:
            answers.append(self.take_answer())
            if answers[-1][0] == ACK or answers[-1][0] & ERROR:
                return answers

    @staticmethod
    def name(text):
        return struct.pack(">I", len(text)) + text

    def go(self, name=b"", infos=()):
        data = self.name(name) + struct.pack(">H", len(infos)) + b"".join(struct.pack(">H", i) for i in infos)
        return self.option(GO, data)

    def start(self, name=b"", structured=False, meta=False):
        if structured or meta:
            assert self.option(STRUCTURED)[-1][0] == ACK
            self.structured = True
        if meta:
            q = b"base:allocation"
            answers = self.option(SET_META, self.name(name) + struct.pack(">I", 1) + self.name(q))
            assert answers[-1][0] == ACK and len(answers) == 2, answers
        answers = self.go(name)
        assert answers[-1][0] == ACK, answers
        for kind, data in answers:
            if kind == 3 and data[:2] == b"\0\0":
                self.size, self.flags = struct.unpack(">QH", data[2:])
        return self

    def send_request(self, kind, offset=0, length=0, data=b"", flags=0, magic=MAGIC):
        self.cookie += 1
        self.send(struct.pack(">IHHQQI", magic, flags, kind, self.cookie, offset, length) + data)
        return self.cookie

    def take_simple(self, read_len=0):
        magic, error, cookie = struct.unpack(">IIQ", self.take(16))
        assert magic == 0x67446698, hex(magic)
        return cookie, error, b"" if error else self.take(read_len)

    def take_chunk(self):
        magic, flags, kind, cookie, n = struct.unpack(">IHHQI", self.take(20))
        assert magic == 0x668E33EF, hex(magic)
        return cookie, flags, kind, self.take(n)

    def take_reply(self, read_len=0):
        """(cookie, error, data or chunk)"""
        if not self.structured:
            return self.take_simple(read_len)
        cookie, flags, kind, data = self.take_chunk()
        assert flags & 1
        if kind & 0x8000:
            return cookie, struct.unpack(">I", data[:4])[0], data[6:]
        if kind == 1:
            return cookie, 0, data[8:]
        if kind == 2:
            return cookie, 0, bytes(struct.unpack(">I", data[8:])[0])
        return cookie, 0, data

    def request(self, kind, offset=0, length=0, data=b"", flags=0):
        cookie = self.send_request(kind, offset, length or len(data), data, flags)
        got, error, answer = self.take_reply(length if kind == READ else 0)
        assert got == cookie, (got, cookie)
        return error, answer

    def read(self, offset, length, flags=0):
        error, data = self.request(READ, offset, length, flags=flags)
        assert error == 0, error
        return data

    def write(self, offset, data, flags=0):
        error, _ = self.request(WRITE, offset, data=data, flags=flags)
        assert error == 0, error


def check(what, function):
    """Run one check and print its line."""
    try:
        function()
        print("ok - " + what, flush=True)
        return True
    except Exception as e:  # a failed check must not hide the others
        print("not ok - %s: %s: %s" % (what, type(e).__name__, e), flush=True)
        return False
