#!/usr/bin/env bash
# Zoned devices on files: ashlar zone, info, bench and copy; a writer that is killed; what is refused.
. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 1
D='zns,file:disk'

says() { # WHAT PATTERN CMD...: prints a line like that
    local what=$1 pattern=$2
    shift 2
    if "$@" 2>&1 | grep -qE -- "$pattern"; then pass "$what"; else fail "$what" "$("$@" 2>&1 | head -5)"; fi
}
states() { # the states of all zones, in one word: e empty, i and x open, c closed, f full, C conventional
    "$ASHLAR" zone report "$D" --json | python3 -c '
import json, sys
letter = {"empty": "e", "implicitly open": "i", "explicitly open": "x", "closed": "c", "full": "f",
          "conventional": "C"}
print("".join(letter[z["state"]] for z in json.load(sys.stdin)))'
}
are() { # WHAT STATES
    local got
    got=$(states)
    if [ "$got" = "$2" ]; then pass "$1"; else fail "$1" "zones are $got, expected $2"; fi
}

truncate -s 9M disk
check "a blank file is formatted" "$ASHLAR" info 'zns?zone=1M&cap=768K&conventional=1&max_open=3&max_active=5,file:disk'
says "info: zones" '^zones +8$' "$ASHLAR" info "$D"
says "info: zone size" '^zone size +1048576' "$ASHLAR" info "$D"
says "info: limits" '^max open zones +3$' "$ASHLAR" info "$D"
says "info: states" '^zns: 8 zones, 7 empty, 1 conventional' "$ASHLAR" info "$D"
says "report" '^ +1 +1048576 +0 B +768 KiB +empty$' "$ASHLAR" zone report "$D"
are "all are empty" Ceeeeeee
check "open two" "$ASHLAR" zone open "$D" --offset 1z --count 2
are "two are open" Cxxeeeee
check "close one" "$ASHLAR" zone close "$D" --offset 1M --count 1
are "one is closed" Ccxeeeee
check "finish" "$ASHLAR" zone finish "$D" --offset 3072K --count 1
are "one is full" Ccxfeeee
check "finish all that are open or closed" "$ASHLAR" zone finish "$D"
are "three are full" Cfffeeee
check "reset one" "$ASHLAR" zone reset "$D" --offset 2z --count 1
are "two are full" Cfefeeee
check "write three zones" "$ASHLAR" bench "$D" --rw write --bs 64K --total 2304K --offset 4M
are "they are full" Cfeffffe
check "reset all" "$ASHLAR" zone reset "$D"
are "all are empty again" Ceeeeeee
check_fails "too many" 1 'zone 4: Too Many Open Zones' "$ASHLAR" zone open "$D" --offset 1z --count 4
check_fails "conventional" 1 'zone 0: Invalid Zone State Transition' "$ASHLAR" zone reset "$D" --offset 0 --count 1
check_fails "close what is empty" 1 'zone 5: Invalid Zone State Transition' "$ASHLAR" zone close "$D" --offset 5z --count 1
check_fails "no start of a zone" 2 'not the start of a zone' "$ASHLAR" zone report "$D" --offset 100
check_fails "past the end" 2 'past the last of 8 zones' "$ASHLAR" zone report "$D" --offset 8z
check_fails "too many zones" 2 'from zone 6 on there are 2' "$ASHLAR" zone report "$D" --offset 6z --count 3
check_fails "no zones at all" 2 '--count 0' "$ASHLAR" zone report "$D" --count 0
check_fails "no size" 2 'must be a size' "$ASHLAR" zone report "$D" --offset zz
check_fails "not zoned" 1 'has no zones' "$ASHLAR" zone report mem:1M
check_fails "other geometry" 2 'zone=2097152, but the device was formatted with 1048576' "$ASHLAR" info 'zns?zone=2M,file:disk'
check_fails "random writes" 1 'in order' "$ASHLAR" bench "$D" --rw randwrite --count 10
check_fails "a copy to zones" 1 'is zoned' "$ASHLAR" copy mem:1M "$D"
check "reading only" "$ASHLAR" zone report "readonly,$D"
check_fails "and not writing" 1 'Read-only file system' "$ASHLAR" zone reset "readonly,$D"
says "a zone that fails" 'offline$' "$ASHLAR" zone report "fault?zone=3&zone_state=offline,$D"

head -c 1M /dev/urandom >other
cp other before
check_fails "another's data is not formatted" 1 'not blank; format=on' "$ASHLAR" info 'zns?zone=64K,file:other'
check "and not touched" cmp other before
check "unless that is asked for" "$ASHLAR" info 'zns?zone=64K&format=on,file:other'
check "and then it has zones" "$ASHLAR" zone report zns,file:other
printf x | dd of=other bs=1 seek=30 conv=notrunc status=none
check_fails "a damaged header" 1 'checksum' "$ASHLAR" zone report zns,file:other

# Data stays where it was written, in a later process, by plain writes and by several threads.
truncate -s 65M big
check "write and verify" "$ASHLAR" bench 'zns?zone=1M,file:big' --verify fill --bs 64K --depth 4 --threads 2 --seed 5
check "verify later" "$ASHLAR" bench zns,file:big --verify check --bs 64K --seed 5
check "a copy of the data" "$ASHLAR" copy zns,file:big 'file:copy?create=64M'
check "which is the same" "$ASHLAR" bench file:copy --verify check --bs 64K --seed 5 --size 64M

# A writer that is killed: full zones are whole, the others end where they say.
D=zns,file:big
for round in 1 2 3; do
    "$ASHLAR" zone reset "$D"
    start writer "$ASHLAR" bench "$D" --verify fill --seed 9 --flush-every 16
    before=$(stat -c %b big)
    wait_for sh -c "'$ASHLAR' zone report readonly,$D | grep -q full"
    kill -9 "$(pid_of writer)"
    wait "$(pid_of writer)" 2>/dev/null
    unset "started[writer]"
    full=$(states | sed 's/[^f].*//' | tr -d '\n' | wc -c)
    if [ "$full" -gt 0 ]; then
        check "killed ($round): the first $full zones are whole" "$ASHLAR" bench "$D" --verify check --seed 9 --size "${full}M"
    else
        check "killed ($round): the zones can be opened" "$ASHLAR" zone report "$D"
    fi
done
finish
