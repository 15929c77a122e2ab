#!/usr/bin/env bash
# Every machine type, every transport of virtio, one and two processors: the disk tests pass, the
# disk is as it was, and the machine turns off by itself.
. "$(dirname "$0")/lib.sh"
need_image

truncate -s 10M "$TMP/disk.img"
dd if=/dev/urandom of="$TMP/disk.img" bs=1M count=10 conv=notrunc status=none
before=$(sha256sum <"$TMP/disk.img")
drive="file=$TMP/disk.img,format=raw,if=none,id=d"

# NAME WHERE-PATTERN QEMU-ARG...
try() {
    local name=$1 where=$2
    shift 2
    machine m -drive "$drive" "$@"
    check_prompt "$name: boots" m
    check_out "$name: finds the disk" "^VirtIO block device at $where"
    check_run "$name: blktest" m "blktest vda" '^All tests passed!'
    check_run "$name: verify by interrupt" m \
        "bench vda?mode=interrupt --rw randread --bs 4k --depth 8 --count 400" 'read: [1-9]'
    send m poweroff
    check_end "$name: turns off" m 0
    check "$name: the disk is as it was" test "$before" = "$(sha256sum <"$TMP/disk.img")"
}

for cpus in 1 2; do
    for type in pc q35; do
        try "$type, $cpus cpus, transitional" 'BAR 4' -machine $type -smp $cpus \
            -device virtio-blk-pci,drive=d,disable-modern=off,disable-legacy=off
        try "$type, $cpus cpus, modern" 'BAR 4' -machine $type -smp $cpus \
            -device virtio-blk-pci,drive=d,disable-legacy=on
        try "$type, $cpus cpus, legacy" 'I/O port 0x' -machine $type -smp $cpus \
            -device virtio-blk-pci,drive=d,disable-modern=on,disable-legacy=off
    done
    try "microvm, $cpus cpus, version 1" 'MMIO 0x' -machine microvm -smp $cpus \
        -global virtio-mmio.force-legacy=true -device virtio-blk-device,drive=d
    try "microvm, $cpus cpus, version 2" 'MMIO 0x' -machine microvm -smp $cpus \
        -global virtio-mmio.force-legacy=false -device virtio-blk-device,drive=d
done
try "microvm without ACPI" 'MMIO 0x' -machine microvm,acpi=off -no-reboot \
    -device isa-debug-exit,iobase=0xf4,iosize=4 -device virtio-blk-device,drive=d
try "no indirect descriptors" 'BAR' -device virtio-blk-pci,drive=d,indirect_desc=off
try "no event index" 'BAR' -device virtio-blk-pci,drive=d,event_idx=off
try "neither" 'BAR' -device virtio-blk-pci,drive=d,event_idx=off,indirect_desc=off
try "no MSI-X" 'BAR' -device virtio-blk-pci,drive=d,vectors=0
try "a small ring" 'BAR' -device virtio-blk-pci,drive=d,queue-size=16,seg-max-adjust=on
try "several queues" 'BAR' -smp 2 -device virtio-blk-pci,drive=d,num-queues=4
try "an I/O thread" 'BAR' -object iothread,id=t -device virtio-blk-pci,drive=d,iothread=t
try "blocks of 4096 bytes" 'BAR' \
    -device virtio-blk-pci,drive=d,logical_block_size=4096,physical_block_size=4096
try "behind a bridge" 'BAR' -machine q35 -device pcie-root-port,id=r,chassis=1 \
    -device virtio-blk-pci,drive=d,bus=r
finish
