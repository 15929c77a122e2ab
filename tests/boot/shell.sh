#!/usr/bin/env bash
# Every command of the shell, on a raw and a qcow2 disk; the lines that people start it with.
. "$(dirname "$0")/lib.sh"
need_image

qemu-img create -q -f qcow2 "$TMP/disk.qcow2" 1G
truncate -s 10M "$TMP/disk.img"
printf 'EMBO' | dd of="$TMP/disk.img" conv=notrunc status=none

for format in raw qcow2; do
    sectors=20480 file=$TMP/disk.img mb=10
    [ $format = raw ] || sectors=2097152 file=$TMP/disk.qcow2 mb=1024
    machine m -m 256M -drive "file=$file,format=$format,if=virtio"
    check_prompt "$format: boots" m
    check_out "$format: tells of the disk" "^  Capacity: $sectors sectors \\($mb MB\\)$"
    check_out "$format: registers it" "^Registered block device: vda \\($mb MB, $sectors sectors\\)$"
    check_run "$format: blkdevs" m blkdevs "^vda: $mb MB, $sectors sectors"
    check_run "$format: blktest" m blktest '^=== VirtIO Block Tests ===$' \
        '^Test 1: Read sector 0\.\.\. PASS$' '^Test 2: Read 8 sectors\.\.\. PASS \(read 4096 bytes\)$' \
        '^Test 3: Read sector 100\.\.\. PASS$' '^Test 4: Write sector 1000\.\.\. PASS$' \
        '^Test 5: Verify write\.\.\. PASS$' '^Test 10: Write zeroes\.\.\. PASS$' \
        '^Test 11: Discard\.\.\. PASS$' '^All tests passed!$'
    [ $format = qcow2 ] || check_out "raw: the first bytes" '^  Data: 45 4d 42 4f 00'
    check_run "$format: blkinfo" m "blkinfo vda" "Capacity: $sectors sectors" \
        'Sector size: 512 bytes' 'Read-only: no' 'Reads: [1-9]' 'Writes: [1-9]'
    check_run "$format: blkperf" m blkperf '^  10 MB read$' '^  50 MB read$' \
        '^Elapsed time: [0-9.]+ s$' '^Throughput: [0-9]+ MB/s$' '^(PASS|FAIL): '
    check_run "$format: blkperf of less" m "blkperf vda 3" '^Reading 3 MB'
    check_run "$format: bench" m "bench vda --rw randrw --depth 4 --count 200" 'read: ' 'write: '
    check_run "$format: bench --json" m "bench vda --rw read --bs 64k --count 20 --json" \
        '^BENCH \{"device":"vda","elapsed_ns":[0-9]+,"read":\{"count":20,"bytes":1310720,'
    check_run "$format: verify" m "bench vda --verify write --rw randwrite --size 4M --depth 8" \
        '1024 blocks checked, 0 damaged'
    send m poweroff
    check_end "$format: poweroff" m 0
done

machine m -m 256M
prompt m
check_run "help" m help '^  help ' '^  blktest \[DEVICE\]' '^  poweroff '
check_run "mem" m mem '^total [0-9]+ KiB, free [0-9]+ KiB'
check_run "cpus" m cpus '^cpu 0: '
check_run "ls" m "ls /dev" '^null$' '^console$'
check_run "ls -l" m "ls -l /" '^d[0-7]{3} .* dev$'
check_run "mount" m mount '^none on / type ramfs \(rw\)$'
check_run "mount another" m "mount none /tmp ramfs ro; mount" '^none on /tmp type ramfs \(ro\)$'
check_run "umount" m "umount /tmp; mount" '^none on /dev'
check_run_not "it is gone" m "mount" 'on /tmp'
check_run "no disk: blkdevs" m blkdevs '^no block devices$'
check_run "no disk: blktest" m blktest 'no device or scheme .vda.'
check_run "an unknown command" m "nonsense" 'there is no such command'
check_run "an open quote" m "ls 'a" 'a quote is open'
check_run "a wrong option" m "bench null:1G --nonsense 3" 'there is no such option'
check_run "a wrong value" m "bench null:1G --depth many" 'not a value'
check_run "a filter" m "bench delay?read=1ms,null:1G --rw read --count 20" 'mean 1\.'
check_run "another device" m "blktest mem:1M" '^All tests passed!'
# Editing: Ctrl-U, arrows, Backspace, history.
send m $'garbage\x15mem'
expect m '^total'
prompt m
send m $'xcpus\x1b[D\x1b[D\x1b[D\x1b[D\x7f'
expect m '^cpu 0'
prompt m
send m $'\x1b[A'
expect m '^cpu 0'
check "history" test $? = 0
prompt m
check_run "Ctrl-C leaves a line" m $'nonsense\x03mem' '^total'
send m "poweroff 5"
check_end "a status" m 11

machine m -no-reboot
prompt m
send m reboot
check_end "reboot" m 0
boot b --exec 'mem; cpus'
check_end "exec" b 0
boot b --exec 'mem; nonsense; cpus'
check_end "exec: the status of what failed" b 127
check_out "exec: it goes on" '^cpu 0'
boot b --cpus 2 --device "$TMP/disk.img" --exec 'blktest vda'
check_end "blktest by exec" b 0

# As in the manual.
machine m -m 2G -drive "file=$TMP/disk.img,format=raw,if=virtio"
check_prompt "the first line of users, 2 GB" m
send m poweroff
check_end "it ends" m 0
finish
