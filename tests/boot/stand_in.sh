#!/usr/bin/env bash
# The functions of lib.sh themselves, on a guest that is no unikernel: what passes must pass, and
# what must fail does.
. "$(dirname "$0")/lib.sh"

ASHLAR_IMAGE=$TMP/stand_in.elf
check "the guest builds" build_stand_in "$ASHLAR_IMAGE"

# must_fail WHAT CMD...: it must print "not ok" for what it checks
must_fail() {
    local what=$1 before=$failures
    shift
    "$@" >"$TMP/said"
    failures=$before
    check "$what" grep -q '^not ok' "$TMP/said"
}

boot a --append do=shell
check_prompt "a prompt through ashlar boot" a
check_run "a command's output" a "say one two" '^one two$'
check "only that is in its output" test "$out" = "one two
"
check_run "the next command" a "say three" '^three$'
must_fail "a pattern that is not printed" check_run x a "say four" '^five$'
check_run_not "what is not printed" a "say six" 'seven'
must_fail "what is printed though it must not" check_run_not x a "say eight" 'eight'
send a "say nine"
expect a '^nine$'
check "expect" test $? = 0
prompt a
send a "status 42"
check_end "the guest's status" a 42
check "nothing is left of it" test "${started[a]:-}" = ""

machine b -machine pc -append "do=shell"
check_prompt "a prompt through QEMU" b
check_run "a command there" b "say hello" '^hello$'
send b "status 3"
check_end "QEMU's exit code" b 7

boot c --append do=status:9
must_fail "no prompt" check_prompt x c
must_fail "another status" check_end x c 8

boot d --append do=hang
expect d cmdline
BOOT_PATIENCE=1
must_fail "the wait for a prompt has an end" check_prompt x d
must_fail "so has that for the end" check_end x d 0
check "it still runs" is_running d
BOOT_PATIENCE=60 limit[d]=$SECONDS
must_fail "a machine beyond its limit" check_prompt x d
check_end "is ended" d 143
finish
