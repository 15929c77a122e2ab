#!/usr/bin/env bash
# Zoned devices as zoned disks of Linux: tools, errors, fio, crashes.
# under ASan
. "$(dirname "$0")/in_guest"
in_guest zoned_ublk -c 2 -M 3072 -t ${SOAK:+3}800
[ -z "${SOAK:-}" ] || in_guest zoned_ublk -k new -c 2 -M 3072 -t 3800
finish
