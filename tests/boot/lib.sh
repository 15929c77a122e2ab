# What every script that boots a machine starts with, on top of tests/integration/lib.sh. Sourced;
# the runner sets ASHLAR, TMP and ASHLAR_IMAGE.
#
#   need_image            end the script, with a failure, if there is no unikernel
#   boot NAME ARG...      `ashlar boot ARG...` in the background
#   machine NAME ARG...   QEMU with the image and QEMU's own arguments, in the background; has 128M,
#                         -machine q35 and a console unless ARG... says otherwise
#   prompt NAME           wait for the shell's prompt; what came before it is in $out
#   send NAME LINE        type a line
#   run NAME LINE         type a line and wait for the prompt; what it printed is in $out
#   expect NAME PATTERN   wait until PATTERN (grep -E) is printed after the last prompt that was
#                         waited for; what came since then is in $out
#   ended NAME            wait until the machine has ended; the rest of what it printed is in $out
#                         and its exit code in $code: ashlar boot's, which is the guest's status,
#                         or QEMU's, which is 0, or twice the guest's status and one
#
#   check_prompt WHAT NAME                 the prompt comes
#   check_run WHAT NAME LINE PATTERN...    LINE prints a line for each PATTERN, in any order
#   check_run_not WHAT NAME LINE PATTERN   LINE prints no such line, but comes back to the prompt
#   check_out WHAT PATTERN                 $out has a line for PATTERN
#   check_end WHAT NAME CODE               the machine ends with this exit code
#   console NAME          all that a machine has printed, without carriage returns and escapes
#
# ASHLAR_ACCEL chooses kvm, tcg or auto (default: tcg). Every wait ends after BOOT_PATIENCE seconds
# (default: 60), or when the machine is gone; every machine after BOOT_LIMIT seconds (default: 600).
# The functions that wait return 1, and leave what they saw in $out.

BOOT_TESTS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$BOOT_TESTS/../integration/lib.sh"

: "${ASHLAR_ACCEL:=tcg}" "${BOOT_PATIENCE:=60}" "${BOOT_LIMIT:=600}" "${ASHLAR_IMAGE:=}"
PROMPT='ASHLAR> '
out= code=
declare -A keyboard=() seen=() limit=()

need_image() {
    [ ! -f "$ASHLAR_IMAGE" ] || return 0
    fail "the unikernel is built" "there is no ${ASHLAR_IMAGE:-ASHLAR_IMAGE}"
    finish
}

# Start CMD... with its standard input a pipe that send() writes to, its output in a file.
power_on() {
    local name=$1 fd
    shift
    ! is_running "$name" || kill "${started[$name]}" # the last one did not end
    rm -f "$TMP/$name.keyboard"
    mkfifo "$TMP/$name.keyboard"
    exec {fd}<>"$TMP/$name.keyboard"
    keyboard[$name]=$fd seen[$name]=0
    : >"$TMP/$name.out"
    "$@" >"$TMP/$name.out" 2>"$TMP/$name.err" <"$TMP/$name.keyboard" &
    started[$name]=$!
    limit[$name]=$((SECONDS + BOOT_LIMIT))
}

boot() {
    local name=$1
    shift
    power_on "$name" "$ASHLAR" boot --image "$ASHLAR_IMAGE" --accel "$ASHLAR_ACCEL" "$@"
}

machine() {
    local name=$1 words cpu accel
    shift
    words=$("$ASHLAR" boot --print --image "$ASHLAR_IMAGE" --accel "$ASHLAR_ACCEL") || return 1
    accel=$(sed -n 's/^ *-accel \([^ ]*\).*/\1/p' <<<"$words")
    cpu=$(sed -n 's/^ *-cpu \([^ ]*\).*/\1/p' <<<"$words")
    case " $* " in *' -machine '*) ;; *) set -- -machine q35 "$@" ;; esac
    case " $* " in *' -m '*) ;; *) set -- -m 128M "$@" ;; esac
    case " $* " in *' -serial '* | *' -nographic '*) ;; *) set -- -serial stdio "$@" ;; esac
    case " $* " in *' -cpu '*) ;; *) set -- -cpu "$cpu" "$@" ;; esac
    power_on "$name" qemu-system-x86_64 -accel "$accel" -nodefaults -display none -no-reboot \
        -device isa-debug-exit,iobase=0xf4,iosize=4 -kernel "$ASHLAR_IMAGE" "$@"
}

