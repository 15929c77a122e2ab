#!/usr/bin/env bash
# bpf-conformance, as public conformance runners drive it.
. "$(dirname "$0")/lib.sh"
plugin=$(dirname "$ASHLAR")/tests/bpf-conformance
cd "$TMP" || exit 1

# gives WHAT RESULT PROGRAM ARGUMENT...: in hex, as it is written to the standard input.
gives() {
    local what=$1 result=$2 program=$3 got
    shift 3
    for engine in --interp --jit; do
        got=$("$plugin" "$@" $engine <<<"$program" 2>&1)
        if [ "$got" = "$result" ]; then pass "$what $engine"; else fail "$what $engine" "$got"; fi
    done
}

# refuses WHAT CODE PATTERN PROGRAM ARGUMENT...
refuses() {
    local what=$1 pattern=$2 program=$3
    shift 3
    check_fails "$what" 1 "$pattern" "$plugin" --program "$program" "$@"
}

exit='95 00 00 00 00 00 00 00'
gives "a number" 5 "b7 00 00 00 05 00 00 00 $exit"
gives "a negative number, 64 bits" fffffffffffffffb "b7000000fbffffff9500000000000000"
gives "32 bits" fffffffb "b4 00 00 00 fb ff ff ff $exit"
gives "memory in r1" 44332211 "61 10 00 00 00 00 00 00 $exit" "11 22 33 44"
gives "its size in r2" 4 "bf 20 00 00 00 00 00 00 $exit" "11 22 33 44"
gives "no memory" 0 "bf 10 00 00 00 00 00 00 $exit"
gives "helper 5" ffffffffffffffff "b7 01 00 00 ff ff ff ff 85 00 00 00 05 00 00 00 $exit"
gives "a local call" 7 "85 10 00 00 01 00 00 00 $exit b7 00 00 00 07 00 00 00 $exit"
gives "the program as an argument" 5 "" --program "b7 00 00 00 05 00 00 00 $exit"

cat >prog.c <<'EOF'
static const int table[3] = {10, 20, 30};
static __attribute__((noinline)) int pick(unsigned i) { return table[i % 3]; }
int prog(const unsigned char *memory, unsigned long size) { return size ? pick(memory[0]) : -1; }
EOF
if clang -O2 -target bpf -c prog.c -o prog.o 2>/dev/null; then
    gives "an ELF file" 1e "$(od -An -v -tx1 prog.o)" "05" --elf
else
    skip "an ELF file" "there is no clang for bpf"
fi

refuses "an unknown instruction" 'no such instruction' "ff 00 00 00 00 00 00 00 $exit"
refuses "half an instruction" 'no program' "b7 00 00"
refuses "no program" 'no program' ""
refuses "no hex" 'not in hex' "b7 0x"
refuses "an odd digit" 'not in hex' "b7 0"
refuses "memory that is no hex" 'not in hex' "$exit" "zz"
refuses "no ELF file" 'ELF' "b7 00 00 00 05 00 00 00 $exit" --elf
refuses "an unknown flag" usage "$exit" --nonsense
refuses "two memories" usage "$exit" 11 22
refuses "a load from nowhere" "outside of the program's memory" "b7 01 00 00 00 00 00 00 61 10 00 00 00 00 00 00 $exit" --verify=checked
refuses "a load from nowhere, verified" 'r1' "b7 01 00 00 00 00 00 00 61 10 00 00 00 00 00 00 $exit" --verify=require
refuses "no end" 'budget|time' "05 00 ff ff 00 00 00 00" --verify=checked --jit
finish
