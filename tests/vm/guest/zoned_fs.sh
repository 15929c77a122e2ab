. "$(dirname "$0")/zoned_lib.sh"
for module in ublk_drv btrfs f2fs zonefs; do modprobe $module; done
tree=$(cd "$(dirname "$0")/../../.." && pwd)
cd "$TMP" || exit 1
mkdir mnt
sums() { (cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum); }
sums "$tree/src" >want

# The device anew, behind stats; as it was.
begin() { # OPTIONS OF ZNS
    rm -f disk && truncate -s 600M disk
    start server "$ASHLAR" serve ublk --foreground --recover queue "stats,zns?$1,file:disk?block=4096"
    wait_for grep -q /dev/ublkb0 server.out
}
again() {
    start server "$ASHLAR" serve ublk --foreground --recover queue stats,zns,file:disk?block=4096
    wait_for grep -q /dev/ublkb0 server.out
}
end() {
    stop server || fail "the server ends well" "$(tail -n 3 server.err)"
    cat server.out server.err >counts
}
count() { sed -n "s/.*stats: $1: \([0-9]*\) operations.*/\1/p" counts; }

filesystem() { # NAME OPTIONS MKFS FSCK...
    local name=$1 options=$2 mkfs=$3 i
    shift 3
    fill() { dd if=/dev/urandom of=mnt/large bs=1M count=96 conv=fsync status=none; }
    begin "$options"
    check "$name: made" $mkfs /dev/ublkb0
    check "$name: mounted" mount -t "$name" /dev/ublkb0 mnt
    cp -r "$tree/src" mnt/
    fill
    sha256sum mnt/large >large
    kill -9 "$(pid_of server)"
    check "$name: the server is killed and the device recovered while it is mounted" "$ASHLAR" ublk recover 0
    rm -r mnt/src
    cp -r "$tree/src" mnt/ && sync -f mnt
    check "$name: unmounted" umount mnt
    check "$name: checked" "$@" /dev/ublkb0
    check "$name: the server ends" "$ASHLAR" ublk del 0
    again
    check "$name: mounted again" mount -t "$name" /dev/ublkb0 mnt
    sums mnt/src >got
    check "$name: all files are the same" cmp want got
    check "$name: the large one too" sha256sum -c large
    # Zones are used again and again. (btrfs resets those that hold nothing any more when it has time
    # for it, or is told to.)
    for i in 1 2 3 4; do
        rm mnt/large && sync -f mnt
        [ "$name" != btrfs ] || btrfs -q balance start -dusage=0 mnt
        fill || fail "$name: written, round $i" "dd failed"
    done
    check "$name: unmounted again" umount mnt
    end
    check "$name: no operation failed" test "$(grep -c ' 0 errors' counts)" = "$(grep -c ' errors' counts)"
}

filesystem btrfs 'zone=4M&cap=3M&max_active=24' "mkfs.btrfs -qf -O zoned" btrfs check
check "btrfs: its data came by zone append ($(count zone-append))" test "$(count zone-append)" -gt 100
check "btrfs: zones were reset ($(count zone-reset))" test "$(count zone-reset)" -gt 10
filesystem f2fs 'zone=4M&conventional=24&max_active=16' "mkfs.f2fs -qfm" fsck.f2fs
check "f2fs: zones were reset ($(count zone-reset))" test "$(count zone-reset)" -gt 10

# zonefs: a zone is a file. Debian 12 has no mkzonefs; all that it would write is one block.
make_zonefs() { # FEATURES
    python3 - "$1" <<'PYTHON' | dd of=/dev/ublkb0 bs=4096 count=1 oflag=direct status=none
import struct, sys, zlib
block = struct.pack("<4sI64s16sQIII", b"SFOZ", 0, b"ashlar", b"0123456789abcdef", int(sys.argv[1]), 0, 0, 0o640)
block = block.ljust(4096, b"\0")
sum = zlib.crc32(block) ^ 0xffffffff
sys.stdout.buffer.write(block[:4] + struct.pack("<I", sum) + block[8:])
PYTHON
}
begin 'zone=4M&cap=3M&max_open=6&max_active=8&conventional=3'
check "zonefs: made" make_zonefs 0
check "zonefs: mounted" mount -t zonefs -o explicit-open /dev/ublkb0 mnt
check "zonefs: conventional zones" test "$(ls mnt/cnv | wc -l)" = 2
check "zonefs: sequential zones" test "$(ls mnt/seq | wc -l)" = "$(($(queue 0 nr_zones) - 3))"
check "zonefs: a file may have what its zone has" test "$(stat -c %b mnt/seq/0)" = 6144
head -c 3M /dev/urandom >data
check "zonefs: written to its end" dd if=data of=mnt/seq/0 bs=64k oflag=direct,append conv=notrunc status=none
check_fails "zonefs: no more" 1 'File too large' dd if=data of=mnt/seq/0 bs=4k count=1 oflag=direct,append conv=notrunc
check "zonefs: written in part" dd if=data of=mnt/seq/7 bs=4k count=10 oflag=direct,append conv=notrunc status=none
check "zonefs: and on" dd if=data of=mnt/seq/7 bs=4k count=5 oflag=direct,append conv=notrunc status=none
check "zonefs: read" cmp data mnt/seq/0
check "zonefs: unmounted" umount mnt
end
again
check "zonefs: mounted again" mount -t zonefs /dev/ublkb0 mnt
check "zonefs: sizes are as they were" test "$(stat -c %s mnt/seq/0)-$(stat -c %s mnt/seq/7)-$(stat -c %s mnt/seq/8)" = 3145728-61440-0
check "zonefs: so is the data" cmp data mnt/seq/0
check "zonefs: a zone is reset" truncate -s 0 mnt/seq/0
check "zonefs: a zone is finished" truncate -s 3M mnt/seq/7
check "zonefs: written anew" dd if=data of=mnt/seq/0 bs=1M count=1 oflag=direct,append conv=notrunc status=none
check "zonefs: unmounted again" umount mnt
check "zonefs: what zones it left" test "$(blkzone report -o $((3 * 8192)) -c 8 /dev/ublkb0 | grep -c '(fu)')" = 1
end
check "zonefs: it opened, finished and reset zones" test "$(count zone-finish)-$(count zone-reset)" = 1-1
finish
