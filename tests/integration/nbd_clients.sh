#!/usr/bin/env bash
# The NBD server and other people's clients.
# also under TSan
. "$(dirname "$0")/lib.sh"
here=$(cd "$(dirname "$0")" && pwd)
for tool in nbdinfo nbdcopy qemu-img qemu-io fio python3; do
    command -v $tool >/dev/null || { skip "nbd clients" "$tool is not installed"; finish; }
done

sock=$TMP/s
uri="nbd+unix:///?socket=$sock"
serve() { # ARGS...
    start server "$ASHLAR" serve nbd "$@" --socket "$sock"
    wait_for grep -q '^listening on' "$TMP/server.out" || cat "$TMP/server.err"
}
# Ends with 0, without a word, and leaves no socket.
ends_well() { # WHAT
    local code=0
    stop server || code=$?
    if [ $code -eq 0 ] && [ ! -e "$sock" ] && [ ! -s "$TMP/server.err" ]; then
        pass "$1"
    else
        fail "$1" "exit $code: $(ls "$sock" 2>&1) $(tail -n 3 "$TMP/server.err")"
    fi
}
has() { "${@:2}" 2>&1 | grep -qE -- "$1"; }
sums() { test "$(sha256sum <"$1")" = "$(sha256sum <"$2")"; }
io() { # every command must have said what it did, and nothing else
    local out
    out=$(qemu-io -f raw "$@" 2>&1) && grep -qE 'bytes at offset' <<<"$out" &&
        ! grep -qiE 'fail|error|mismatch' <<<"$out" && return
    echo "$out"
    return 1
}

head -c 5000000 /dev/urandom >"$TMP/src"
truncate -s 8M "$TMP/src"
printf 'end' | dd of="$TMP/src" bs=1 seek=8388605 conv=notrunc status=none

# ---- one device ----
serve mem:8M
check "one line says where" grep -qx "listening on nbd+unix:///?socket=$sock" "$TMP/server.out"
check "only the owner may connect" test "$(stat -c %a "$sock")" = 600
check "nbdinfo" has 'export-size: 8388608' nbdinfo "$uri"
check "nbdinfo: structured replies" has 'structured packets' nbdinfo "$uri"
check "nbdinfo: block sizes" has 'block_size_minimum: 512' nbdinfo "$uri"
check "nbdinfo: 32 MiB payload" has 'block_size_maximum: 33554432' nbdinfo "$uri"
check "nbdinfo: several connections" has 'can_multi_conn: true' nbdinfo "$uri"
check "nbdinfo --json is JSON" sh -c "nbdinfo --json '$uri' | python3 -m json.tool"
check "nbdinfo --list" has 'export="mem"' nbdinfo --list "$uri"
check "nbdinfo --map of nothing" has '0 +8388608 +3 ' nbdinfo --map "$uri"
check "nbdinfo of an unknown name" sh -c "! nbdinfo 'nbd+unix:///nothing?socket=$sock'"
check "nbdcopy in" nbdcopy --flush "$TMP/src" "$uri"
check "nbdcopy out" nbdcopy "$uri" "$TMP/back"
check "the same bytes" sums "$TMP/src" "$TMP/back"
check "nbdinfo --map shows the hole" has '^ *[0-9]+ +[0-9]+ +3 ' nbdinfo --map "$uri"
check "nbdcopy, synchronous" nbdcopy --synchronous "$uri" "$TMP/back2"
check "the same bytes again" sums "$TMP/src" "$TMP/back2"
check "nbdcopy, many connections and requests" nbdcopy --connections=4 --requests=64 \
    --request-size=65536 "$TMP/src" "$uri"
check "nbdcopy, requests of 32 MiB" nbdcopy --request-size=33554432 "$uri" "$TMP/back3"
check "the same bytes once more" sums "$TMP/src" "$TMP/back3"
check "qemu-img convert out" qemu-img convert -f raw -O qcow2 "$uri" "$TMP/q.qcow2"
check "qemu-img compare" qemu-img compare -f raw -F qcow2 "$uri" "$TMP/q.qcow2"
check "qemu-img convert in" qemu-img convert -n -f raw -O raw -m 16 -W "$TMP/src" "$uri"
check "qemu-img compare with the source" qemu-img compare -f raw -F raw "$uri" "$TMP/src"
check "qemu-img map" has '"zero": true' qemu-img map -f raw --output=json "$uri"
check "qemu-io: patterns" io "$uri" -c 'write -P 17 1000 70000' -c 'read -P 17 1000 70000' \
    -c 'write -f -P 18 4096 4096' -c 'read -P 18 4096 4096' -c flush
check "qemu-io: write zeroes" io "$uri" -c 'write -P 17 0 128k' -c 'write -z 3k 9k' \
    -c 'read -P 0 3k 9k' -c 'read -P 17 0 3k' -c 'read -P 17 12k 1k' -c 'write -z -u 0 64k' \
    -c 'read -P 0 0 64k' -c 'read -P 17 64k 64k'
check "qemu-io: discard" io "$uri" -c 'discard 0 64k' -c 'read -P 17 64k 64k'
check "qemu-io: many at once" io "$uri" -c 'aio_write -P 1 0 1M' -c 'aio_write -P 2 1M 1M' \
    -c 'aio_write -z 2M 1M' -c 'aio_flush' -c 'read -P 1 0 1M' -c 'read -P 2 1M 1M' -c 'read -P 0 2M 1M'
check "fio, verified" sh -c "cd '$TMP' && fio --name=v --ioengine=nbd --uri='$uri' --rw=randwrite \
    --bsrange=512-64k --iodepth=32 --size=8M --verify=crc32c --verify_fatal=1 --minimal"
