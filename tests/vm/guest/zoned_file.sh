. "$(dirname "$0")/zoned_lib.sh"
cd "$TMP" || exit 1
check "a zoned disk" zoned_disk zoned size=256 zone_size=4 zone_capacity=3 zone_nr_conv=4 \
    zone_max_open=6 zone_max_active=8
CMOCKA_MESSAGE_OUTPUT=TAP ASHLAR_ZONED=/dev/zoned timeout 300 "${ASHLAR%/*}/tests/unit-file_zone" >unit 2>&1
code=$?
grep -E '^(ok|not ok)' unit
[ $code -eq 0 ] || { tail -n 20 unit >&2; fail "unit-file_zone" "exit $code: $(tail -n 5 unit | tr '\n' '|')"; }
remove_disk zoned
finish
