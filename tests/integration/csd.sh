#!/usr/bin/env bash
# ashlar csd run: every program of programs/ against plain C, over mem, file and zns, with each way
# to execute it; ranges, arguments, output, statistics, the audit log, limits, and what is refused.
. "$(dirname "$0")/lib.sh"
build=$(dirname "$ASHLAR")
programs=$build/programs
sources=$(cd "$(dirname "$0")/../../programs" && pwd)
answer=$build/tests/csd_answer
if [ ! -f "$programs/filter.o" ]; then
    fail "the programs are built" "there is no $programs/filter.o (is clang installed?)"
    finish
fi
cd "$TMP" || exit 1

# ---- data -------------------------------------------------------------------------------

python3 - <<'END'
import random, struct
r = random.Random(5)
open('ints', 'wb').write(b''.join(struct.pack('<i', r.randint(-2**31, 2**31 - 1)) for _ in range(300000)))
words = [b'error', b'errr', b'erro', b'eerror', b'ok', b'disk', b'aab', b'aaab', b'']
lines = [b' '.join(r.choice(words) for _ in range(r.randint(0, 12))) for _ in range(30000)]
lines[100] = b'x' * 200000 + b'error'
open('text', 'wb').write(b'\n'.join(lines))
rows = [b'id,what,amount,note']
for i in range(30000):
    amount = r.choice(['%d' % r.randint(-10**6, 10**6), '%.2f' % r.uniform(-1000, 1000),
                       '%.6f' % r.uniform(0, 10), '', 'none', ' 7 ', '-', '0.5'])
    what = r.choice(['coffee', 'tea', '"tea, green"', 'cof', 'coffees', ''])
    note = r.choice(['', '"two\nlines"', 'x' * r.randint(0, 300), '"a ""quote"""'])
    rows.append(('%d,%s,%s,%s' % (i, what, amount, note)).encode())
open('rows.csv', 'wb').write(b'\r\n'.join(rows[:10]) + b'\r\n' + b'\n'.join(rows[10:]))
END
head -c 1M /dev/zero >zeroes
cat "$ASHLAR" | head -c 1500000 >binary
truncate -s 1500160 binary # sectors

# ---- every program, every engine -----------------------------------------------------------

run() { "$ASHLAR" csd run "$programs/$1.o" "${@:2}"; }

# right NAME PROGRAM DATA DEVICE [OPTION...] -- [ANSWER-ARGUMENT...]
right() {
    local name=$1 program=$2 data=$3 device=$4 options=() err
    shift 4
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    if ! err=$(run "$program" "$device" --out result "${options[@]}" 2>&1); then
        fail "$name" "$err"
    elif ! err=$("$answer" "$program" "$data" result "$@" 2>&1); then
        fail "$name" "wrong answer: $err"
    else
        pass "$name"
    fi
}

all() { # HOW OPTION...
    local how=$1
    shift
    right "filter, $how" filter ints file:ints "$@" --
    right "filter above -5, $how" filter ints file:ints "$@" --arg i32:-5 -- -5
    right "entropy of numbers, $how" entropy ints file:ints "$@" --
    right "entropy of a program, $how" entropy binary file:binary "$@" --
    right "entropy of nothing but zeroes, $how" entropy zeroes mem:1M "$@" --
    right "grep, $how" grep text file:text "$@" --arg error -- error
    right "grep for what begins like itself, $how" grep text file:text "$@" --arg aab -- aab
    right "grep for a byte, $how" grep text file:text "$@" --arg k -- k
    right "csv, all rows, $how" csv rows.csv file:rows.csv "$@" --arg 3 -- 3
    right "csv, some rows, $how" csv rows.csv file:rows.csv "$@" --arg '3 2 coffee' -- 3 2 coffee
    right "csv, a value in quotes, $how" csv rows.csv file:rows.csv "$@" --arg '3 2 tea, green' -- \
        3 2 'tea, green'
    right "crc32c, $how" crc32c binary file:binary "$@" --
    right "crc32c of an odd number of bytes, $how" crc32c text file:text "$@" --
    right "minmax, $how" minmax ints file:ints "$@" --
    right "minmax of zeroes, $how" minmax zeroes mem:1M "$@" --
    right "top 10, $how" topk ints file:ints "$@" --
    right "top 64, $how" topk ints file:ints "$@" --arg u32:64 -- 64
    right "top 3 of zeroes, $how" topk zeroes mem:1M "$@" --arg u32:3 -- 3
    right "sector by sector, in the old manner, $how" zone_count binary file:binary "$@" --
    right "the same on mem, $how" zone_count zeroes mem:1M "$@" --
}
all interpreted --verify checked --interp
all "compiled, checked" --verify checked
all "as it is" --verify auto

