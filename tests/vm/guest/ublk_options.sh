. "$(dirname "$0")/ublk_lib.sh"
cd "$TMP" || exit 1
head -c 16M /dev/urandom >data

# Without the module, and without rights.
modprobe -r ublk_drv 2>/dev/null
check_fails "no module" 1 'modprobe ublk_drv' "$ASHLAR" serve ublk null:1G
check_fails "no module, list of features" 1 'modprobe ublk_drv' "$ASHLAR" ublk features
check "no module: an empty list" test -z "$("$ASHLAR" ublk list)"
modprobe ublk_drv
check_fails "a user who is not root" 1 'root.*CAP_SYS_ADMIN.*docs/ublk.md' \
    setpriv --reuid 1000 --regid 1000 --clear-groups "$ASHLAR" serve ublk null:1G
chmod 666 /dev/ublk-control
check_fails "root without CAP_SYS_ADMIN" 1 'CAP_SYS_ADMIN' \
    setpriv --bounding-set -sys_admin --inh-caps -sys_admin "$ASHLAR" serve ublk null:1G

check "features" sh -c "'$ASHLAR' ublk features | grep -qx USER_COPY"
check "features, JSON" sh -c "'$ASHLAR' ublk features --json | python3 -c '
import json, sys
o = json.load(sys.stdin)
assert \"USER_RECOVERY\" in o[\"features\"] and o[\"bits\"] & 1 << 7'"

# What cannot be.
check_fails "no such file" 1 'no such file' "$ASHLAR" serve ublk file:none
check_fails "a bad spec" 2 'unknown' "$ASHLAR" serve ublk nonsense:1
check_fails "queues" 2 'queues must be from 1' "$ASHLAR" serve ublk null:1G --queues 0
check_fails "depth" 2 'depth must be from 1' "$ASHLAR" serve ublk null:1G --depth 5000
check_fails "largest request" 2 'from 4K to 32M' "$ASHLAR" serve ublk null:1G --max-io 5000
check_fails "block size" 2 '512, 1024, 2048 or 4096' "$ASHLAR" serve ublk null:1G --block-size 700
check_fails "a block size below the device's" 2 '512 is less' \
    "$ASHLAR" serve ublk 'file:data?block=4096' --block-size 512
check_fails "mode" 2 'one of auto, copy' "$ASHLAR" serve ublk null:1G --mode fast
check_fails "a name like a number" 2 'starts with no digit' "$ASHLAR" serve ublk null:1G --name 1a
check_fails "more memory than there is" 2 'MiB of memory' \
    "$ASHLAR" serve ublk null:1G --depth 4096 --max-io 32M
check_fails "unprivileged as root" 2 'without CAP_SYS_ADMIN' "$ASHLAR" serve ublk null:1G --unprivileged
check "nothing is left of all that" no_nodes

