#!/usr/bin/env bash
# csd run in the unikernel: programs from a shared folder beside the data of virtio disks.
. "$(dirname "$0")/lib.sh"
need_image
build=$(dirname "$ASHLAR")
programs=$build/programs
if [ ! -f "$programs/filter.o" ]; then
    fail "the programs are built" "there is no $programs/filter.o (is clang installed?)"
    finish
fi
mkdir "$TMP/share"
cp "$programs"/*.o "$TMP/share"
printf 'no program' >"$TMP/share/text.o"
head -c 1M /dev/urandom >"$TMP/ints"
python3 -c 'print("some lines\nwith an error\n" * 20000, end="")' >"$TMP/lines"
truncate -s 1M "$TMP/lines"
cp "$TMP/ints" "$TMP/disk"
truncate -s 4M "$TMP/disk"
host() { "$ASHLAR" csd run "$programs/$1.o" "${@:2}"; }
count=$(host filter "file:$TMP/ints" --format u64)
crc=$(host crc32c "file:$TMP/ints" --format u32)

boot b --share "$TMP/share" --device "file:$TMP/disk" --device "file:$TMP/lines"
check_prompt "it boots" b
check_run "filter" b "csd run /share/filter.o vda --range 0:1M --stats" "^$count\$" \
    '^(verified|checked), (compiled|interpreted); read 1048576 bytes, appended 0, returned 8: 99\.99 % less$' \
    '^[0-9]+ requests, 0 failed; [0-9]+ instructions; [0-9]+ us'
check_run "interpreted, with checks" b \
    "csd run /share/filter.o vda --range=0:1M --interp --verify checked --stats" "^$count\$" \
    '^checked, interpreted;'
check_run "crc32c" b "csd run /share/crc32c.o vda --range 0:1M --format u32" "^$crc\$"
check_run "grep" b "csd run /share/grep.o vdb --arg error" '^20000$'
check_run "in the old manner" b "csd run /share/zone_count.o vda --range 0:1M" "^$count\$"
check_run "a number as an argument" b "csd run /share/filter.o vda --range 0:1M --arg i32:2147483647" '^0$'
check_run "lz" b "csd run /share/lz.o vda --range 0:1M --append 1M:2M" '^1048576$' '^[0-9]{7}$'
check_run "a budget" b "csd run /share/filter.o vda --budget 1000" 'budget of 1000 instructions'
check_run "no program" b "csd run /share/text.o vda" '/share/text.o: .+'
check_run "no file" b "csd run /share/nothing.o vda" 'nothing.o: error 2'
check_run "no device" b "csd run /share/filter.o vdz" "no device or scheme 'vdz'"
check_run "no words" b "csd" 'csd run PROGRAM.o DEVICE'
check_run "past the end" b "csd run /share/filter.o vda --range 8M:1" 'has 4194304 bytes'
send b poweroff
check_end "it ends" b 0
tail -c +$((1024 * 1024 + 1)) "$TMP/disk" | head -c 2M >"$TMP/appended"
check "lz here" host lz "file:$TMP/disk" --range 0:1M --append 1M:2M --out "$TMP/result"
check "what was appended there is right" "$build/tests/csd_answer" lz "$TMP/ints" "$TMP/result" "$TMP/appended"
finish
