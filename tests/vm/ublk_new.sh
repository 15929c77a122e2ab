#!/usr/bin/env bash
# ublk on a newer kernel: zero copy, the recovery that fails requests, resizing.
. "$(dirname "$0")/in_guest"
in_guest ublk_new -k new -c 2 -M 3072 -t 600
finish
