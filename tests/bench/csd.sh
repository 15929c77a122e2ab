#!/usr/bin/env bash
# A program beside the data overlaps reading with computing: entropy over a file of 1 GiB with
# O_DIRECT, against each of the two alone: reading the device, computing nothing; and the same
# compiled program over the same bytes in memory. Medians of rounds; ROUNDS and SIZE_MB can be set.
set -eu
: "${ASHLAR:=build/ashlar}" "${ROUNDS:=5}" "${SIZE_MB:=1024}"
build=$(dirname "$ASHLAR")
if [ ! -f "$build/programs/entropy.o" ]; then
    echo "the device programs are not built (clang is not installed)"
    exit 0
fi
file=$(mktemp "${TMPDIR:-/var/tmp}/ashlar-csd-XXXXXX")
trap 'rm -f "$file" "$file.r"' EXIT
head -c "${SIZE_MB}M" /dev/urandom >"$file"
sync "$file"

for ((i = 0; i < ROUNDS; i++)); do
    "$build/tests/csd_load" "$build/programs/entropy.o" "file:$file?direct=on"
done >"$file.r"
# Of each round its ratio, so that all three figures of it are of the same time.
awk -v size="$SIZE_MB" '
    { slower = $1 < $2 ? $1 : $2; ratio[NR] = $3 / slower; read[NR] = $1; compute[NR] = $2
      both[NR] = $3; returned = $4 }
    function median(v, n, i, j, t) {
        for (i = 2; i <= n; i++)
            for (j = i; j > 1 && v[j - 1] > v[j]; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
        return v[int((n + 1) / 2)]
    }
    END {
        printf "%-44s %8d MB/s\n", "reading alone", median(read, NR)
        printf "%-44s %8d MB/s\n", "computing alone", median(compute, NR)
        printf "%-44s %8d MB/s\n", "the program beside the data", median(both, NR)
        printf "%-44s %8.2f (wanted: at least 0.9)\n", "of the slower of the two", median(ratio, NR)
        printf "%-44s %8.4f %% (wanted: below 0.1 %%)\n", "returned, of what was read",
               returned / (size * 10485.76)
    }' "$file.r"