# plain: standard input without carriage returns, NULs and the escapes of line editing
plain() { tr -d '\r\0' | sed 's/\x1b\[[0-9;?]*[A-Za-z]//g'; }

console() { plain <"$TMP/$1.out"; }

send() { printf '%s\r' "$2" >&"${keyboard[$1]}"; }

is_running() { [ -n "${started[$1]:-}" ] && kill -0 "${started[$1]}" 2>/dev/null; }

# await NAME TEST: look at what was printed since the last wait until TEST, a function that looks
# at $out, is content. Then that much counts as seen.
await() {
    local name=$1 test=$2 end=$((SECONDS + BOOT_PATIENCE)) size alive=1
    while :; do
        is_running "$name" || alive=0 # before the look, so that its last words are not missed
        size=$(stat -c %s "$TMP/$name.out")
        out=$(tail -c "+$((seen[$name] + 1))" "$TMP/$name.out" | head -c "$((size - seen[$name]))" |
            plain; echo x)
        out=${out%x}
        if "$test"; then
            seen[$name]=$size
            return 0
        fi
        [ "$alive" = 1 ] && [ "$SECONDS" -lt "$end" ] || break
        if [ "$SECONDS" -ge "${limit[$name]}" ]; then
            kill "${started[$name]}" 2>/dev/null
            [ "$test" = gone ] || break # its end takes a moment
        fi
        read -rt 0.02 <> <(:) || :
    done
    return 1
}

at_prompt() { [[ $'\n'$out == *$'\n'"$PROMPT" ]]; }
at_first_line() { [[ $out == *$'\n'* ]] && at_prompt; } # behind the echo of what was typed
at_pattern() { grep -qE -- "$expected" <<<"$out"; }

prompt() { await "$1" at_prompt; }

run() {
    send "$1" "$2"
    await "$1" at_first_line || return 1
    out=${out#*$'\n'}     # the echo
    out=${out%"$PROMPT"}
}

expect() {
    local expected=$2 before=${seen[$1]} met
    await "$1" at_pattern
    met=$?
    seen[$1]=$before
    return $met
}

gone() { [ "$alive" = 0 ]; } # it had ended before $out was read
ended() {
    local name=$1 fd=${keyboard[$1]}
    code=
    await "$name" gone || return 1
    wait "${started[$name]}"
    code=$?
    unset "started[$name]" "keyboard[$name]"
    exec {fd}>&-
}

# The end of a machine's console, for messages.
last_words() { { console "$1"; plain <"$TMP/$1.err"; } | tail -n 8 | tr '\n' '|' | cut -c1-800; }

check_prompt() {
    if prompt "$2"; then
        pass "$1"
    else
        fail "$1" "no prompt: $(last_words "$2")"
    fi
}

check_run() {
    local what=$1 name=$2 line=$3 pattern
    shift 3
    if ! run "$name" "$line"; then
        fail "$what" "no prompt after '$line': $(last_words "$name")"
        return
    fi
    for pattern; do
        if ! grep -qE -- "$pattern" <<<"$out"; then
            fail "$what" "'$line' printed no /$pattern/: $(tr '\n' '|' <<<"$out" | cut -c1-800)"
            return
        fi
    done
    pass "$what"
}

check_run_not() {
    if ! run "$2" "$3"; then
        fail "$1" "no prompt after '$3': $(last_words "$2")"
    elif grep -qE -- "$4" <<<"$out"; then
        fail "$1" "'$3' printed /$4/: $(tr '\n' '|' <<<"$out" | cut -c1-800)"
    else
        pass "$1"
    fi
}

check_out() {
    if grep -qE -- "$2" <<<"$out"; then
        pass "$1"
    else
        fail "$1" "no /$2/ in: $(tr '\n' '|' <<<"$out" | cut -c1-800)"
    fi
}

check_end() {
    if ! ended "$2"; then
        fail "$1" "it does not end: $(last_words "$2")"
    elif [ "$code" -ne "$3" ]; then
        fail "$1" "exit $code, expected $3: $(last_words "$2")"
    else
        pass "$1"
    fi
}

# build_stand_in OUT: the guest of tests/boot/stand_in.c
build_stand_in() {
    cc -m32 -O1 -ffreestanding -fno-pie -fno-stack-protector -nostdlib -static -Wl,--build-id=none \
        -Wl,-Ttext-segment=0x100000 -Wl,-e,start -o "$1" \
        "$BOOT_TESTS/stand_in.c"
}
