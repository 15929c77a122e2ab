#!/usr/bin/env bash
# A panic says where and why, names the functions that led there, and ends the machine with 101.
. "$(dirname "$0")/lib.sh"
need_image
try() { # NAME COMMAND PATTERN...
    local name=$1 command=$2 pattern
    shift 2
    for cpus in 1 2; do
        boot b --cpus $cpus --exec "$command"
        check_end "$name, $cpus cpus: status 101" b 101
        for pattern; do check_out "$name, $cpus cpus: /$pattern/" "$pattern"; done
    done
}
try "a message" panic '^panic: as asked$' 'processor 0, thread main' ' shell_panic\+0x' ' main_thread\+0x'
try "a bad address" "panic fault" '^panic: page fault$' 'write of nothing' '^rip [0-9a-f]{16} ' ' shell_panic\+0x'
try "a stack that is too small" "panic stack" 'the guard page of a stack' ' use_stack\+0x'
try "code is not written" "panic write" 'write of a protected page'
try "data is not executed" "panic execute" 'execution of'
finish
