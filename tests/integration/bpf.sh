#!/usr/bin/env bash
# ashlar bpf: programs of tests/bpf/programs, compiled by each clang there is, give the answers of
# plain C; what cannot be loaded or run is refused; instructions read as llvm-objdump reads them.
. "$(dirname "$0")/lib.sh"
programs=$(cd "$(dirname "$0")/../bpf/programs" && pwd)
cd "$TMP" || exit 1

head -c 300 /dev/urandom >mem
all="globals calls strings tables switches numbers weak signed"
for p in $all; do
    cc -O1 -w -o "$p.native" "$programs/$p.c" "$programs/native.c" || fail "$p for this machine" "cc"
    "./$p.native" mem "$p.mem" >"$p.answer" 2>"$p.said"
done

# ---- answers ------------------------------------------------------------------------------

engines="--interp"
"$ASHLAR" bpf run /dev/stdin --format hex --jit --verify checked <<<9500000000000000 >jit.txt 2>&1 &&
    engines="--interp --jit"

same() { # PROGRAM ARGS...: as the native one
    local p=$1
    shift
    "$ASHLAR" bpf run "$p.o" --function prog --mem mem --out out "$@" >answer 2>said || {
        cat said
        return 1
    }
    diff "$p.answer" answer && diff "$p.said" said && cmp "$p.mem" out
}

# One compiler with some flags: all programs, one line.
answers() { # COMPILER FLAGS... -- PROGRAMS...
    local flags=() bad= out p engine
    while [ "$1" != -- ]; do
        flags+=("$1")
        shift
    done
    shift
    for p in "$@"; do
        if ! out=$("${flags[@]}" -target bpf -fno-builtin -c "$programs/$p.c" -o "$p.o" 2>&1); then
            bad+="$p: ${out:0:200}; "
            continue
        fi
        for engine in $engines; do
            out=$(same "$p" --verify checked "$engine" 2>&1) || bad+="$p $engine: ${out:0:300}; "
            # These can be proven; a counter that lives in memory (-O0) need not be.
            case "$p ${flags[*]}" in numbers*-O0*) continue ;; esac
            case $p in switches | numbers | weak) ;; *) continue ;; esac
            out=$(same "$p" --verify require "$engine" 2>&1) ||
                bad+="$p $engine, verified: ${out:0:300}; "
        done
    done
    if [ -z "$bad" ]; then pass "${flags[*]}: $*"; else fail "${flags[*]}" "$bad"; fi
}

plain="globals calls strings tables switches numbers weak"
for cpu in v1 v2 v3; do
    for flags in "-O2 -g" "-O2" "-O0" "-Os -g -fcommon"; do
        answers clang $flags -mcpu=$cpu -- $plain
    done
done
found=
for version in 15 16 17 18 19 20 21 22 23; do
    command -v clang-$version >/dev/null || continue
    found=1
    for cpu in v1 v3 v4; do
        clang-$version -target bpf -mcpu=$cpu -x c -c /dev/null -o v.o 2>/dev/null || continue
        # Tables of jumps are no instructions of RFC 9669.
        jump=
        [ $cpu = v4 ] && clang-$version -target bpf -fno-jump-tables -x c -c /dev/null -o v.o \
            2>/dev/null && jump=-fno-jump-tables
        answers clang-$version -O2 -g -mcpu=$cpu $jump -- $plain
        answers clang-$version -O0 -mcpu=$cpu $jump -- $plain
        [ $cpu = v4 ] && answers clang-$version -O2 -g -mcpu=$cpu $jump -- signed
    done
done
[ -n "$found" ] || skip "other versions of clang" "none is installed"

# The program of docs/bpf.md.
awk '/^```/ { inside = 0 } inside || $0 == "/* count.c */" { print; inside = 1 }' \
    "$programs/../../../docs/bpf.md" >count.c
clang -target bpf -O2 -g -c count.c
printf '\0\0\0\0\0\312\232\073\377\311\232\073\377\377\377\377' >numbers.bin # 0, 1e9, 1e9 - 1, 2^32 - 1
if [ "$("$ASHLAR" bpf run count.o --mem numbers.bin 2>/dev/null)" = "r0 = 0x2 (2)" ]; then
    pass "docs/bpf.md"
else
    fail "docs/bpf.md" "$("$ASHLAR" bpf run count.o --mem numbers.bin 2>&1)"
fi

