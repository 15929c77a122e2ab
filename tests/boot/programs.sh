#!/usr/bin/env bash
# Static Linux programs, built here against two C libraries; programs that are none.
. "$(dirname "$0")/lib.sh"
need_image
source=$BOOT_TESTS/program.c
gcc -O2 -static -pthread -o "$TMP/glibc" "$source"
gcc -O2 -static-pie -pthread -o "$TMP/glibc-pie" "$source"
programs="glibc glibc-pie"
if command -v musl-gcc >/dev/null; then
    musl-gcc -O2 -static -pthread -o "$TMP/musl" "$source"
    programs="$programs musl"
else
    skip "musl" "musl-tools is not installed"
fi
truncate -s 4M "$TMP/disk.img"

for p in $programs; do
    for cpus in 1 2; do
        boot b --cpus $cpus --device "$TMP/disk.img" --app "$TMP/$p" all one "two words"
        check_end "$p on $cpus: its status" b 42
        check_out "$p on $cpus: nothing failed" '^all is well$'
        check_out "$p on $cpus: arguments" '^arguments: all.one.two words$'
        check "$p on $cpus: output without unknown calls" test -z "$(grep 'is not there' <<<"$out")"
    done
    boot b --app "$TMP/$p" segv
    check_end "$p: a bad address ends it" b 127
    check_out "$p: with a message" 'invalid memory at [0-9a-f]+, address 8'
    boot b --app "$TMP/$p" abort
    check_end "$p: abort" b 127
    boot b --app "$TMP/$p" spin
    check_end "$p: one thread ends while another computes" b 9
    boot b --app "$TMP/$p" unknown
    check_end "$p: an unknown call" b 0
    check "$p: is named once" test "$(grep -c 'system call io_setup (206) is not there' <<<"$out")" = 1
done

mkdir -p "$TMP/root/bin"
head -c 40 "$TMP/glibc" >"$TMP/root/bin/cut"
head -c 5000 "$TMP/glibc" >"$TMP/root/bin/short"
echo 'echo hi' >"$TMP/root/bin/script"
cp "$(command -v ls)" "$TMP/root/bin/dynamic"
head -c 5000 /dev/urandom >"$TMP/root/bin/random"
cp "$TMP/glibc" "$TMP/root/bin/entry"
printf '\0\0\0\0\0\0\0\0' | dd of="$TMP/root/bin/entry" bs=1 seek=24 conv=notrunc status=none
cp "$TMP/glibc" "$TMP/root/bin/i386"
printf '\3\0' | dd of="$TMP/root/bin/i386" bs=1 seek=18 conv=notrunc status=none
cp "$TMP/glibc" "$TMP/root/bin/good"
(cd "$TMP/root" && find . | cpio -o -H newc 2>/dev/null) >"$TMP/root.cpio"
machine m -m 256M -initrd "$TMP/root.cpio"
check_prompt "boots" m
check_run "a cut header" m "run /bin/cut" '/bin/cut: not an ELF program: too short' 'status 127'
check_run "a cut program" m "run /bin/short" 'malformed|cannot be read'
check_run "a script" m "run /bin/script" 'not an ELF program'
check_run "random bytes" m "run /bin/random" 'not an ELF program'
check_run "a dynamic program" m "run /bin/dynamic" 'dynamically linked; only static programs'
check_run "another processor" m "run /bin/i386" 'not for x86-64'
check_run "a wrong entry" m "run /bin/entry" 'it starts outside of its code'
check_run "no file" m "run /bin/none" 'there is no such file'
check_run "a directory" m "run /bin" 'not a file|cannot be opened'
check_run "a good one afterwards" m "run /bin/good all a b" '^all is well$'
# No memory is lost, however a program ends.
used() { grep -o 'used [0-9]*' <<<"$out" | cut -d' ' -f2; }
run m "run /bin/good all a b; run /bin/good segv; run /bin/good spin"
run m mem
first=$(used)
for _ in 1 2 3; do run m "run /bin/good all a b; run /bin/good segv; run /bin/good spin"; done
run m mem
check "no memory is lost ($first KiB, then $(used))" test "$(used)" -le "$((first + 64))"
send m poweroff
check_end "it ends" m 0
finish
