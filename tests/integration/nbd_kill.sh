#!/usr/bin/env bash
# The NBD server dies, or is told to stop, while clients write: what was promised is there.
# also under TSan
. "$(dirname "$0")/lib.sh"
here=$(cd "$(dirname "$0")" && pwd)
command -v python3 >/dev/null || { skip "nbd kill" "python3 is not installed"; finish; }

sock=$TMP/s
serve() {
    start server "$ASHLAR" serve nbd "$@" --socket "$sock" --patience 5s
    wait_for grep -q '^listening on' "$TMP/server.out" || fail "start" "$(cat "$TMP/server.err")"
}

# Writes blocks with generation numbers, in flight all the time; a line "block generation" for each
# that a flush or FUA reply has promised. Ends, with 0, when the server does.
cat >"$TMP/writer.py" <<'END'
import random, struct, sys
import nbd_wire as nbd
path, mode, start = sys.argv[1], sys.argv[2], int(sys.argv[3])
rng = random.Random(start)
BLOCKS = 256
c = nbd.Client(path).start(structured=mode != "fua")
generation, written = 0, {}
try:
    while True:
        sent = {}
        for block in rng.sample(range(start, start + BLOCKS), 16):
            generation += 1
            data = struct.pack(">QQ", block, generation) * 256
            sent[c.send_request(nbd.WRITE, block * 4096, 4096, data, nbd.FUA if mode == "fua" else 0)] = block, generation
        while sent:
            cookie, error, _ = c.take_reply()
            assert error == 0, error
            block, done = sent.pop(cookie)
            written[block] = done
            if mode == "fua":
                print(block, done, flush=True)
        if mode == "flush" and generation % 64 == 0:
            assert c.request(nbd.FLUSH)[0] == 0
            for block, done in written.items():
                print(block, done)
            written.clear()
            sys.stdout.flush()
        if mode == "replied":
            for block, done in written.items():
                print(block, done)
            written.clear()
            sys.stdout.flush()
except nbd.Closed:
    if mode == "replied":
        for block, done in written.items():
            print(block, done)
END
# Every block must hold the promised generation or a later one, whole.
cat >"$TMP/verify.py" <<'END'
import struct, sys
image = open(sys.argv[1], "rb").read()
promised = {}
for name in sys.argv[2:]:
    for line in open(name):
        if line.endswith("\n"):
            block, generation = map(int, line.split())
            promised[block] = generation
assert promised, "nothing was promised"
for block, generation in promised.items():
    words = struct.unpack(">512Q", image[block * 4096 : block * 4096 + 4096])
    assert set(words[0::2]) == {block}, "block %d holds something else" % block
    assert len(set(words[1::2])) == 1, "block %d is torn" % block
    assert words[1] >= generation, "block %d: generation %d, promised %d" % (block, words[1], generation)
print(len(promised), "promises kept")
END
writers() { # MODE...
    local n=0 mode
    for mode in "$@"; do
        PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1 start "w$n" python3 "$TMP/writer.py" "$sock" "$mode" $((n * 256))
        n=$((n + 1))
    done
}
lines() { [ "$(wc -l <"$1")" -ge "$2" ]; }
busy() { # wait until each of N writers has made promises
    local n
    for ((n = 0; n < $1; n++)); do wait_for lines "$TMP/w$n.out" 500 || fail "writer $n works" "$(cat "$TMP/w$n.err")"; done
}
gone() { # the writers have seen the end
    local n
    for ((n = 0; n < $1; n++)); do
        if ! wait "$(pid_of "w$n")"; then fail "writer $n" "$(tail -n 3 "$TMP/w$n.err")"; fi
        unset "started[w$n]"
    done
}

# What a process holds dies with it: that is the cache's data, unless a flush or FUA moved it on.
for filter in "" "cache," "cache,"; do
    truncate -s 0 "$TMP/d.img"
    truncate -s 4M "$TMP/d.img"
    serve "${filter}file:$TMP/d.img" --threads 2
    writers flush fua flush
    busy 3
    kill -9 "$(pid_of server)"
    wait "$(pid_of server)" 2>/dev/null
    unset "started[server]"
    gone 3
    check "kill -9 on ${filter}file: what was flushed is there" python3 "$TMP/verify.py" "$TMP/d.img" "$TMP"/w[012].out
done

# The end writes back what a cache holds, and waits for what is slow.
for filter in "" "cache," "delay?write=2ms,"; do
    truncate -s 0 "$TMP/e.img"
    truncate -s 4M "$TMP/e.img"
    serve "${filter}file:$TMP/e.img" --threads 2
    writers replied fua replied
    busy 3
    if stop server; then
        pass "SIGTERM under load on ${filter}file: exit 0"
    else
        fail "SIGTERM under load on ${filter}file" "$(tail -n 5 "$TMP/server.err")"
    fi
    check "the socket is gone" test ! -e "$sock"
    gone 3
    check "all that was answered is there" python3 "$TMP/verify.py" "$TMP/e.img" "$TMP"/w[012].out
done

# A flush that fails at the end is a failure.
serve "fault?op=flush&errno=EIO,mem:1M"
if stop server; then
    fail "a flush that fails at the end" "exit 0"
else
    check "a flush that fails at the end: exit 1, said why" grep -q 'flush: Input/output error' "$TMP/server.err"
fi
finish
