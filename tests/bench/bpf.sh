#!/usr/bin/env bash
# Programs of the virtual machine beside the same C compiled for this one: tests/bench/bpf.sh
# [ROUNDS [MIB]]. Rounds are interleaved; the table has medians and their ratios, for programs that
# clang makes with and without 32-bit instructions. Environment: BPF_LOAD, the program that
# measures.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
objects=$(mktemp -d)
trap 'rm -rf "$objects"' EXIT
for cpu in v3 v1; do
    for source in "$here"/bpf/*.c; do
        clang -target bpf -O2 -g -mcpu=$cpu -ffreestanding -c "$source" \
            -o "$objects/$(basename "$source" .c).o"
    done
    echo "-mcpu=$cpu"
    "${BPF_LOAD:-$here/../../build/tests/bpf_load}" "$objects" "$@"
done
