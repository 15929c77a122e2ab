#!/bin/bash
# How fast the NBD server is beside nbdkit and qemu-storage-daemon, in the same run.
#
#   ASHLAR=build/ashlar tests/bench/nbd.sh [ROUNDS] [CASE...]
#
# Each case is measured ROUNDS times (default 7), the servers taking turns, so that a busy moment of
# the machine hits all alike. The table gives the median of each server, the spread (from the
# smallest to the largest, as a part of the median), and how many times as fast as each peer we are.
#
# Servers: ashlar over mem:1G; nbdkit's memory plugin of 1G; qemu-storage-daemon with null-co, which
# copies nothing. The first two are filled beforehand, so that both copy data.
# Clients: `qemu-img bench` (sequential); fio's nbd engine, which is libnbd (random); and nbd_load
# (raw-...), which costs next to nothing, so that the server is what limits.
set -eu
ASHLAR=${ASHLAR:-build/ashlar}
ROUNDS=${1:-7}
shift || true
DIR=$(mktemp -d)
PIDS=()
trap 'for p in ${PIDS[@]+"${PIDS[@]}"}; do kill "$p" 2>/dev/null || true; done; wait; rm -rf "$DIR"' EXIT

for tool in nbdkit qemu-storage-daemon qemu-img qemu-io fio; do
    command -v $tool >/dev/null || { echo "needs $tool"; exit 77; }
done

"$ASHLAR" serve nbd mem:1G --socket "$DIR/ashlar" >/dev/null & PIDS+=($!)
nbdkit -f -U "$DIR/nbdkit" memory 1G & PIDS+=($!)
qemu-storage-daemon --blockdev null-co,node-name=n,size=1073741824,read-zeroes=off \
    --nbd-server addr.type=unix,addr.path="$DIR/qemu" \
    --export type=nbd,id=e,node-name=n,name=,writable=on & PIDS+=($!)

uri() { echo "nbd+unix:///?socket=$DIR/$1"; }

for server in ashlar nbdkit qemu; do
    until qemu-io -r -f raw "$(uri $server)" -c 'read 0 512' >/dev/null 2>&1; do
        kill -0 "${PIDS[-1]}" || exit 1
    done
done
for server in ashlar nbdkit; do
    qemu-io -f raw "$(uri $server)" -c 'write -P 0x5a 0 1G' >/dev/null
done

# One measurement: prints requests per second.
qemu_bench() { # server count depth size [-w]
    qemu-img bench -f raw -c "$2" -d "$3" -s "$4" ${5:-} "$(uri "$1")" |
        awk -v n="$2" '/Run completed/ { printf "%.0f\n", n / $4 }'
}
fio_bench() { # server count depth size randread|randwrite
    fio --name=b --ioengine=nbd --uri="$(uri "$1")" --rw="$5" --bs="$4" --iodepth="$3" \
        --size=1G --io_size="$(($2 * $4))" --output-format=json 2>/dev/null |
        awk -v w="$5" '/"read" :/ { s = "r" } /"write" :/ { s = "w" } /"trim" :/ { s = "t" }
            /"iops" :/ && ((s == "r" && w == "randread") || (s == "w" && w == "randwrite")) {
                printf "%.0f\n", $3 }'
}

load() { # server count depth size read|write
    "${NBD_LOAD:-$(dirname "$ASHLAR")/tests/nbd_load}" "$DIR/$1" "$2" "$3" "$4" "$5"
}

# name, client, count, depth, size, direction
CASES=(
    "4k-read-d1     qemu_bench 20000  1  4096"
    "4k-write-d1    qemu_bench 20000  1  4096 -w"
    "4k-read-d32    qemu_bench 100000 32 4096"
    "4k-write-d32   qemu_bench 100000 32 4096 -w"
    "1m-read-d4     qemu_bench 1500   4  1048576"
    "1m-write-d4    qemu_bench 1500   4  1048576 -w"
    "raw-4k-read-d1   load      20000  1  4096 read"
    "raw-4k-write-d1  load      20000  1  4096 write"
    "raw-4k-read-d32  load      300000 32 4096 read"
    "raw-4k-write-d32 load      300000 32 4096 write"
    "raw-1m-read-d4   load      3000   4  1048576 read"
    "raw-1m-write-d4  load      3000   4  1048576 write"
    "fio-read-d1    fio_bench  20000  1  4096 randread"
    "fio-write-d1   fio_bench  20000  1  4096 randwrite"
    "fio-read-d32   fio_bench  100000 32 4096 randread"
    "fio-write-d32  fio_bench  100000 32 4096 randwrite"
)

median() { sort -n | awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)] }'; }
spread() { sort -n | awk '{ a[NR] = $1 } END { printf "%.0f%%", (a[NR] - a[1]) * 100 / a[int((NR + 1) / 2)] }'; }

wanted() { # name
    [ ${#WANTED[@]} -eq 0 ] && return 0
    local w
    for w in "${WANTED[@]}"; do [[ $1 == $w ]] && return 0; done
    return 1
}
WANTED=("$@")

printf '%-16s %16s %16s %16s %9s %9s\n' "requests/s" ashlar nbdkit qemu-sd "x nbdkit" "x qemu-sd"
for case in "${CASES[@]}"; do
    read -r name client count depth size direction <<<"$case"
    wanted "$name" || continue
    for ((r = 0; r < ROUNDS; r++)); do
        for server in ashlar nbdkit qemu; do
            $client $server "$count" "$depth" "$size" $direction >>"$DIR/$name.$server"
        done
    done
    for server in ashlar nbdkit qemu; do
        declare "m_$server=$(median <"$DIR/$name.$server")" "s_$server=$(spread <"$DIR/$name.$server")"
    done
    printf '%-16s %9s %6s %9s %6s %9s %6s %9s %9s\n' "$name" "$m_ashlar" "$s_ashlar" "$m_nbdkit" \
        "$s_nbdkit" "$m_qemu" "$s_qemu" \
        "$(awk "BEGIN { printf \"%.2f\", $m_ashlar / $m_nbdkit }")" \
        "$(awk "BEGIN { printf \"%.2f\", $m_ashlar / $m_qemu }")"
done
