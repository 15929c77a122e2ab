#!/usr/bin/env bash
# ublk beside the kernel's own devices, in a Linux guest: tests/bench/ublk.sh [ROUNDS [SECONDS]]
# Rounds are interleaved; the table has medians, their spread, and ratios. Environment: ASHLAR, the
# command; BENCH_KERNEL, 6.12 or new; BENCH_PATHS, BENCH_JOBS and UBLK_OPTIONS, see ublk_guest.sh.
set -u
here=$(cd "$(dirname "$0")" && pwd)
rounds=${1:-3} seconds=${2:-1}
disk=$(mktemp "${TMPDIR:-/var/tmp}/ashlar-bench-XXXXXX") || exit
trap 'rm -f "$disk"' EXIT
truncate -s 2G "$disk"
variables=
for name in BENCH_PATHS BENCH_JOBS UBLK_OPTIONS; do
    [ -z "${!name:-}" ] || variables="$variables $name='${!name}'"
done
"$here/../vm/run" -c 2 -M 4096 -t 3600 -k "${BENCH_KERNEL:-6.12}" \
    -d "file=$disk,format=raw,cache=none,aio=io_uring" -- \
    "ASHLAR='$(realpath "${ASHLAR:-$here/../../build/ashlar}")' $variables bash '$here/guest/ublk.sh' $rounds $seconds"
