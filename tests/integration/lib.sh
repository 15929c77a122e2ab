# What every integration script starts with. Sourced; the runner sets ASHLAR and TMP.
#
#   pass WHAT             a check that passed
#   fail WHAT WHY         a check that failed; the script goes on
#   skip WHAT WHY         a check that cannot run here
#   check WHAT CMD...     run CMD; passes if it exits 0, else fails with the end of its output
#   check_fails WHAT CODE PATTERN CMD...
#                         CMD must exit with CODE and say PATTERN (grep -E) on standard error
#   start NAME CMD...     run CMD in the background; it ends with the script. pid_of NAME
#   stop NAME             SIGTERM and wait; returns its exit code
#   wait_for CMD...       try CMD until it succeeds, 20 seconds at the most
#   finish                the last line of every script

set -u
: "${ASHLAR:?path of the ashlar binary}" "${TMP:?an empty folder}"
declare -A started=()
failures=0

pass() { echo "ok - $1"; }
skip() { echo "skip - $1: $2"; }
fail() {
    failures=$((failures + 1))
    echo "not ok - $1: $2"
}

check() {
    local what=$1 out
    shift
    if out=$("$@" 2>&1 </dev/null); then
        pass "$what"
    else
        fail "$what" "exit $? of $*: $(tail -n 5 <<<"$out" | tr '\n' '|' | cut -c1-800)"
    fi
}

check_fails() {
    local what=$1 code=$2 pattern=$3 err got
    shift 3
    err=$("$@" 2>&1 >/dev/null </dev/null)
    got=$?
    if [ "$got" -ne "$code" ]; then
        fail "$what" "exit $got, expected $code: $err"
    elif ! grep -qE -- "$pattern" <<<"$err"; then
        fail "$what" "said '$err', expected /$pattern/"
    else
        pass "$what"
    fi
}

start() {
    local name=$1
    shift
    : >"$TMP/$name.out" # at once: who waits for a line must not find one of before
    "$@" >"$TMP/$name.out" 2>"$TMP/$name.err" </dev/null &
    started[$name]=$!
}

pid_of() { echo "${started[$1]}"; }

stop() {
    local pid=${started[$1]}
    unset "started[$1]"
    kill "$pid" 2>/dev/null
    wait "$pid"
}

wait_for() {
    local try
    for ((try = 0; try < 400; try++)); do
        "$@" >/dev/null 2>&1 && return 0
        read -rt 0.05 <> <(:) || :
    done
    echo "waited in vain for: $*" >&2
    return 1
}

clean_up() {
    local pid
    for pid in "${started[@]}"; do
        kill "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
}
trap clean_up EXIT

finish() {
    [ "$failures" -eq 0 ]
    exit
}