compress() { # NAME DATA OPTION...
    local name=$1 data=$2 size
    shift 2
    size=$(stat -c %s "$data")
    size=$(((size + 511) / 512 * 512))
    cp "$data" disk
    truncate -s "$((size * 3))" disk
    head -c "$size" disk >padded
    if ! run lz file:disk --range "0:$size" --append "$size:" --out result "$@" 2>err; then
        fail "$name" "$(cat err)"
        return
    fi
    tail -c "+$((size + 1))" disk >appended
    check "$name" "$answer" lz padded result appended
    cmp -s <(head -c "$size" disk) padded || fail "$name" "what it read has changed"
}
compress "lz of text" text
compress "lz of a program, interpreted" binary --interp --verify checked
compress "lz of a program, checked" binary --verify checked
compress "lz of random numbers" ints
compress "lz of zeroes" zeroes

# ---- the page about it -------------------------------------------------------------------

awk '/^```c$/ { on = 1; next } /^```/ { on = 0 } on' "$sources/../docs/csd.md" >zeroes.c
clang -target bpf -O2 -g -mcpu=v3 -I "$sources" -c zeroes.c
check "the program of docs/csd.md is proven safe" "$ASHLAR" csd verify zeroes.o
expected=$(tr -dc '\0' <ints | wc -c)
got=$("$ASHLAR" csd run zeroes.o file:ints --format u64)
[ "$got" = "$expected" ] && pass "it counts" || fail "it counts" "$got, expected $expected"

# ---- the verifier ------------------------------------------------------------------------

for p in filter entropy grep csv crc32c minmax topk lz zone_count; do
    check "$p is proven safe" "$ASHLAR" csd verify "$programs/$p.o"
    for cpu in v1 v2; do
        clang -target bpf -O2 -g -mcpu=$cpu -c "$sources/$p.c" -o "$p-$cpu.o"
        check "$p for $cpu is proven safe" "$ASHLAR" csd verify "$p-$cpu.o"
    done
done
check "require runs what is proven" run filter mem:1M --verify require --out result
cat >bad.c <<'END'
#include "csd.h"
int main(void)
{
    const void *data;
    csd_next(&data, 512);
    return ((const char *)data)[512];
}
END
clang -target bpf -O2 -g -mcpu=v3 -I "$sources" -c bad.c -o bad.o
check_fails "require refuses what is not" 1 'rejected' \
    "$ASHLAR" csd run bad.o mem:1M --verify require
check_fails "so does verify" 1 'rejected' "$ASHLAR" csd verify bad.o

# ---- zones -----------------------------------------------------------------------------------

zns='zns:file:zoned?zone=256K&cap=192K&max_open=4'
truncate -s 4M zoned
head -c 768K ints >part
check "a zoned device is filled" "$build/tests/csd_fill" "$zns" part
right "filter over four zones" filter part "$zns" --zones 0-3 --
right "entropy over what is written of a zoned device" entropy part "$zns" --
dd if=part of=zone bs=192K skip=2 count=1 status=none
right "one zone" crc32c zone "$zns" --zones 2 --
right "the old manner over one zone" zone_count zone "$zns" --zones 2-2 --
if run lz "$zns" --zones 0-3 --append-zones 5-9 --out result 2>err; then
    # What landed, by a run that returns all that is written there.
    cat >all.c <<'END'
