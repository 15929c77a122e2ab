#!/usr/bin/env bash
# 9P round trips, checked on the host; files in memory; raw disks through the VFS.
. "$(dirname "$0")/lib.sh"
need_image
command -v busybox >/dev/null || { skip "files" "busybox-static is not installed"; finish; }

mkdir -p "$TMP/share/sub" "$TMP/root/bin"
echo 'from the host' >"$TMP/share/a.txt"
head -c 3000000 /dev/urandom >"$TMP/share/sub/big"
for i in $(seq 1 300); do : >"$TMP/share/sub/file-with-a-rather-long-name-$i"; done
cp "$(command -v busybox)" "$TMP/root/bin/busybox"
(cd "$TMP/root" && find . | cpio -o -H newc 2>/dev/null) >"$TMP/root.cpio"
B='run /bin/busybox'

for type in q35 microvm; do
    rm -rf "$TMP/share/new"
    device=virtio-9p-pci
    [ $type = q35 ] || device=virtio-9p-device
    machine m -machine $type -m 256M -initrd "$TMP/root.cpio" \
        -fsdev "local,id=myfs,path=$TMP/share,security_model=none" \
        -device $device,fsdev=myfs,mount_tag=fs1 \
        -append "console=ttyS0 vfs.fstab=[fs1:/data:9pfs:rw]"
    check_prompt "$type: boots with a share" m
    check_run "$type: cat" m "cat /data/a.txt" '^from the host$'
    check_run "$type: ls" m "ls /data/sub" '^big$' '^file-with-a-rather-long-name-1$' \
        '^file-with-a-rather-long-name-300$'
    sum=$(sha256sum "$TMP/share/sub/big" | cut -d' ' -f1)
    check_run "$type: read" m "$B sha256sum /data/sub/big" "^$sum "
    check_run "$type: mkdir, cp, mv" m \
        "$B mkdir -p /data/new/x; $B cp /data/sub/big /data/new/copy; $B mv /data/new/copy /data/new/x/moved; $B ls /data/new/x" moved
    check "$type: the host has the copy" cmp "$TMP/share/sub/big" "$TMP/share/new/x/moved"
    check_run "$type: ln, rm, rmdir, truncate, chmod" m \
        "$B ln -s x/moved /data/new/link; $B mkdir /data/new/y; $B rmdir /data/new/y; $B truncate -s 1000 /data/new/x/moved; $B chmod 600 /data/new/x/moved; $B ls -l /data/new" 'link -> x/moved'
    check "$type: the host sees the link" test "$(readlink "$TMP/share/new/link")" = x/moved
    check "$type: the host sees the size" test "$(stat -c %s "$TMP/share/new/x/moved")" = 1000
    check "$type: the host sees the mode" test "$(stat -c %a "$TMP/share/new/x/moved")" = 600
    check "$type: the directory is gone" test ! -e "$TMP/share/new/y"
    check_run "$type: rm" m "$B rm /data/new/x/moved; ls /data/new" x
    check "$type: the file is gone" test ! -e "$TMP/share/new/x/moved"
    check_run "$type: statfs" m "$B stat -f /data" 'Namelen|Block size'
    check_run "$type: errors" m "cat /data/none; cat /data; $B rmdir /data/sub" \
        'there is no such file' 'a directory' 'not empty'
    check_run "$type: verified I/O on a file" m \
        "bench vfs:/data/new/img?create=4M --verify write --rw randwrite --bs 4k" \
        '1024 blocks checked, 0 damaged'
    check_run "$type: umount" m "umount /data; mount" '^none on /dev'
    check_run_not "$type: no fid is left" m "mount" '9pfs'
    send m poweroff
    check_end "$type: ends" m 0
done

machine m -m 256M -initrd "$TMP/root.cpio" \
    -fsdev "local,id=f,path=$TMP/share,security_model=none,readonly=on" \
    -device virtio-9p-pci,fsdev=f,mount_tag=ro -append "vfs.fstab=[ro:/ro:9pfs:ro]"
prompt m
check_run "a read-only share" m "$B touch /ro/x" 'Read-only file system'
check_run "a tag that is not there" m "mount none /tmp 9pfs" 'no such device'
check_run "verified I/O on ramfs" m \
    "bench vfs:/file?create=8M --verify write --rw randwrite --bs 4k" '2048 blocks checked, 0 damaged'
check_run "memory comes back" m "$B rm /file; mem" '^total'
send m poweroff
check_end "it ends" m 0

truncate -s 8M "$TMP/disk.img"
machine m -m 256M -initrd "$TMP/root.cpio" -drive "file=$TMP/disk.img,format=raw,if=virtio"
prompt m
check_run "a raw disk by a program" m \
    "$B dd if=/bin/busybox of=/dev/vda bs=1000 conv=fsync,notrunc; $B cmp -n 1000000 /bin/busybox /dev/vda" .
check "the host reads what was written" \
    cmp -n "$(stat -c %s "$TMP/root/bin/busybox")" "$TMP/root/bin/busybox" "$TMP/disk.img"
check_run "by system calls" m \
    "bench syscall:/dev/vda --verify write --rw randwrite --bs 4k --seed 3" '2048 blocks checked, 0 damaged'
check "the host verifies" "$ASHLAR" bench "file:$TMP/disk.img" --verify check --seed 3 --bs 4k
check_run "devices" m "$B dd if=/dev/zero of=/dev/null bs=1M count=3; $B dd if=/dev/zero of=/dev/full count=1" \
    '3\+0 records out' 'No space left'
check_run "random bytes differ" m "$B head -c 8 /dev/random | cat; $B hexdump -n 8 /dev/urandom" '0000000'
send m poweroff
check_end "it ends" m 0
finish
