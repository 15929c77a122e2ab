#!/usr/bin/env bash
# What must be true of the image itself: size, rights, instructions; and of its start.
. "$(dirname "$0")/lib.sh"
need_image
size=$(stat -c %s "$ASHLAR_IMAGE")
check "the image is under 600 KiB ($((size / 1024)) KiB)" test "$size" -lt 614400
check "it is stripped" test -z "$(nm "$ASHLAR_IMAGE" 2>/dev/null)"
check "no segment is writable and executable" \
    test -z "$(readelf -lW "$ASHLAR_IMAGE" | grep -E 'LOAD.*RWE')"
# Vector and floating-point registers belong to programs; only saving and loading them is allowed.
bad=$(objdump -d --no-show-raw-insn "$ASHLAR_IMAGE" | grep -cE '%[xyz]mm[0-9]|%st\b|%mm[0-7]')
check "no vector or floating-point instruction ($bad)" test "$bad" = 0

machine m -m 32M
check_prompt "32 MiB of memory are enough" m
ready=$(sed -n 's/^Ready after \([0-9.]*\) ms.*/\1/p' <<<"$out")
check "it tells how long it took: $ready ms" test -n "$ready"
send m poweroff
check_end "it ends" m 0
truncate -s 40M "$TMP/disk.img"
machine m -m 32M -drive "file=$TMP/disk.img,format=raw,if=virtio"
prompt m
check_run "a disk in 32 MiB" m "blktest; blkperf" '^All tests passed' '^Throughput'
check_run "too much memory is refused" m "bench vda --bs 4M --depth 32 --rw read --count 1" 'memory'
check_run "and all goes on" m "blktest" '^All tests passed'
send m poweroff
check_end "it ends" m 0
for cpu in qemu64 max "max,-rdrand,-rdseed" "max,-x2apic,-tsc-deadline"; do
    machine m -cpu "$cpu"
    check_prompt "processor $cpu" m
    send m poweroff
    check_end "it ends" m 0
done
finish
