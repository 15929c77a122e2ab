#!/usr/bin/env bash
# Zoned block devices of Linux (null_blk) below the file driver, and what works on them.
# under ASan
. "$(dirname "$0")/in_guest"
in_guest zoned_file -c 2 -M 3072 -t ${SOAK:+3}800
finish
