#!/usr/bin/env bash
# Filesystems for zones (btrfs, f2fs, zonefs) on zoned disks by ublk.
# under ASan
. "$(dirname "$0")/in_guest"
in_guest zoned_fs -c 2 -M 3072 -t 800
finish
