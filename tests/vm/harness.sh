#!/usr/bin/env bash
# tests/vm/run: output, exit code, time limit, modules, disks, and that nothing stays.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../integration/lib.sh"
export TMPDIR=$TMP/work
mkdir "$TMPDIR"
vm() { "$here/run" "$@"; }
# Lines of the last guest's output.
said() { grep -qxE -- "$1" "$TMP/out"; }
guest() { # is there one of this test?
    local file
    for file in /proc/[0-9]*/cmdline; do
        tr '\0' ' ' <"$file" | grep -q "^qemu-system.*$TMPDIR" && return
    done 2>/dev/null
    return 1
}
no_guest() { ! guest; }
nothing_left() { no_guest && [ -z "$(ls -A "$TMPDIR")" ]; }

check_fails "no commands" 2 'which commands' vm
check_fails "an unknown option" 2 'no option --frob' vm --frob 1 true
check_fails "an option without its value" 2 'needs a value' vm -c
check_fails "not a number" 2 'not a number' vm -c 0 true
check_fails "an unknown acceleration" 2 'kvm or tcg' vm --accel hvf true
check "help" sh -c "'$here/run' --help | grep -q usage"

if ! vm --fetch 2>"$TMP/fetch"; then
    skip "guests" "no kernel: $(tail -n 1 "$TMP/fetch")"
    finish
fi
check "it is in the cache, no other fetch" env PATH="/usr/bin:/bin" APT_CONFIG=/dev/null "$here/run" --fetch
check "an acceleration is found" sh -c "'$here/run' --accel-words | grep -qE '^-accel (kvm|tcg) -cpu '"

# One guest for all that can be asked in one.
truncate -s 64M "$TMP/disk"
printf 'hello from here' | dd of="$TMP/disk" conv=notrunc bs=1M seek=1 status=none
echo before >"$TMP/file"
cd "$TMP" || exit 1
printf 'first\nsecond\n' | timeout 200 "$here/run" -i -c 2 -m null_blk,ublk_drv --log "$TMP/log" \
    -d driver=null-co,size=1G,read-zeroes=off -d "file=$TMP/disk,format=raw" -- '
    echo "kernel $(uname -r)"
    echo "user $(id -u)"
    echo "folder $(pwd)"
    echo "file $(cat file)"
    echo after >file && echo "file $(cat file)"
    echo "cpus $(nproc)"
    echo "vda $(blockdev --getsize64 /dev/vda)"
    echo "vdb $(blockdev --getsize64 /dev/vdb)"
    echo "data $(dd if=/dev/vdb bs=1M skip=1 count=1 status=none | head -c 15)"
    printf "written there" | dd of=/dev/vdb bs=1M seek=2 conv=notrunc,fsync status=none
    [ -b /dev/nullb0 ] && echo "null_blk is there"
    [ -c /dev/ublk-control ] && echo "ublk is there"
    "'"$ASHLAR"'" info mem:1M >/dev/null && echo "ashlar runs"
    echo "lo $(cat /sys/class/net/lo/flags)"
    seq 200000 | tail -n 1
    head -c 3000000 /dev/zero | tr "\0" x; echo
    mapfile -t lines; echo "input ${#lines[@]} ${lines[1]}"
    echo complaint >&2
    exit 42
' >"$TMP/out" 2>"$TMP/err"
check "the exit code of the commands" test $? -eq 42
for line in 'kernel 6\.12\..*' 'user 0' "folder $TMP" 'file before' 'file after' 'cpus 2' \
    'vda 1073741824' 'vdb 67108864' 'data hello from here' 'null_blk is there' 'ublk is there' \
    'ashlar runs' 'lo 0x9' '200000' 'x{3000000}' 'input 2 second'; do
    case $line in
    x*) check "3 MB of output come whole" test "$(grep -c '^x*$' "$TMP/out")-$(grep '^x' "$TMP/out" | wc -c)" = 1-3000001 ;;
    *) check "in the guest: $line" said "$line" ;;
    esac
done
check "no other line of output" test "$(grep -cvE '^(kernel|user|folder|file|cpus|vda|vdb|data|null_blk|ublk|ashlar|lo|200000|x|input)' "$TMP/out")" -eq 0
check "errors apart, and they alone" test "$(cat "$TMP/err")" = complaint
check "the kernel's log in the file" grep -q 'Linux version 6\.12' "$TMP/log"
check "our files are as before" test "$(cat "$TMP/file")" = before
check "a disk was written" test "$(dd if="$TMP/disk" bs=1M skip=2 count=1 status=none | head -c 13)" = "written there"
check "nothing stays" nothing_left

# Two at once; a time limit; a death; signals.
start one "$here/run" 'sleep 1; echo one'
start two "$here/run" 'sleep 1; echo two'
for name in one two; do
    wait "$(pid_of $name)"
    check "two at once: $name" test "$?-$(cat "$TMP/$name.out")" = "0-$name"
done
check_fails "the time limit" 124 'after 15 seconds' timeout 60 "$here/run" -t 15 'sleep 1000'
check_fails "a panic" 125 'the guest died' timeout 120 "$here/run" -t 100 'echo c >/proc/sysrq-trigger; sleep 100'
check_fails "a module that is not there" 125 'no module frobnicate' vm -m frobnicate true
check_fails "a disk that is not there" 125 'no-such-file' vm -d file="$TMP/no-such-file" true
check_fails "killed by a signal inside" 137 '^$' timeout 60 "$here/run" 'kill -9 $$'
start killed "$here/run" 'sleep 1000'
wait_for guest
kill "$(pid_of killed)"
wait "$(pid_of killed)"
check "it ends with a signal" test $? -eq 143
check "and nothing stays" nothing_left
start lost "$here/run" 'sleep 1000'
wait_for guest
kill -KILL "$(pid_of lost)"
check "killed, it takes the guest with it" wait_for no_guest
finish