# A run does not see what another left in globals: the answer of the first is that of all.
clang -target bpf -O2 -c "$programs/globals.c" -o globals.o
check "and once more" same globals --verify checked

# ---- refused ------------------------------------------------------------------------------

source_of() { # NAME: C from standard input to NAME.o
    cat >"$1.c"
    clang -target bpf -O2 -g -c "$1.c" -o "$1.o" || fail "$1.c" "clang"
}
run=("$ASHLAR" bpf run --verify checked)

source_of maps <<'END'
struct { int *type; } table __attribute__((section(".maps")));
long prog(void) { return *(volatile long *)&table; }
END
check_fails "maps" 1 "'table' is in section .maps, which is not loaded: there are no maps" "${run[@]}" maps.o
if command -v clang-22 >/dev/null; then
    {
        echo 'int prog(volatile int *memory) { switch (*memory) {'
        for n in {0..20}; do echo "case $n: memory[$n] = *memory * $n; break;"; done
        echo '} return *memory; }'
    } >jumps.c
    clang-22 -target bpf -mcpu=v4 -O2 -c jumps.c -o jumps.o
    check_fails "tables of jumps" 1 "in section .jumptables, .*: compile with -fno-jump-tables" "${run[@]}" jumps.o
fi
source_of undefined <<'END'
long helper(long n);
long prog(long a) { return helper(a); }
END
check_fails "a function that is not there" 1 "'helper' is not defined .helpers are called by their number" \
    "${run[@]}" undefined.o
source_of variable <<'END'
extern long elsewhere;
long prog(void) { return elsewhere; }
END
check_fails "a variable that is not there" 1 "'elsewhere' is not defined" "${run[@]}" variable.o
source_of unknown <<'END'
static long (*h)(void) = (void *)77;
long prog(void) { return h(); }
END
check_fails "a helper that is not there" 1 "call 77" "${run[@]}" unknown.o
source_of outside <<'END'
long prog(char *memory, long size)
{
    return memory[size << 20];
}
END
check_fails "an address outside" 1 \
    "outside of the program's memory.*instruction [0-9]+ of prog: .*outside.c:3: return memory.size << 20.;" \
    "${run[@]}" outside.o --mem-size 4096
source_of endless <<'END'
long prog(void) { for (volatile long i = 0;;) i++; }
END
check_fails "an endless loop: budget" 1 "its budget of 1000 instructions is spent" "${run[@]}" endless.o --budget 1000
check_fails "an endless loop: time" 1 "its time is over" \
    "${run[@]}" endless.o --budget 1000000000000 --timeout 50ms
source_of deep <<'END'
__attribute__((noinline)) long down(volatile long n) { return n ? down(n - 1) + n : 0; }
long prog(void) { return down(1000); }
END
check_fails "calls too deep" 1 "calls are more than 16 deep" "${run[@]}" deep.o --function prog
source_of two <<'END'
long one(void) { return 1; }
long two(void) { return 2; }
END
check_fails "which function?" 1 "one, two" "${run[@]}" two.o
check_fails "no such function" 1 "there is no function three; there are: one, two" "${run[@]}" two.o --function three
check_fails "an empty file" 1 "not an ELF file" "${run[@]}" /dev/null
check_fails "another machine's" 1 "for machine [0-9]+, not for BPF" "${run[@]}" /bin/sh
check_fails "no file" 1 "nosuch.o: No such file" "${run[@]}" nosuch.o
clang -target bpfeb -O2 -c "$programs/numbers.c" -o big.o
check_fails "big-endian" 1 "not a little-endian ELF file" "${run[@]}" big.o
llvm-objcopy --strip-all numbers.o stripped.o 2>/dev/null &&
    check "without any symbol" "$ASHLAR" bpf disasm stripped.o
source_of wrong <<'END'
unsigned prog(const unsigned *memory, unsigned long size)
{
    unsigned sum = 0;
    for (unsigned long i = 0; i <= size / 4; i++)
        sum += memory[i];
    return sum;
}
END
check_fails "rejected: where" 1 'sum \+= memory\[i\];.*wrong.c:5 in prog' "$ASHLAR" bpf verify wrong.o --mem-size 4K
check_fails "rejected: why" 1 '4 bytes at offset 4096 of memory, which has 4096' "$ASHLAR" bpf run wrong.o --mem-size 4K
check_fails "rejected: what" 1 '^ashlar bpf verify: wrong.o: rejected$' "$ASHLAR" bpf verify wrong.o --mem-size 4K
echo 95000000 >half
check_fails "half an instruction" 1 "4 bytes are no program" "${run[@]}" --format hex half
check_fails "no hex" 1 "no hex digit" "${run[@]}" --format hex "$programs/test.h"
check_fails "--jit and --interp" 2 "exclude one another" "${run[@]}" two.o --jit --interp
check_fails "too much memory" 2 "at most 1G" "${run[@]}" two.o --function one --mem-size 2G

