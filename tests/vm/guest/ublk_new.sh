. "$(dirname "$0")/ublk_lib.sh"
modprobe ublk_drv
modprobe ext4
modprobe loop
cd "$TMP" || exit 1
echo "kernel $(uname -r)"
# Zero copy needs direct I/O or a page cache, not tmpfs: a disk on a loop device.
truncate -s 512M backing
loop=$(losetup --show -f backing)
mkfs.ext4 -qF "$loop"
mkdir disk mnt
mount "$loop" disk
head -c 64M /dev/urandom >data

verify() { # WHAT WORDS...
    local what=$1
    shift
    check "$what" timeout 300 fio --name="$what" --filename=/dev/ublkb0 --direct=1 \
        --ioengine=libaio --verify=crc32c --verify_fatal=1 --verify_dump=0 --minimal \
        --output=/dev/null --rw=randwrite --bsrange=4k-512k --iodepth=64 --norandommap \
        --serialize_overlap=1 --size=64m --fsync=100 --time_based --runtime=5 --verify_backlog=256 "$@"
}

cp data disk/image
for spec in file:disk/image?direct=on file:disk/image stats,file:disk/image; do
    serve "$spec" >/dev/null
    check "$spec: zero copy by itself" test "$(value 0 mode)" = zero-copy
    check "$spec: buffers register themselves" sh -c "'$ASHLAR' ublk info 0 | grep -q AUTO_BUF_REG"
    check "$spec: read" cmp data /dev/ublkb0
    dd if=data of=/dev/ublkb0 bs=1M oflag=direct status=none
    check "$spec: written" cmp data disk/image
    check "$spec: read in pieces" sh -c "dd if=/dev/ublkb0 bs=28k iflag=direct status=none | cmp data -"
    verify "$spec: scattered, overlapping"
    check "$spec: zeroes" blkdiscard -z -o 1M -l 1M /dev/ublkb0
    check "$spec: are zeroes" cmp -n 1048576 -i 1048576:0 /dev/ublkb0 /dev/zero
    "$ASHLAR" ublk del 0
    cp data disk/image
done
serve "slice?offset=1M&size=32M,file:disk/image" >/dev/null
check "a slice: zero copy" test "$(value 0 mode)" = zero-copy
check "a slice: read" cmp -n 33554432 -i 1048576:0 data /dev/ublkb0
"$ASHLAR" ublk del 0
serve "cache?size=8M,file:disk/image" >/dev/null
check "a cache looks at data: no zero copy" test "$(value 0 mode)" = copy
"$ASHLAR" ublk del 0
head -c 16M data >/dev/shm/file
serve file:/dev/shm/file >/dev/null
check "a file on tmpfs: no zero copy" test "$(value 0 mode)" = copy
check "a file on tmpfs: read" cmp -n 16777216 data /dev/ublkb0
"$ASHLAR" ublk del 0
check_fails "nor when asked" 2 'not on tmpfs' "$ASHLAR" serve ublk file:/dev/shm/file --mode zero-copy
serve mem:64M >/dev/null
check "nor memory" test "$(value 0 mode)" = copy
"$ASHLAR" ublk del 0
check_fails "nor when asked" 2 'zero copy is only for file' "$ASHLAR" serve ublk mem:64M --mode zero-copy
for mode in copy get-data user-copy; do
    serve "file:disk/image" --mode $mode >/dev/null
    check "$mode is still there" test "$(value 0 mode)" = $mode
    verify "$mode: scattered, overlapping"
    "$ASHLAR" ublk del 0
done
serve "fault?op=read&offset=8M,mem:16M" >/dev/null
check_fails "errors" 1 'Input/output error' dd if=/dev/ublkb0 of=/dev/null bs=4096 skip=2048 iflag=direct
"$ASHLAR" ublk del 0

# Recovery.
cp data disk/image
serve file:disk/image?direct=on --recover reissue >/dev/null
fio --name=recovered --filename=/dev/ublkb0 --direct=1 --ioengine=libaio --verify=crc32c \
    --verify_fatal=1 --verify_dump=0 --minimal --output=/dev/null --rw=randwrite --bsrange=4k-64k \
    --iodepth=64 --norandommap --serialize_overlap=1 --size=64m --time_based --runtime=15 \
    --verify_backlog=256 2>fio.said &
times=0
sleep 2
for ((i = 0; i < 3; i++)); do
    kill -9 "$(server 0)"
    "$ASHLAR" ublk recover 0 >/dev/null && times=$((times + 1))
    sleep 1
done
kill -9 "$(server 0)"
check_fails "not with a device that has no zero copy" 1 'cannot do zero copy' "$ASHLAR" ublk recover 0 mem:64M
check "but then with the right one" "$ASHLAR" ublk recover 0
check "zero copy, killed and recovered three times" test $times = 3
check "it is zero copy again" test "$(value 0 mode)" = zero-copy
wait %1
check "no write was lost" test $? -eq 0
"$ASHLAR" ublk del 0

# Zero copy as in Linux 6.15: the server registers each buffer by itself.
export ASHLAR_UBLK_NO_AUTO=1
cp data disk/image
serve file:disk/image?direct=on --mode zero-copy >/dev/null
check "by hand: buffers do not register themselves" sh -c "! '$ASHLAR' ublk info 0 | grep -q AUTO_BUF_REG"
check "by hand: read" cmp data /dev/ublkb0
dd if=data of=/dev/ublkb0 bs=1M oflag=direct status=none
check "by hand: written" cmp data disk/image
verify "by hand: scattered, overlapping"
"$ASHLAR" ublk del 0
unset ASHLAR_UBLK_NO_AUTO
serve mem:64M --recover fail >/dev/null
kill -9 "$(server 0)"
wait_for sh -c "'$ASHLAR' ublk list | grep -q fail-io"
check_fails "until recovery requests fail" 1 'I/O error|Input/output error' timeout 60 dd if=/dev/ublkb0 of=/dev/null bs=4096 count=1 iflag=direct
check "recovered" "$ASHLAR" ublk recover 0
check "requests succeed again" dd if=/dev/ublkb0 of=/dev/null bs=4096 count=1 iflag=direct

# Size.
check "smaller" "$ASHLAR" ublk resize 0 32M
check "is smaller" test "$(blockdev --getsize64 /dev/ublkb0)" = 33554432
check "larger again" "$ASHLAR" ublk resize 0 64M
check "is larger" test "$(blockdev --getsize64 /dev/ublkb0)" = 67108864
check_fails "not half a block" 1 'multiple of the block size' "$ASHLAR" ublk resize 0 1000001
"$ASHLAR" ublk del 0
check "nothing is left" no_nodes
umount disk
losetup -d "$loop"
finish
