# What the tests of ublk in the guest share. Sourced.
. "$(dirname "$0")/../../integration/lib.sh"

nodes() { ls /dev | grep -E '^ublk[bc]' | tr '\n' ' '; }
no_nodes() { [ -z "$(nodes)" ]; }
value() { "$ASHLAR" ublk info "$1" --json | python3 -c "import json, sys; print(json.load(sys.stdin)['$2'])"; }
server() { value "$1" pid; }
queue() { cat "/sys/block/ublkb$1/queue/$2"; }
# The process is gone, or has only not been taken note of.
gone() { [ ! -e "/proc/$1" ] || grep -q '^State:.*Z' "/proc/$1/status"; }
serve() { "$ASHLAR" serve ublk "$@" 2>&1; }
