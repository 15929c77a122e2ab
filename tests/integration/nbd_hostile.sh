#!/usr/bin/env bash
# The NBD server and clients that mean harm. They harm themselves alone.
# also under TSan
. "$(dirname "$0")/lib.sh"
here=$(cd "$(dirname "$0")" && pwd)
command -v python3 >/dev/null || { skip "hostile clients" "python3 is not installed"; finish; }

# A sanitizer keeps what was freed, and shadows of all; the plain server must do with less.
if grep -qaE '__asan_init|__tsan_init' "$ASHLAR"; then limit=4000; else limit=900; fi
# Requests of several clients to the same bytes at the same time race in the memory of a RAM disk, as
# they do on any disk; with a file that is the kernel's memory, which TSan does not see.
device=mem:64M
if grep -qa __tsan_init "$ASHLAR"; then
    truncate -s 64M "$TMP/img"
    device=file:$TMP/img
fi

sock=$TMP/s
start server "$ASHLAR" serve nbd "$device" --socket "$sock" --max-connections 40 --threads 2 --patience 3s
wait_for grep -q '^listening on' "$TMP/server.out" || { fail "start" "$(cat "$TMP/server.err")"; finish; }
PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1 python3 "$here/nbd_hostile.py" "$sock" "$(pid_of server)" $limit ||
    failures=$((failures + 1))
if stop server && [ ! -e "$sock" ]; then
    pass "SIGTERM: exit 0, socket gone"
else
    fail "SIGTERM: exit 0, socket gone" "$(tail -n 20 "$TMP/server.err")"
fi

# A client that does not read its replies holds up the end for as long as patience, no longer.
start server "$ASHLAR" serve nbd mem:64M --socket "$sock" --patience 2s
wait_for grep -q '^listening on' "$TMP/server.out"
PYTHONPATH=$here start deaf python3 -c '
import sys, time, nbd_wire as nbd
c = nbd.Client(sys.argv[1], timeout=1).start()
try:
    while True:
        c.send_request(nbd.READ, 0, 1 << 20)
except (OSError, nbd.Closed):
    print("stuck", flush=True)
time.sleep(60)' "$sock"
wait_for grep -q stuck "$TMP/deaf.out"
if stop server; then pass "a deaf client cannot stop the end"; else fail "a deaf client cannot stop the end" "$?"; fi
finish
