#!/usr/bin/env bash
# The command line itself: help, versions, messages, exit codes, info.
. "$(dirname "$0")/lib.sh"

says() { # PATTERN CMD...: its standard output has the pattern
    local pattern=$1
    shift
    "$@" </dev/null | grep -qE -- "$pattern"
}

check "help" says 'subcommands:' "$ASHLAR" help
check "--help" says 'subcommands:' "$ASHLAR" --help
check "help devices" says 'mem:SIZE' "$ASHLAR" help devices
check "version" says '^ashlar [0-9]+\.[0-9]+\.[0-9]+$' "$ASHLAR" --version
for command in $("$ASHLAR" help | sed -n '/^subcommands:/,/^$/s/^  \([a-z]*\( [a-z]*\)\{0,1\}\)  .*/\1/p' | grep -v '^help' | tr ' ' '/'); do
    command=${command//\// }
    # shellcheck disable=SC2086
    check "$command --help" says '^usage: ashlar' "$ASHLAR" $command --help
    # shellcheck disable=SC2086
    check "man page of $command" says '^\.TH "ASHLAR-' "$ASHLAR" --man $command
    # shellcheck disable=SC2086
    check_fails "$command --nonsense" 2 'unknown option' "$ASHLAR" $command --nonsense
done
check "man page" says '^\.SH DEVICES' "$ASHLAR" --man
"$ASHLAR" --man completion >"$TMP/completion"
check "completion parses" bash -n "$TMP/completion"
complete_line() { # WORDS...: what completes the last one
    (
        . "$TMP/completion"
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _ashlar
        echo "${COMPREPLY[@]}"
    )
}
check "completes subcommands" says 'info' complete_line ashlar in
check "completes options" says '--verify' complete_line ashlar copy --v
check "completes devices" says 'mem:' complete_line ashlar info me

check_fails "no subcommand" 2 'which subcommand' "$ASHLAR"
check_fails "unknown subcommand" 2 "unknown subcommand 'frob'" "$ASHLAR" frob
check_fails "missing operand" 2 'ashlar info DEVICE' "$ASHLAR" info
check_fails "extra operand" 2 "unexpected 'b'" "$ASHLAR" info a b
check_fails "malformed spec" 2 "unknown scheme 'foo'" "$ASHLAR" info foo:bar
check_fails "a path without scheme" 2 'file:/tmp/x' "$ASHLAR" info /tmp/x
check_fails "missing file" 1 'no such file' "$ASHLAR" info "file:$TMP/none"
check_fails "unknown device option" 2 "'mem' has: block" "$ASHLAR" info 'mem:1M?blok=1'
check_fails "missing value" 2 'needs a value' "$ASHLAR" copy null:1M null:1M --depth
check_fails "bad value" 2 'must be a number' "$ASHLAR" copy null:1M null:1M --depth x
check_fails "output cannot be written" 1 'cannot write' sh -c "'$ASHLAR' info mem:1M >/dev/full"

check "info of memory" says '^size +1073741824 \(1 GiB\)$' "$ASHLAR" info mem:1G
check "info of a stack" says '^drivers +readonly > slice > mem$' "$ASHLAR" info 'readonly,slice?size=1M,mem:1G'
truncate -s 3M "$TMP/a,b%?.img"
check "a path with special bytes" says '^size +3145728' "$ASHLAR" info "file:$TMP/a,b%25%3F.img"
finish
