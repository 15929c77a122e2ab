#!/usr/bin/env bash
# The engine against fio: the same job on nothing (fio's null engine) and on a file with O_DIRECT
# (its io_uring engine). Interleaved rounds; medians. ROUNDS and SECONDS_EACH can be set.
set -eu
: "${ASHLAR:=build/ashlar}" "${ROUNDS:=5}" "${SECONDS_EACH:=2}"
file=$(mktemp "${TMPDIR:-/var/tmp}/ashlar-engine-XXXXXX")
trap 'rm -f "$file"' EXIT
head -c 1G /dev/urandom >"$file"
sync "$file"

ours() { # SPEC DEPTH
    "$ASHLAR" bench "$1" --rw randread --depth "$2" --time "${SECONDS_EACH}s" --warmup 0 --json "$file.json" >/dev/null
    python3 -c 'import json, sys; print(int(json.load(open(sys.argv[1]))["results"][0]["iops"]["median"]))' "$file.json"
    rm -f "$file.json"
}
fios() { # DEPTH ARGS...
    local depth=$1
    shift
    fio --name=x "$@" --rw=randread --bs=4k --iodepth="$depth" --size=1G --thread --time_based \
        --runtime="$SECONDS_EACH" --output-format=json |
        python3 -c 'import json, sys; print(int(json.load(sys.stdin)["jobs"][0]["read"]["iops"]))'
}
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
row() { # TITLE OURS-FILE FIO-FILE
    local a b
    a=$(median <"$2") b=$(median <"$3")
    printf '%-34s %12d %12d %8.2f\n' "$1" "$a" "$b" "$(awk "BEGIN { print $a / $b }")"
}

printf '%-34s %12s %12s %8s\n' "4 KiB random read, IOPS (median)" ashlar fio ratio
for depth in 1 32; do
    : >"$file.a" >"$file.b" && : >"$file.c" >"$file.d"
    for ((i = 0; i < ROUNDS; i++)); do
        ours null:1G "$depth" >>"$file.a"
        fios "$depth" --ioengine=null >>"$file.b"
        ours "file:$file?direct=on" "$depth" >>"$file.c"
        fios "$depth" --ioengine=io_uring --direct=1 --filename="$file" >>"$file.d"
    done
    row "null, depth $depth" "$file.a" "$file.b"
    row "file, O_DIRECT, depth $depth" "$file.c" "$file.d"
    rm -f "$file".[abcd]
done
