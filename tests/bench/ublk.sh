#!/usr/bin/env bash
# ublk beside the kernel's own devices, in a Linux guest: tests/bench/ublk.sh [ROUNDS [SECONDS]]
# Rounds are interleaved; the table has medians, ratios and the spread. ASHLAR names the command.
set -u
here=$(cd "$(dirname "$0")" && pwd)
rounds=${1:-5} seconds=${2:-2}
ASHLAR=${ASHLAR:-$here/../../build/ashlar}
exec "$here/../vm/run" -c 2 -M 4096 -t 3600 -m ublk_drv,null_blk,brd,loop ${VM_RUN_WORDS:-} -- \
    "ASHLAR='$ASHLAR' bash '$here/ublk_guest.sh' $rounds $seconds"
