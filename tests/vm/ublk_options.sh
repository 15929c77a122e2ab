#!/usr/bin/env bash
# ashlar serve ublk and ashlar ublk: every option and command.
# under ASan
. "$(dirname "$0")/in_guest"
in_guest ublk_options -c 2 -M 2048
finish
