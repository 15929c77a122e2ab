#!/usr/bin/env bash
# ashlar copy: every byte, holes kept, errors told.
. "$(dirname "$0")/lib.sh"

blocks() { stat -c %b "$1"; }

head -c 5000000 /dev/urandom >"$TMP/src"
truncate -s 64M "$TMP/src"
head -c 70000 /dev/urandom | dd of="$TMP/src" bs=1 seek=40000000 conv=notrunc status=none

check "copy and verify" "$ASHLAR" copy "file:$TMP/src" "file:$TMP/dst?create=64M" --verify
check "same bytes" cmp "$TMP/src" "$TMP/dst"
check "holes stay holes" test "$(blocks "$TMP/dst")" -le "$(blocks "$TMP/src")"
check "over old data" sh -c "
    head -c 67108864 /dev/urandom >'$TMP/old' &&
    '$ASHLAR' copy 'file:$TMP/src' 'file:$TMP/old' --depth 3 --piece 12K && cmp '$TMP/src' '$TMP/old'"
check "holes are made" test "$(blocks "$TMP/old")" -le "$(blocks "$TMP/src")"
check "direct, deep" sh -c "
    '$ASHLAR' copy 'file:$TMP/src?direct=on' 'file:$TMP/direct?create=64M&direct=on' --depth 64 \
        --no-sparse && cmp '$TMP/src' '$TMP/direct'"
head -c 1001 /dev/urandom >"$TMP/odd"
check "odd size" sh -c "
    '$ASHLAR' copy 'file:$TMP/odd' 'file:$TMP/odd2?create=1001' && cmp '$TMP/odd' '$TMP/odd2'"
check "a terabyte of nothing" "$ASHLAR" copy mem:1T mem:1T --verify

check_fails "target too small" 1 'only 1048576' "$ASHLAR" copy "file:$TMP/src" mem:1M
check_fails "target read-only" 1 'Read-only' "$ASHLAR" copy "file:$TMP/src" readonly,mem:64M
check_fails "block sizes that do not fit" 1 'not a multiple' \
    "$ASHLAR" copy "file:$TMP/odd" 'mem:4K?block=512'
check_fails "depth 0" 2 'from 1 to 1024' "$ASHLAR" copy mem:1M mem:1M --depth 0
check_fails "no source" 1 'no such file' "$ASHLAR" copy "file:$TMP/none" mem:1M
check_fails "verify finds a target that forgets" 1 'differs' \
    "$ASHLAR" copy "file:$TMP/src" 'null:64M?zeroes=on' --verify
finish
