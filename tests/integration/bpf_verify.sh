#!/usr/bin/env bash
# The verifier and what clang makes of C: programs that it takes, and others that it rejects for a
# reason, at each level of the instruction set.
. "$(dirname "$0")/lib.sh"
here=$(dirname "$0")/../bpf/verify
verify=$(dirname "$ASHLAR")/tests/bpf_verify

if ! clang -target bpf -x c -c -o "$TMP/empty.o" - <<<'int f(void) { return 0; }' 2>"$TMP/clang.err"; then
    skip "programs of clang" "it makes no eBPF: $(head -n 1 "$TMP/clang.err")"
    finish
fi

compile() { # SOURCE CPU OBJECT
    check "clang compiles $1 for $2" clang -O2 -g -fno-builtin -target bpf "-mcpu=$2" -c \
        "$here/$1" -o "$3"
}

accepted() { # WHAT OBJECT FUNCTION
    local out
    if out=$("$verify" "$2" "$3"); then
        pass "$1 $3"
    else
        fail "$1 $3" "$(tail -n 3 <<<"$out" | cut -c1-600)"
    fi
}

rejected() { # WHAT OBJECT FUNCTION REASON
    local out
    if out=$("$verify" "$2" "$3"); then
        fail "$1 $3" "it was accepted"
    elif ! tail -n 1 <<<"$out" | grep -qE -- "$4"; then
        fail "$1 $3" "said '$(tail -n 1 <<<"$out")', expected /$4/"
    elif ! grep -qE "^; .*reject.c:[0-9]+ in $3\)$" <<<"$out"; then
        fail "$1 $3" "no source line in: $out"
    else
        pass "$1 $3: $(tail -n 1 <<<"$out")"
    fi
}

functions=$(sed -n 's/^\(static .*\)\?int \([a-z_0-9]*\)(.*/\2/p; s/^int64_t \([a-z_0-9]*\)(.*/\1/p' \
    "$here/accept.c" | grep -vE '^(pick)$')
for cpu in v1 v2 v3; do
    compile accept.c $cpu "$TMP/accept.o"
    for function in $functions; do
        accepted "$cpu: accepts" "$TMP/accept.o" "$function"
    done
    compile reject.c $cpu "$TMP/reject.o"
    rejected "$cpu: rejects" "$TMP/reject.o" beyond_sector 'of memory, which has 1048576'
    rejected "$cpu: rejects" "$TMP/reject.o" beyond_chunk 'of an object in chunk, which has 65536'
    rejected "$cpu: rejects" "$TMP/reject.o" beyond_bins 'of data, which has'
    rejected "$cpu: rejects" "$TMP/reject.o" ring 'this loop may not end'
    rejected "$cpu: rejects" "$TMP/reject.o" stale 'unusable'
    rejected "$cpu: rejects" "$TMP/reject.o" uninitialised 'is not initialised'
    rejected "$cpu: rejects" "$TMP/reject.o" leak 'is part of a pointer'
    rejected "$cpu: rejects" "$TMP/reject.o" wrong_count 'of an object in chunk, which has 65536'
done
finish