# Defaults.
truncate -s 64M disk
path=$(serve file:disk)
check "its path" test "$path" = /dev/ublkb0
check "the device is there" test -b /dev/ublkb0
check "its size" test "$(blockdev --getsize64 /dev/ublkb0)" -eq 67108864
check "its blocks" test "$(blockdev --getss --getpbsz /dev/ublkb0 | tr '\n' ' ')" = '512 4096 '
check "write cache" test "$(queue 0 write_cache)" = 'write back'
check "FUA" test "$(queue 0 fua)" = 1
check "not rotational" test "$(queue 0 rotational)" = 0
check "discard" test "$(queue 0 discard_granularity)" = 4096
check "discard, the limit" test "$(queue 0 discard_max_bytes)" = 1073741824
check "write-zeroes" test "$(queue 0 write_zeroes_max_bytes)" = 1073741824
check "largest request" test "$(queue 0 max_hw_sectors_kb)" = 256
check "writable" test "$(blockdev --getro /dev/ublkb0)" = 0
check "a queue for each processor" test "$(ls /sys/block/ublkb0/mq | wc -l)" = 2
check "depth" test "$(cat /sys/block/ublkb0/mq/0/nr_tags)" = 128
check "list" sh -c "'$ASHLAR' ublk list | grep -qE '^ *0  live +64 MiB +[0-9]+  - +file:disk$'"
check "list -v" sh -c "'$ASHLAR' ublk list -v | grep -qE '^spec +file:disk$'"
check "list --json" sh -c "'$ASHLAR' ublk list --json | python3 -c '
import json, sys
d, = json.load(sys.stdin)
assert d[\"id\"] == 0 and d[\"spec\"] == \"file:disk\" and d[\"size\"] == 64 << 20, d
assert d[\"state\"] == \"live\" and d[\"mode\"] == \"copy\" and d[\"recovery\"] == \"none\", d
assert d[\"block_size\"] == 512 and d[\"volatile_cache\"] and not d[\"read_only\"], d'"
check "info" sh -c "'$ASHLAR' ublk info 0 | grep -qE '^queues +2 of depth 128$'"
check "its server is told" grep -qz 'serve' "/proc/$(server 0)/cmdline"
dd if=data of=/dev/ublkb0 bs=1M oflag=direct status=none
check "data goes to the file" cmp -n 16777216 data disk
check "data comes from it" cmp -n 16777216 data /dev/ublkb0
blkdiscard /dev/ublkb0
check "a discard frees the file's space" test "$(du -k disk | cut -f 1)" -lt 1024
printf 'not zero' | dd of=/dev/ublkb0 conv=notrunc status=none bs=4096 seek=3 oflag=sync
check "zeroes, kept allocated" blkdiscard -z -o 8192 -l 16384 /dev/ublkb0
check "are zeroes" cmp -n 16384 -i 8192:0 /dev/ublkb0 /dev/zero
check "and allocated" test "$(du -k disk | cut -f 1)" -ge 16
check "zeroes by a hole" fallocate -p -o 0 -l 1M /dev/ublkb0
pid=$(server 0)
check "del" "$ASHLAR" ublk del 0
check "nothing is left" no_nodes
check "the server ends" wait_for gone "$pid"
check "no record is left" wait_for sh -c '! ls /run/ashlar/ublk/* 2>/dev/null'

# Options.
check "id" test "$(serve null:1G --id 7)" = /dev/ublkb7
check_fails "the id is taken" 1 'ublkb7 is there already' "$ASHLAR" serve ublk null:1G --id 7
check "one queue" sh -c "'$ASHLAR' serve ublk null:1G --id 8 --queues 1 --depth 16 --block-size 4096 --max-io 64K --name second >/dev/null && [ \$(ls /sys/block/ublkb8/mq | wc -l) = 1 ]"
check "two devices at once" test "$("$ASHLAR" ublk list | grep -c live)" = 2
check "depth 16" test "$(cat /sys/block/ublkb8/mq/0/nr_tags)" = 16
check "blocks of 4096" test "$(blockdev --getss /dev/ublkb8)" = 4096
check "requests of 64 KiB" test "$(queue 8 max_hw_sectors_kb)" = 64
check "info by name" sh -c "'$ASHLAR' ublk info second | grep -qE '^device +/dev/ublkb8$'"
check_fails "the name is taken" 1 "the name 'second' already" "$ASHLAR" serve ublk null:1G --name second
check_fails "no such name" 1 "has the name 'third'" "$ASHLAR" ublk info third
check_fails "no such number" 1 'there is no device 9' "$ASHLAR" ublk info 9
check_fails "resize of an old kernel" 1 'Linux 6.16' "$ASHLAR" ublk resize 8 512M
check_fails "recover of what lives" 1 'cannot be recovered' "$ASHLAR" ublk recover 8 null:1G
check_fails "del of nothing" 2 'which device' "$ASHLAR" ublk del
check_fails "del of what is not there" 1 'no device 9' "$ASHLAR" ublk del 9
check "del by name" "$ASHLAR" ublk del second
check "del --all" "$ASHLAR" ublk del --all
check "all are gone" no_nodes

cp data copy
serve file:copy --read-only >/dev/null
check "read-only" test "$(blockdev --getro /dev/ublkb0)" = 1
check_fails "a write is refused" 1 'not permitted|Read-only' dd if=/dev/zero of=/dev/ublkb0 bs=4096 count=1 oflag=direct
check "reads are not" cmp copy /dev/ublkb0
"$ASHLAR" ublk del 0
truncate -s 1000001 odd
serve 'file:odd' >/dev/null
check "a size of no whole blocks" test "$(blockdev --getsize64 /dev/ublkb0)" = 999936
"$ASHLAR" ublk del 0

for mode in copy get-data user-copy; do
    truncate -s 16M "$mode"
    serve "file:$mode" --mode $mode >/dev/null
    check "$mode is what the device has" test "$(value 0 mode)" = $mode
    dd if=data of=/dev/ublkb0 bs=1M oflag=direct conv=notrunc status=none
    check "$mode: written" cmp data $mode
    check "$mode: read" cmp data /dev/ublkb0
    check "$mode: read in pieces" sh -c "dd if=/dev/ublkb0 bs=7680 iflag=direct status=none | cmp data -"
    "$ASHLAR" ublk del 0
done
check_fails "zero copy, which this kernel has not" 1 'Linux 6.15' "$ASHLAR" serve ublk file:disk --mode zero-copy
check_fails "recovery that this kernel has not" 1 'USER_RECOVERY_FAIL_IO' "$ASHLAR" serve ublk file:disk --recover fail

# In the foreground.
start front "$ASHLAR" serve ublk stats,mem:16M --foreground
wait_for grep -q ublkb0 "$TMP/front.out"
check "its path, in the foreground" grep -qx /dev/ublkb0 "$TMP/front.out"
dd if=data of=/dev/ublkb0 bs=1M oflag=direct status=none
stop front
check "SIGTERM ends it well" test $? -eq 0
check "it reports what it counted" grep -q 'write' "$TMP/front.err"
check "and leaves nothing" no_nodes
start front "$ASHLAR" serve ublk mem:16M --foreground
wait_for grep -q ublkb0 "$TMP/front.out"
check "del from elsewhere" "$ASHLAR" ublk del 0
wait "$(pid_of front)"
check "ends it well, too" test $? -eq 0

# Starts that end half-way.
check_fails "a start that fails late" 1 'out of memory' strace -f -qq -o /dev/null \
    -e trace=eventfd2 -e inject=eventfd2:error=EMFILE "$ASHLAR" serve ublk mem:16M
check "leaves nothing" no_nodes
check_fails "queues that cannot be started" 1 'queue 0 cannot be started: Cannot allocate' timeout 60 \
    strace -f -qq -o /dev/null -e trace=io_uring_register \
    -e inject=io_uring_register:error=ENOMEM "$ASHLAR" serve ublk mem:16M
check "leave nothing" no_nodes
strace -f -qq -o /dev/null -e trace=eventfd2 -e inject=eventfd2:signal=SIGKILL \
    "$ASHLAR" serve ublk mem:16M >killed.out 2>killed.err
check "a start that is killed fails" grep -q 'ended by signal 9' killed.err
check "leaves nothing, too" wait_for no_nodes
strace -f -qq -o /dev/null -e trace=eventfd2 -e inject=eventfd2:signal=SIGKILL \
    "$ASHLAR" serve ublk mem:16M --foreground >killed.out 2>&1
check "nor in the foreground" wait_for no_nodes

# A program with a driver of its own.
start counter "$(dirname "$ASHLAR")/ublk_counter"
wait_for grep -q /dev/ublkb0 "$TMP/counter.out"
check "a program serves its own driver" test "$(od -A n -t u8 -j 1099511627000 -N 8 /dev/ublkb0 | tr -d ' ')" = 1099511627000
check "list shows it too" sh -c "'$ASHLAR' ublk list | grep -q live"
stop counter
check "SIGTERM ends it well, too" test $? -eq 0
check "nothing is left of it" no_nodes

# Records that are not ours, or broken.
serve mem:16M >/dev/null
for bad in '' '{' '[]' '{"id":0,"pid":-1,"read_only":false,"name":"","folder":"/","spec":"x"}' \
    '{"id":3,"pid":1,"read_only":false,"name":"","folder":"/","spec":"x"}' '{"id":0}' \
    '{"id":"0","pid":"1","read_only":0,"name":1,"folder":2,"spec":3}'; do
    printf '%s' "$bad" >/run/ashlar/ublk/0.json
    check "a broken record: ${bad:-empty}" sh -c "'$ASHLAR' ublk list | grep -qE '^ *0  live .* -$'"
done
head -c 1M /dev/zero | tr '\0' '[' >/run/ashlar/ublk/0.json
check "a record too long" sh -c "'$ASHLAR' ublk list | grep -qE '^ *0  live .* -$'"
rm /run/ashlar/ublk/0.json && mkfifo /run/ashlar/ublk/0.json
check "a record that is a pipe" timeout 20 "$ASHLAR" ublk list
check "the server still ends" "$ASHLAR" ublk del --all
rm -f /run/ashlar/ublk/0.json

finish
