#!/usr/bin/env bash
# Disks that fail, are silent, may not be written, or are not there; input that is malformed.
. "$(dirname "$0")/lib.sh"
need_image

truncate -s 10M "$TMP/disk.img" "$TMP/other.img"

# QEMU's blkdebug: reads of one sector fail, once and always.
cat >"$TMP/debug.conf" <<END
[inject-error]
event = "read_aio"
sector = "800"
errno = "5"
once = "off"
END
machine m -drive "file=blkdebug:$TMP/debug.conf:$TMP/disk.img,format=raw,if=virtio,werror=report,rerror=report"
check_prompt "a failing disk: boots" m
check_run "an error is EIO" m "bench vda --rw read --bs 512 --offset 409600 --size 512 --count 1" \
    '(error|errno).*5|Input/output|EIO|-5'
check_run "the disk goes on" m "bench vda --rw read --bs 512 --size 4096 --count 8" 'read: [1-9]'
check_run "through the VFS too" m "cat /dev/vda" 'input or output failed'
check_run "blktest elsewhere" m blktest '^All tests passed!'
send m poweroff
check_end "it ends" m 0

# A device that does not answer in time: it is reported and reset, the request fails.
machine m -drive driver=null-co,size=64M,latency-ns=4000000000,if=none,id=d \
    -device virtio-blk-pci,drive=d
check_prompt "a silent disk: boots" m
for mode in poll interrupt auto; do
    check_run "a silent disk: $mode" m "bench vda?mode=$mode&timeout=500ms --rw read --count 1" \
        'vda: no answer for 500 ms; the device is reset' '5|EIO'
done
check_run "the disk goes on" m "bench vda --rw read --count 1" 'read: '
send m poweroff
check_end "it ends" m 0

machine m -drive "file=$TMP/disk.img,format=raw,if=virtio,readonly=on"
check_prompt "a read-only disk: boots" m
check_run "blkinfo tells" m blkinfo 'Read-only: yes'
check_run "blktest reads" m blktest 'The disk is read-only' '^All tests passed!'
check_run "a write is refused" m "bench vda --rw write --count 1" 'read-only|EROFS|30'
send m poweroff
check_end "it ends" m 0

machine m -drive "file=$TMP/disk.img,format=raw,if=virtio" \
    -drive "file=$TMP/other.img,format=raw,if=virtio"
check_prompt "two disks: boots" m
check_run "both are there" m blkdevs '^vda: ' '^vdb: '
check_run "the first" m "blktest vda" '^All tests passed!'
check_run "the second" m "blktest vdb" '^All tests passed!'
check_run "both at once" m "bench vda vdb --rw randwrite --depth 8 --count 200" '^vda: ' '^vdb: '
send m poweroff
check_end "it ends" m 0

# Writes reach the host's file.
boot b --device "$TMP/disk.img" --exec 'bench vda --verify fill --seed 9 --bs 4k'
check_end "a verified fill" b 0
check "the host finds every block" \
    "$ASHLAR" bench "file:$TMP/disk.img" --verify check --seed 9 --bs 4k

# Malformed: an initramfs, a mount table, a command line.
malformed() {
    local name=$1 file=$2 pattern=$3
    machine m -initrd "$file"
    check_prompt "$name: boots" m
    check_out "$name: a message" "$pattern"
    send m poweroff
    check_end "$name: ends" m 0
}
mkdir -p "$TMP/root/bin"
echo text >"$TMP/root/bin/file"
(cd "$TMP/root" && find . | cpio -o -H newc 2>/dev/null) >"$TMP/good.cpio"
head -c 300 /dev/urandom >"$TMP/random.cpio"
head -c 200 "$TMP/good.cpio" >"$TMP/cut.cpio"
gzip -c "$TMP/good.cpio" >"$TMP/good.cpio.gz"
sed 's/070701/07070x/' "$TMP/good.cpio" >"$TMP/magic.cpio"
malformed "random initramfs" "$TMP/random.cpio" '^error: initramfs: at byte 0: no cpio archive'
malformed "cut initramfs" "$TMP/cut.cpio" '^error: initramfs: at byte [0-9]+: a '
malformed "compressed initramfs" "$TMP/good.cpio.gz" '^error: initramfs: .*compressed'
malformed "initramfs of another kind" "$TMP/magic.cpio" '^error: initramfs: .*no cpio archive'

machine m -append 'vfs.fstab=[nonsense a:b none:/x:nofs none:/ok:ramfs:rw none:/w:ramfs:fast :::::: /]'
check_prompt "a malformed mount table: boots" m
check_out "entries that make no sense" "'nonsense...' is not source"
check_out "an unknown type" 'none at /x as nofs: error 19'
check_out "an unknown option" 'none at /w as ramfs: error 22'
check_run "the sound entry is mounted" m mount '^none on /ok type ramfs \(rw\)$'
send m poweroff
check_end "it ends" m 0
machine m -append 'exec="mem'
check_prompt "a quote without an end" m
send m poweroff
check_end "it ends" m 0
finish
