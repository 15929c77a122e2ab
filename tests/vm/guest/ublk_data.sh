. "$(dirname "$0")/ublk_lib.sh"
modprobe ublk_drv
cd "$TMP" || exit 1
seconds=${SOAK:+300} seconds=${seconds:-5}

# fio verifies what it wrote: its complaint is the reason of a failure.
verify() { # WHAT WORDS...
    local what=$1
    shift
    check "$what" timeout $((seconds * 10 + 120)) fio --name="$what" --filename=/dev/ublkb0 --direct=1 \
        --ioengine=libaio --verify=crc32c --verify_fatal=1 --verify_dump=0 --minimal \
        --output=/dev/null "$@"
}
rss() { awk '/^VmRSS/ { print $2 }' "/proc/$1/status"; }

modes="copy get-data user-copy"
for mode in $modes; do
    truncate -s 256M disk
    serve file:disk --mode $mode --queues 2 --depth 128 >/dev/null
    check "$mode: blocks of 512 bytes to 1 MiB, scattered and overlapping, flushes and trims" \
        timeout $((seconds * 10 + 120)) fio --minimal --output=/dev/null --filename=/dev/ublkb0 \
        --direct=1 --ioengine=libaio --iodepth=128 --time_based --runtime=$seconds --fsync=50 \
        --randseed=$RANDOM --bsrange=512-1m --norandommap \
        --name=verified --size=192m --rw=randwrite --serialize_overlap=1 --verify=crc32c \
        --verify_fatal=1 --verify_dump=0 --verify_backlog=256 \
        --name=trimmed --offset=192m --size=64m --rw=randtrimwrite
    verify "$mode: two jobs, reads and writes mixed, depth 128" \
        --rw=randrw --bs=4k --iodepth=128 --numjobs=2 --size=64m --offset_increment=128m \
        --fsync=100 --time_based --runtime=$seconds --verify_backlog=512 --randseed=$RANDOM
    "$ASHLAR" ublk del 0
done

# Through other devices: requests that complete at once, late, elsewhere, and out of order.
truncate -s 64M small
for spec in mem:64M file:small?direct=on stats,file:small 'delay?read=200us&write=300us,mem:64M' \
    'cache?size=8M,file:small' 'slice?offset=1M&size=32M,file:small' psync:small; do
    serve "$spec" >disk_path || echo "not ok - $spec: $(cat disk_path)"
    verify "$spec" --rw=randwrite --bsrange=512-128k --iodepth=64 --size=24m --norandommap \
        --serialize_overlap=1 --randseed=$RANDOM
    "$ASHLAR" ublk del 0
done
start nbd "$ASHLAR" serve nbd mem:64M --socket "$TMP/sock"
wait_for test -S "$TMP/sock"
check "NBD as a disk" test "$(serve "nbd+unix:///?socket=$TMP/sock")" = /dev/ublkb0
verify "NBD" --rw=randwrite --bsrange=512-128k --iodepth=64 --size=24m --norandommap \
    --serialize_overlap=1
"$ASHLAR" ublk del 0
stop nbd

# Memory does not grow.
serve mem:64M >/dev/null
pid=$(server 0)
load() { fio --name=x --filename=/dev/ublkb0 --direct=1 --ioengine=libaio --rw=randrw --bs=4k --iodepth=64 --size=64m --loops="$1" --minimal --output=/dev/null; }
load 1
before=$(rss "$pid")
load 5
check "memory does not grow ($before KiB, then $(rss "$pid") KiB)" test "$(rss "$pid")" -le $((before + 256))
check "memory is locked" test "$(awk '/^VmLck/ { print $2 }' "/proc/$pid/status")" -gt 1000
check "threads: main, and one a queue" test "$(grep -L '^Name:.iou-' /proc/$pid/task/*/status | wc -l)" = 3
"$ASHLAR" ublk del 0

# Errors of the device reach the application as what they are.
errors() { # ERRNO PATTERN
    serve "fault?op=read&offset=8M&errno=$1,mem:16M" >/dev/null
    check_fails "$1 reaches the application" 1 "$2" dd if=/dev/ublkb0 of=/dev/null bs=4096 skip=2048 iflag=direct
    check "$1: what comes before is read" dd if=/dev/ublkb0 of=/dev/null bs=4096 count=2048 iflag=direct
    "$ASHLAR" ublk del 0
}
errors EIO 'Input/output error'
errors ENOSPC 'No space left'
errors ETIMEDOUT 'timed out'
errors ENODATA 'No data'
errors EAGAIN 'Input/output error'
serve "fault?op=write&offset=8M,mem:16M" >/dev/null
check_fails "a write that fails" 1 'Input/output error' dd if=/dev/zero of=/dev/ublkb0 bs=64k oflag=direct
"$ASHLAR" ublk del 0
serve "fault?op=flush&count=1,file:small" >/dev/null
check_fails "a flush that fails" 1 'Input/output error' dd if=/dev/zero of=/dev/ublkb0 bs=64k count=1 conv=fsync
"$ASHLAR" ublk del 0
serve "fault?op=discard,file:small" >/dev/null
check_fails "a discard that fails" 1 'Input/output error' blkdiscard /dev/ublkb0
"$ASHLAR" ublk del 0
check "nothing is left of all that" no_nodes

# Filesystems.
sums() { (cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum); }
tree=$(cd "$(dirname "$0")/../../.." && pwd)
mkdir mnt
sums "$tree/src" >want
filesystem() { # NAME MKFS FSCK...
    local name=$1 mkfs=$2
    shift 2
    modprobe "$name"
    rm -f disk && truncate -s 512M disk
    serve file:disk --recover reissue >/dev/null
    check "$name: made" $mkfs /dev/ublkb0
    check "$name: mounted" mount -t "$name" /dev/ublkb0 mnt
    cp -r "$tree/src" mnt/
    fstrim mnt || fail "$name: trimmed" "fstrim failed"
    check "$name: unmounted" umount mnt
    check "$name: checked" "$@" /dev/ublkb0
    "$ASHLAR" ublk del 0
    check "$name: served again" test "$(serve file:disk)" = /dev/ublkb0
    check "$name: mounted again" mount -t "$name" /dev/ublkb0 mnt
    sums mnt/src >got
    check "$name: all files are the same" cmp want got
    check "$name: unmounted again" umount mnt
    "$ASHLAR" ublk del 0
}
filesystem ext4 "mkfs.ext4 -qF" e2fsck -fn
filesystem xfs "mkfs.xfs -qf" xfs_repair -n
filesystem btrfs "mkfs.btrfs -qf" btrfs check
check "nothing is left" no_nodes
finish
