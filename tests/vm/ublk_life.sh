#!/usr/bin/env bash
# ublk: recovery, signals and crashes under load, the server's own mount namespace.
. "$(dirname "$0")/in_guest"
in_guest ublk_life -c 2 -M 3072 -t 800
finish
