#!/usr/bin/env bash
# ublk devices of users who are not root, with the udev rules and a real udevd.
. "$(dirname "$0")/in_guest"
in_guest ublk_user -c 2 -M 2048
finish
