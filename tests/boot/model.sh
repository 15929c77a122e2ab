#!/usr/bin/env bash
# loadmodel: GGUF models from a raw disk, and disks that hold none.
. "$(dirname "$0")/lib.sh"
need_image
make_model=$BOOT_TESTS/../gguf/make_model

# try NAME STATUS PATTERN...: loadmodel of $TMP/disk
try() {
    local name=$1 status=$2 pattern
    shift 2
    truncate -s %512 "$TMP/disk"
    boot b --device "file:$TMP/disk" --exec 'loadmodel vda'
    check_end "$name: status" b "$status"
    for pattern; do check_out "$name: /$pattern/" "$pattern"; done
}
for v in 2 3; do
    "$make_model" "$TMP/disk" --version $v --tensors 20 --vocabulary 500 --elements 262144
    crc=$("$ASHLAR" gguf verify "$TMP/disk" | grep -o 'CRC-32C [0-9a-f]*')
    try "version $v" 0 "^GGUF version: $v$" '^Tensors: 20$' '^Parameters: 5242880$' "$crc" \
        '[0-9]+ MB/s$' '^Tokenizer: 500 tokens, 3890 bytes$'
done
cp "$TMP/disk" "$TMP/model"
truncate -s 100000 "$TMP/disk"
try "truncated" 1 'truncated|ends here|more than'
truncate -s 1M "$TMP/empty" && cp "$TMP/empty" "$TMP/disk"
try "no model" 1 '^(vda: )?no GGUF model starts here'
cp "$TMP/model" "$TMP/disk"
printf '\377\377\377\377\377\377\377\177' | dd of="$TMP/disk" bs=1 seek=8 conv=notrunc status=none
try "absurd counts" 1 'tensors do not fit'
cp "$TMP/model" "$TMP/disk"
printf '\377\377\377\377\377\377\377\177' | dd of="$TMP/disk" bs=1 seek=24 conv=notrunc status=none
try "an absurd length" 1 'a string of'
"$make_model" "$TMP/disk" --tensors 2 --vocabulary 200000 --elements 256
machine m -m 32M -drive "file=$TMP/disk,format=raw,if=virtio"
prompt m
truncate -s %512 "$TMP/disk"
check_run "a large vocabulary in 32 MiB" m loadmodel '^Tokenizer: 200000 tokens'
check_run "without a disk of that name" m "loadmodel vdz" "no device or scheme 'vdz'"
send m poweroff
check_end "it ends" m 0
finish
