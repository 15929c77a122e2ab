#!/usr/bin/env bash
# docs/driver.md: its programs compile and do what it says.
. "$(dirname "$0")/lib.sh"
top=$(cd "$(dirname "$0")/../.." && pwd)
lib=$(dirname "$ASHLAR")

for name in pattern tally program; do
    awk -v name="/* $name.c */" '/^```/ { inside = 0 } inside || $0 == name { print; inside = 1 }' \
        "$top/docs/driver.md" >"$TMP/$name.c"
done
# A sanitized command takes only sanitized parts.
flags=
grep -q __asan_init "$ASHLAR" && flags="-fsanitize=address,undefined"
compile() { # shellcheck disable=SC2086
    cc -std=gnu17 -Wall -Wextra -Wno-missing-field-initializers -Werror $flags -I"$top/include" "$@"
}
check "the device compiles" compile -shared -fPIC -o "$TMP/pattern.so" "$TMP/pattern.c"
check "the filter compiles" compile -shared -fPIC -o "$TMP/tally.so" "$TMP/tally.c"
check "the program compiles" compile -o "$TMP/program" "$TMP/program.c" "$TMP/pattern.c" \
    -L"$lib" -lashlar -Wl,-rpath,"$lib"
check "the program runs" test "$("$TMP/program")" = 1048584

with() { "$ASHLAR" --driver "$TMP/pattern.so" --driver "$TMP/tally.so" "$@"; }
check "the device is known" sh -c "'$ASHLAR' --driver '$TMP/pattern.so' help devices | grep -q pattern:SIZE"
check "it can be copied" with copy tally,pattern:1M "file:$TMP/out?create=1M" --verify
check "it says what it should" test "$(od -An -t u8 -j 4096 -N 8 "$TMP/out" | tr -d ' ')" = 4096
check "its option works" sh -c "
    '$ASHLAR' --driver '$TMP/pattern.so' copy 'pattern:1M?big=on' 'file:$TMP/big?create=1M' &&
    [ \$(od -An -t x1 -j 4096 -N 8 '$TMP/big' | tr -d ' ') = 0000000000001000 ]"
check_fails "its size is checked" 2 "like 64M, not 'x'" with info pattern:x
check_fails "it is read-only" 1 'Read-only' with copy mem:1M pattern:1M
check_fails "a scheme is taken once" 1 'File exists' \
    "$ASHLAR" --driver "$TMP/pattern.so" --driver "$TMP/pattern.so" info mem:1M
check_fails "no such object" 1 'none.so' "$ASHLAR" --driver "$TMP/none.so" info mem:1M
finish
