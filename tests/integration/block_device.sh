#!/usr/bin/env bash
# The file driver on a block device: a loop device, where the machine lets us make one.
. "$(dirname "$0")/lib.sh"
truncate -s 32M "$TMP/disk"
if ! loop=$(losetup --find --show "$TMP/disk" 2>/dev/null); then
    skip "a loop device" "losetup cannot make one here"
    finish
fi
trap 'clean_up; losetup -d "$loop" 2>/dev/null' EXIT
head -c 5000000 /dev/urandom >"$TMP/src"
truncate -s 32M "$TMP/src"

check "its size" sh -c "'$ASHLAR' info 'file:$loop' | grep -q '^size  *33554432'"
for direct in off on; do
    check "copy and verify, direct=$direct" "$ASHLAR" copy "file:$TMP/src" "file:$loop?direct=$direct" --verify
    check "same bytes, direct=$direct" cmp "$TMP/src" "$loop"
done
check "verified random writes" "$ASHLAR" bench "file:$loop?direct=on" --verify write --rw randwrite --depth 16
check "zeroes over old data" "$ASHLAR" copy mem:32M "file:$loop" --verify
check "a part of it" "$ASHLAR" copy 'slice?size=1M,mem:32M' "slice?offset=8M&size=1M,file:$loop" --verify
check_fails "smaller than the source" 1 'only 33554432' "$ASHLAR" copy mem:64M "file:$loop"
check_fails "blocks smaller than its own" 2 'block must be at least 512' "$ASHLAR" info "file:$loop?block=256"
check_fails "opened twice for writing" 1 'in use' "$ASHLAR" copy "file:$loop" "log?to=file:$loop,file:$loop"
finish
