#!/usr/bin/env bash
# Floors 1 to 3, compiled freestanding, need nothing but base/platform.h and functions that only
# compute. Usage: tests/portable.sh BUILD
set -u
lib=$1/libportable.a
if [ ! -f "$lib" ]; then
    echo "skip - freestanding build: musl-dev is not installed"
    exit 0
fi
object=$(mktemp)
trap 'rm -f "$object"' EXIT
ld -r -o "$object" --whole-archive "$lib" || exit 1
pure='mem(cpy|set|cmp|move|chr)|str(len|nlen|cmp|ncmp|chr|rchr|spn|cspn|str)|v?snprintf|qsort|__popcountdi2'
bad=$(nm -u "$object" | awk '{ print $2 }' |
    grep -vE "^(base_[a-z0-9_]+|blk_drivers|$pure)$")
if [ -z "$bad" ]; then
    echo "ok - the portable rooms compile freestanding and call nothing of the system"
else
    echo "not ok - the portable rooms need: $bad"
    exit 1
fi