#include "csd.h"
int main(void)
{
    const void *data;
    int64_t n;
    while ((n = csd_next(&data, CSD_CHUNK)) > 0 && n <= CSD_CHUNK)
        bpf_return_data((void *)data, n);
    return n;
}
END
    clang -target bpf -O2 -g -mcpu=v3 -I "$sources" -c all.c -o all.o
    check "all that is written comes back" "$ASHLAR" csd run all.o "$zns" --zones 5-9 --out appended
    check "lz into zones" "$answer" lz part result appended
else
    fail "lz into zones" "$(cat err)"
fi
check_fails "zones that are not there" 1 'has [0-9]+ zones' run filter "$zns" --zones 0-99
check_fails "a range to append to that is no zone" 1 'whole zones' run lz "$zns" --append 0:4096
check_fails "zones of a device without any" 2 'has no zones' run filter mem:1M --zones 0
dd if=part of=zone bs=256K skip=2 count=1 status=none
right "zones of a size of our own" crc32c zone "file:part?block=512" --zone-size 256K --zones 2 --

# ---- ranges, output, statistics ----------------------------------------------------------------

dd if=ints of=piece bs=4096 skip=3 count=50 status=none
right "a range" filter piece file:ints --range 12K:200K --
tail -c 204800 ints >piece
right "a range to the end" crc32c piece file:ints --range "$((1200000 - 204800)):" --
[ "$(run filter file:ints --format u64)" = "$(run filter file:ints | od -An -tu8 -v | tr -d ' ')" ] &&
    pass "--format u64 is the number" || fail "--format u64 is the number" "not the same"
[ "$(run crc32c file:text --format hex)" = "$(run crc32c file:text | od -An -tx1 | sed 's/^ //')" ] &&
    pass "--format hex" || fail "--format hex" "$(run crc32c file:text --format hex)"
run entropy file:ints --stats --audit --out result 2>stats
for line in '^mode +(verified|checked), (compiled|interpreted)$' '^read +1200000 ' \
    '^returned +2056 ' '^reduction +99\.8287 %$' '^read errors +0$' '^instructions +[0-9]{6,}$' \
    '^read +0:1200000$'; do
    grep -qE -- "$line" stats && pass "--stats, --audit: $line" ||
        fail "--stats, --audit: $line" "$(tr '\n' '|' <stats)"
done
cp ints disk
check_fails "a device that cannot be read" 1 'Input/output error' \
    run filter 'fault?op=read&nth=3,file:disk' --out result
check_fails "a device that cannot be written" 1 'Input/output error' \
    run lz 'fault?op=write,file:disk' --range 0:64K --append 64K:128K --out result
check_fails "nothing to append to" 1 'the program returned -34' run lz file:disk --out result
check_fails "too little to append to" 1 'No space left' \
    run lz file:disk --range 0:512K --append 512K:64K --out result
cmp -s <(tail -c +589825 disk) <(tail -c +589825 ints) &&
    pass "nothing behind the range was written" ||
    fail "nothing behind the range was written" "differs"
check_fails "too much is returned" 1 'File too large' \
    "$ASHLAR" csd run all.o file:ints --max-return 100K --out result
[ "$(stat -c %s result)" -le 102400 ] && pass "what came before stays" ||
    fail "what came before stays" "$(stat -c %s result) bytes"
check_fails "a budget" 1 'budget of 1000 instructions' run filter file:ints --budget 1000
check_fails "an argument that is too long" 1 'program returned -22' \
    run grep file:text --arg "$(head -c 64 /dev/zero | tr '\0' x)" --out result

timeout 60 "$ASHLAR" csd run all.o null:1T 2>err | head -c 100 >/dev/null
[ "${PIPESTATUS[0]}" = 1 ] && grep -q 'Broken pipe' err && pass "nobody takes what it returns" ||
    fail "nobody takes what it returns" "$(cat err)"

# ---- hostile programs --------------------------------------------------------------------------

