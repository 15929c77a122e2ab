#!/usr/bin/env bash
# Data through ublk: fio with verification, filesystems, errors, memory. SOAK=1: 5 minutes of fio.
. "$(dirname "$0")/in_guest"
in_guest ublk_data -c 2 -M 4096 -t ${SOAK:+3}800
finish