ends_well "SIGTERM: exit 0, socket gone"

# ---- a device of 4096-byte blocks, and a client that sends what it likes ----
serve 'mem:8M?block=4096' --threads 3
PYTHONPATH=$here python3 "$here/nbd_requests.py" "$sock" || failures=$((failures + 1))
ends_well "the server is still well"

# ---- devices that can do less, or take less ----
serve 'null:8M?block=1M&zeroes=on'
check "blocks over 64 KiB are advertised as 64 KiB" has 'block_size_minimum: 65536' nbdinfo "$uri"
check "and read" io "$uri" -c 'read -P 0 64k 192k'
ends_well "SIGTERM"

# ---- files, several exports, read-only ----
cp "$TMP/src" "$TMP/a.img"
mkdir "$TMP/sub"
truncate -s 4M "$TMP/sub/a.img"
serve "file:$TMP/a.img" "file:$TMP/sub/a.img" "mem:1M" --export "x y=mem:2M"
named() { echo "nbd+unix:///$1?socket=$sock"; }
check "the first is the default" has 'export-size: 8388608' nbdinfo "$uri"
check "files by their names" has 'export-size: 8388608' nbdinfo "$(named a.img)"
check "a second of the same name" has 'export-size: 4194304' nbdinfo "$(named a.img-2)"
check "others by their scheme" has 'export-size: 1048576' nbdinfo "$(named mem)"
check "a name of one's own" has 'export-size: 2097152' nbdinfo "$(named x%20y)"
check "nbdinfo --list --json lists four" sh -c \
    "nbdinfo --list --json '$uri' | python3 -c 'import json,sys; assert len(json.load(sys.stdin)[\"exports\"]) == 4'"
check "file: nbdcopy out" nbdcopy "$uri" "$TMP/back4"
check "file: the same bytes" sums "$TMP/src" "$TMP/back4"
check "file: nbdcopy from one export to another" nbdcopy "$(named a.img-2)" "$(named a.img)"
check "file: qemu-io" io "$(named a.img-2)" -c 'write -P 9 0 1M' -c flush -c 'read -P 9 0 1M' \
    -c 'write -z 100k 300k' -c 'read -P 0 100k 300k' -c 'discard 0 1M' -c 'write -f -P 3 77k 5k'
check "file: fio, verified" sh -c "cd '$TMP' && fio --name=v --ioengine=nbd --uri='$(named a.img-2)' --rw=randwrite \
    --bsrange=512-64k --iodepth=64 --size=4M --verify=crc32c --verify_fatal=1 --minimal"
ends_well "SIGTERM"
check "file: what was copied is there" cmp -n 4194304 "$TMP/a.img" /dev/zero
check "file: the rest is as it was" cmp -i 4194304 "$TMP/a.img" "$TMP/src"

cp "$TMP/src" "$TMP/r.img"
check_fails "--socket with --listen" 2 'not both' "$ASHLAR" serve nbd mem:1M --socket x --listen 127.0.0.1:1
start server "$ASHLAR" serve nbd --read-only "file:$TMP/r.img" --listen 127.0.0.1:0
wait_for grep -q '^listening on nbd://127.0.0.1:' "$TMP/server.out"
tcp=$(sed -n 's/^listening on //p' "$TMP/server.out")
check "TCP, read-only" has 'is_read_only: true' nbdinfo "$tcp"
check "read-only: reads" nbdcopy "$tcp" "$TMP/back5"
check "read-only: the same bytes" sums "$TMP/src" "$TMP/back5"
check "read-only: writes are refused" sh -c "! nbdcopy '$TMP/back' '$tcp'"
check "read-only: nothing was written" sums "$TMP/src" "$TMP/r.img"
ends_well "SIGTERM"

# ---- stats, and sockets that are in the way ----
start server "$ASHLAR" serve nbd stats,mem:1M --socket "$sock"
wait_for grep -q '^listening on' "$TMP/server.out"
check_fails "a live socket is not taken" 1 'another server' timeout 20 "$ASHLAR" serve nbd mem:1M --socket "$sock"
check "its server goes on" io "$uri" -c 'read 0 4k'
kill -INT "$(pid_of server)"
wait_for grep -q . "$TMP/server.err"
if stop server; then pass "SIGINT ends it too"; else fail "SIGINT ends it too" "$?"; fi
check "stats at the end" grep -q '^mem: .*read' "$TMP/server.err"
python3 -c "import socket,sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1])" "$sock"
start server "$ASHLAR" serve nbd mem:1M --socket "$sock"
wait_for grep -q '^listening on' "$TMP/server.out"
check "a dead socket is replaced" has 'export-size' nbdinfo "$uri"
ends_well "SIGTERM"
echo precious >"$sock"
check_fails "a file is not" 1 'no socket' timeout 20 "$ASHLAR" serve nbd mem:1M --socket "$sock"
check "and is still there" grep -q precious "$sock"

# ---- words ----
check_fails "nothing to serve" 2 'missing operand' "$ASHLAR" serve nbd
check_fails "a device that is none" 2 'block' "$ASHLAR" serve nbd 'mem:1M?block=3'
check_fails "--export without a name" 2 'NAME=DEVICE' "$ASHLAR" serve nbd --export =mem:1M
check_fails "two of one name" 2 "name 'a'" "$ASHLAR" serve nbd --export a=mem:1M --export a=mem:1M
check_fails "--threads 0" 2 'from 1 to 256' "$ASHLAR" serve nbd mem:1M --threads 0
check_fails "--require-tls alone" 2 'tls-cert' "$ASHLAR" serve nbd mem:1M --require-tls
check_fails "a bad address" 1 '127.0.0.1:10809' "$ASHLAR" serve nbd mem:1M --listen 10809
finish