hostile() { # NAME PATTERN CODE OPTION...
    printf '#include "csd.h"\nint main(void)\n{\n%s\n}\n' "$3" >hostile.c
    clang -target bpf -O1 -w -mcpu=v3 -I "$sources" -c hostile.c -o hostile.o
    check_fails "$1" 1 "$2" timeout 60 "$ASHLAR" csd run hostile.o file:disk --out result \
        --verify checked "${@:4}"
}
hostile "an endless loop, by its deadline" 'Timer expired' \
    'for (volatile int i = 0;; i++) ; return 0;' --timeout 100ms
hostile "an endless loop, by its budget" 'Timer expired' \
    'for (volatile int i = 0;; i++) ; return 0;' --budget 1000000
hostile "memory that is not its own" 'Bad address' 'return *(volatile int *)0x7fff00000000;'
hostile "memory below its own" 'Bad address' 'return *(volatile int *)0x1000;'
hostile "writing to what is read" 'Bad address' \
    'const void *p; csd_next(&p, 512); *(volatile int *)p = 1; return 0;'
hostile "a pointer of the host to a helper" 'Bad address' \
    'return bpf_read(0, 0, 0, 512, (void *)0x7fff00000000);'
hostile "a read of 2^63 bytes" 'program returned -34' \
    'char b[8]; return bpf_read(0, 0, 0, 1ull << 63, b);'
hostile "a read behind the range" 'program returned -34' \
    'char b[8]; return bpf_read(0, 128, 0, 8, b);' --range 0:64K
hostile "a return of all the address space" 'Bad address' \
    'char b[8] = {0}; bpf_return_data(b, -1); return 0;'
hostile "returning for ever" 'File too large' \
    'void *m; uint64_t n; bpf_get_mem_info(&m, &n); for (;;) bpf_return_data(m, n); return 0;' \
    --max-return 20M
hostile "appending for ever" 'program returned -28' \
    'void *m; uint64_t n, s; bpf_get_mem_info(&m, &n); int e; while (!(e = bpf_write(0, &s, 0, n, m))) ; return e;' \
    --append 64K:128K --mem 64K
hostile "appending to another zone" 'program returned -34' \
    'static char b[512]; uint64_t s; return bpf_write(1, &s, 0, 512, b);' --append 64K:128K
hostile "deep calls" 'deep|symbolic links|Bad address' \
    'extern int again(int); return again(1); } __attribute__((noinline)) int again(int x) { volatile char b[64]; b[x & 63] = x; return again(x + 1) + b[1];'

# ---- wrong usage ---------------------------------------------------------------------------------

check_fails "no such program" 1 'No such file' "$ASHLAR" csd run nothing.o mem:1M
check_fails "a program that is none" 1 'not a program' "$ASHLAR" csd run text mem:1M
check_fails "no such device" 1 'nothing' run filter file:nothing
check_fails "no such function" 1 'no function nothing' run filter mem:1M --function nothing
check_fails "a range past the end" 1 'has 1048576 bytes' run filter mem:1M --range 1M:512
check_fails "half a block" 1 'whole blocks' run filter mem:1M --range 1:512
check_fails "a range that is none" 2 'must be like' run filter mem:1M --range all
check_fails "a number that does not fit" 2 'no number of 4 bytes' run filter mem:1M --arg u32:4294967296
check_fails "both engines" 2 'exclude' run filter mem:1M --jit --interp

# ---- signals -------------------------------------------------------------------------------------

printf '#include "csd.h"\nint main(void)\n{\nbpf_debug("it runs"); for (volatile int i = 0;; i++) ; return 0;\n}\n' >loop.c
clang -target bpf -O1 -w -mcpu=v3 -I "$sources" -c loop.c -o loop.o
start loop "$ASHLAR" csd run loop.o mem:1M
wait_for grep -q 'program: it runs' "$TMP/loop.err"
stop loop
code=$?
if [ "$code" = 1 ] && grep -q 'Operation canceled' "$TMP/loop.err"; then
    pass "SIGTERM ends a run, which says so"
else
    fail "SIGTERM ends a run, which says so" "exit $code: $(cat "$TMP/loop.err")"
fi
finish