# ---- what is printed ------------------------------------------------------------------------

prints() { # WHAT PATTERN CMD...
    local what=$1 pattern=$2
    shift 2
    "$@" >printed 2>&1
    if grep -qE -- "$pattern" printed; then pass "$what"; else fail "$what" "$(head -c 500 printed)"; fi
}
prints "a small answer" '^r0 = 0x2 \(2\)$' "${run[@]}" two.o --function two
prints "a negative answer" '^r0 = 0xfffffffffffffffb \(18446744073709551611, -5\)$' \
    sh -c "echo b7000000fbffffff 9500000000000000 | '$ASHLAR' bpf run --verify checked --format hex /dev/stdin"
prints "statistics" '^instructions +2$' "${run[@]}" two.o --function two --stats
source_of sizes <<'END'
long prog(unsigned char *memory, long size) { return size * 1000 + memory[0] + memory[size - 1]; }
END
printf '\7' >seven
prints "memory: a file" '\(1014\)' "${run[@]}" sizes.o --mem seven
prints "memory: a file and zeroes" '\(64007\)' "${run[@]}" sizes.o --mem seven --mem-size 64
check_fails "memory: a file that does not fit" 1 "seven: more than 1 bytes|mem: more than 64 bytes" \
    "${run[@]}" sizes.o --mem mem --mem-size 64
prints "not proven: runs checked" '^wrong.o: not proven safe, runs checked$' \
    "$ASHLAR" bpf run wrong.o --mem-size 4K --verify auto
prints "verified" '^two.o: verified$' "$ASHLAR" bpf verify two.o --function two
prints "the verifier's work" '^ *[0-9]+: \(b7\)|[0-9]+: r0 = 2' "$ASHLAR" bpf verify -v two.o --function two
prints "a function's name" '^two:$' "$ASHLAR" bpf disasm two.o
prints "a line of the source" '^; .*: long two\(void\) \{ return 2; \}$' "$ASHLAR" bpf disasm two.o

# ---- llvm-objdump ---------------------------------------------------------------------------

# Theirs and ours without what may differ: numbers of slots, symbols, blanks, and names of halves of
# registers, which are a matter of taste in loads and stores.
theirs() {
    llvm-objdump -d --no-show-raw-insn "$1" | sed -nE 's/^ +[0-9]+:\t//p' |
        sed -E 's/ <[^ >]*>$//; s/0x[0-9a-f]+ ll/N ll/; s/^(r[0-9]+) = -?[0-9]+ ll/\1 = N ll/'
}
ours() {
    "$ASHLAR" bpf disasm "$1" | sed -nE 's/^ +[0-9]+: \([0-9a-f]{2}\) //p' |
        sed -E 's/ <[0-9]+>$//; s/^(r[0-9]+) = (0x[0-9a-f]+ ll|(ro)?data \+[0-9]+|0x0 ll)$/\1 = N ll/'
}
plain_words() {
    sed -E 's/\(r([0-9]+) ([+-]) ?/(r\1 \2 /; s/^w([0-9]+) = \*/r\1 = */; s/^(\*\([us](8|16|32).*) = w/\1 = r/
            s/^call .*/call/; s/^lock (\*.*) = /lock \1 = /'
}
if command -v llvm-objdump >/dev/null; then
    for p in globals calls strings switches numbers; do
        for cpu in v1 v3; do
            clang -target bpf -O2 -fno-builtin -mcpu=$cpu -c "$programs/$p.c" -o "$p.o"
            theirs "$p.o" | plain_words >theirs.txt
            ours "$p.o" | plain_words >ours.txt
            if [ "$(wc -l <theirs.txt)" -gt 20 ]; then
                check "$p, $cpu: as llvm-objdump reads it" diff theirs.txt ours.txt
            else
                fail "$p, $cpu: as llvm-objdump reads it" "it reads $(wc -l <theirs.txt) lines"
            fi
        done
    done
else
    skip "llvm-objdump" "not installed"
fi
finish
