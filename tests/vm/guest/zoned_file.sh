. "$(dirname "$0")/zoned_lib.sh"
modprobe ublk_drv
cd "$TMP" || exit 1
unit() { # WHAT DEVICE
    local code
    CMOCKA_MESSAGE_OUTPUT=TAP ASHLAR_ZONED=$2 timeout 300 "${ASHLAR%/*}/tests/unit-file_zone" >unit 2>&1
    code=$?
    grep -E '^(ok|not ok)' unit | sed "s/ - / - $1: /"
    [ $code -eq 0 ] || fail "$1" "exit $code: $(grep -v '^ok' unit | tail -n 5 | tr '\n' '|')"
}
check "a zoned disk" zoned_disk zoned size=256 zone_size=4 zone_capacity=1 zone_nr_conv=4 \
    zone_max_open=6 zone_max_active=8
unit "null_blk" /dev/zoned

# ---- the command -------------------------------------------------------------------------------
"$ASHLAR" info file:/dev/zoned >said
info() { sed -n "s/^$1  *//p" said; }
for fact in zoned=yes 'zone size=4194304 (4 MiB)' zones=64 'max open zones=6' 'max active zones=8' write-zeroes=no; do
    check "info: $fact" test "$(info "${fact%=*}")" = "${fact#*=}"
done
check_fails "not by psync" 1 'is a zoned device; use file:' "$ASHLAR" info psync:/dev/zoned

# Each state, made by one and seen by the other.
sector() { echo $(($1 * 8192)); }
theirs() { blkzone report -o "$(sector "$1")" -c 1 /dev/zoned | sed 's/.*zcond:[ 0-9]*(\(..\)).*/\1/'; }
ours() { "$ASHLAR" zone report file:/dev/zoned --offset "$1z" --count 1 --json | python3 -c '
import json, sys
print(json.load(sys.stdin)[0]["state"])'; }
zone() { "$ASHLAR" zone "$1" file:/dev/zoned --offset "$2z" --count "${3:-1}"; }
put() { dd if=/dev/urandom of=/dev/zoned bs=4096 count="$2" seek=$(($1 * 1024)) oflag=direct status=none; }
blkzone reset -o "$(sector 4)" /dev/zoned
check "we open, they see it" zone open 4
check "explicitly open" test "$(theirs 4)" = oe
check "we close" zone close 4
put 5 2
check "they write, we see it" test "$(ours 5)" = "implicitly open"
blkzone close -o "$(sector 5)" -c 1 /dev/zoned
check "they close" test "$(ours 5)" = closed
check "we finish" zone finish 5
check "full" test "$(theirs 5)" = fu
blkzone finish -o "$(sector 6)" -c 1 /dev/zoned
check "they finish" test "$(ours 6)" = full
check "we reset two" zone reset 5 2
check "empty" test "$(theirs 5)$(theirs 6)" = emem
put 7 1
check "all are reset" "$ASHLAR" zone reset file:/dev/zoned
check "and empty" test "$(blkzone report -o "$(sector 4)" /dev/zoned | grep -vc '(em)')" = 0
check "conventional" test "$(ours 0)" = conventional
check_fails "a conventional zone is not opened" 1 . zone open 0

# Data, by the copy and the benchmark.
for i in 4 6 8; do put $i $((i * 30)); done
check "copied to a file" "$ASHLAR" copy file:/dev/zoned file:copy?create=256M
check "all of it" cmp -n 50331648 /dev/zoned copy
check "the benchmark reads" "$ASHLAR" bench file:/dev/zoned --rw randread --depth 8 --time 1s
check "and appends, in two threads" "$ASHLAR" bench file:/dev/zoned --rw append --bs 16K --depth 8 --threads 2 --time 1s --offset 16M
check "and writes, and all is there" "$ASHLAR" bench file:/dev/zoned --rw write --bs 16K --depth 8 --verify write --offset 16M --size 64M
check_fails "no random writes" 1 "written in order" "$ASHLAR" bench file:/dev/zoned --rw randwrite --time 1s
check_fails "no copy to it" 1 'written zone by zone' "$ASHLAR" copy mem:256M?block=4096 file:/dev/zoned

# ---- both ways: a zoned disk of Linux, served as a zoned disk of Linux --------------------------
check "served" test "$(serve file:/dev/zoned)" = /dev/ublkb0
full() { sed 's/wptr 0x[0-9a-f]* \(.*(fu)\)/\1/'; } # where a full zone's pointer is means nothing
check "all zones are the same" cmp <(blkzone report /dev/ublkb0 | full) <(blkzone report /dev/zoned | full)
check "all data are" cmp -n 50331648 /dev/ublkb0 /dev/zoned
[ -n "${SOAK:-}" ] || export ASHLAR_ZONED_SKIP=threads # some minutes under TCG
unit "null_blk by ublk" /dev/ublkb0
check "random writes, verified" fio --name=x --filename=/dev/ublkb0 --direct=1 --zonemode=zbd --offset=16m \
    --rw=randwrite --bsrange=4k-64k --iodepth=16 --size=12m --numjobs=2 --offset_increment=64m --ioengine=io_uring \
    --max_open_zones=3 --verify=crc32c --verify_fatal=1 --minimal --output=/dev/null
"$ASHLAR" ublk del 0
remove_disk zoned
finish
