#!/usr/bin/env bash
# The nbd driver against other people's servers: what they offer, what they refuse, when they die.
. "$(dirname "$0")/lib.sh"
command -v nbdkit >/dev/null || { skip "nbd client" "nbdkit is not installed"; finish; }

sock=$TMP/n.sock
uri="nbd+unix:///?socket=$sock"
serve() { # ARGS...: a fresh nbdkit
    rm -f "$sock"
    start nbdkit nbdkit -f -U "$sock" "$@"
    wait_for test -S "$sock"
}
head -c 3000000 /dev/urandom >"$TMP/src"
truncate -s 16M "$TMP/src"

serve memory 16M
check "info" sh -c "'$ASHLAR' info '$uri' | grep -q '^size  *16777216'"
check "write, flush and read back" "$ASHLAR" copy "file:$TMP/src" "$uri" --verify --depth 64
check "read" sh -c "'$ASHLAR' copy '$uri' 'file:$TMP/back?create=16M' && cmp '$TMP/src' '$TMP/back'"
check "holes arrive" test "$(stat -c %b "$TMP/back")" -lt 8000
check "under a filter" "$ASHLAR" copy "slice?size=1M,$uri" "slice?offset=1M,$uri" --verify
stop nbdkit

# Servers without this and that: the driver does it by other means.
serve --filter=nozero --filter=noextents memory 16M
check "no zeroing, no extents" "$ASHLAR" copy "file:$TMP/src" "$uri" --verify
stop nbdkit
serve --filter=noparallel memory 16M serialize=connections
check "one connection only" sh -c "'$ASHLAR' info '$uri'"
stop nbdkit
serve -r memory 16M
check_fails "read-only" 1 'Read-only' "$ASHLAR" copy "file:$TMP/src" "$uri"
stop nbdkit
serve --filter=error memory 16M error-pwrite=EIO error-pwrite-rate=1
check_fails "write errors" 1 'Input/output error' "$ASHLAR" copy "file:$TMP/src" "$uri"
stop nbdkit
serve --filter=error memory 16M error-pread=ENOMEM error-pread-rate=0.2
check_fails "read errors" 1 'Cannot allocate' "$ASHLAR" copy "$uri" mem:16M --no-sparse --piece 64K
stop nbdkit

# A server that dies: an error, and no hang.
serve --filter=delay --filter=log memory 1G delay-read=50ms logfile="$TMP/log"
start copy "$ASHLAR" copy "$uri" null:1G --no-sparse --piece 64K
wait_for grep -q Read "$TMP/log"
kill -9 "$(pid_of nbdkit)"
wait "$(pid_of copy)"
code=$?
unset 'started[copy]' 'started[nbdkit]'
if [ "$code" -eq 1 ]; then
    pass "a dying server is an error: $(tail -n 1 "$TMP/copy.err" | cut -c1-60)"
else
    fail "a dying server is an error" "exit $code: $(cat "$TMP/copy.err")"
fi
check_fails "no server" 1 'onnect' "$ASHLAR" info "$uri"
check_fails "no such host" 1 'nbd://' "$ASHLAR" info nbd://host.invalid/
check_fails "no socket in the URI" 2 'nbd\+unix' "$ASHLAR" info nbd+unix:///
finish
