#!/usr/bin/env bash
# ashlar bench: paths whose jobs run in guests. First with a stand-in for QEMU that speaks as the
# unikernel's shell does, or badly; then with a Linux guest, and with the image if it is there.
. "$(dirname "$0")/lib.sh"
image=${ASHLAR_IMAGE:-$(dirname "$ASHLAR")/ashlar.elf}
mkdir "$TMP/bin" "$TMP/place"
export TMPDIR=$TMP/place
echo image >"$TMP/stand_in.elf"
cat >"$TMP/bin/vm-run" <<'SH'
#!/bin/sh
[ "$1" = --accel-words ] && echo "-accel tcg -cpu max"
SH
cat >"$TMP/bin/qemu-system-x86_64" <<'PY'
#!/usr/bin/env python3
import json, os, sys, time
how = os.environ.get("STAND_IN", "good")
with open(os.environ["STAND_IN_LOG"], "a") as f:
    f.write(" ".join(sys.argv[1:]) + "\n")
    f.flush()
say = lambda text: (sys.stdout.write(text), sys.stdout.flush())
speed = {"vda?mode=poll": 200000, "vda?mode=interrupt": 160000, "vfs:/dev/vda": 125000,
         "syscall:/dev/vda": 100000}
def side(n, bs):
    return {"count": n, "bytes": n * bs, "mean": 5000, "p50": 4000, "p95": 7000, "p99": 8000,
            "p999": 9000, "max": 11000, "curve": [1000 + 500 * i for i in range(20)]}
say("\x1bcSeaBIOS\r\nAshlar\r\n")
if how == "mute":
    time.sleep(1000)
if how == "no-disk":
    sys.stderr.write("qemu-system-x86_64: first\nqemu-system-x86_64: -drive: no such disk\n")
    sys.exit(1)
say("Ready\r\nASHLAR> ")
for line in sys.stdin:
    words = line.split()
    for i in range(1, len(line)): # a line editor that draws it anew with each key
        say("\rASHLAR> " + line[:i] if i < 20 else line[i - 1])
    say("\r\n")
    if how == "hang" and "1048576" in line:
        time.sleep(1000)
    if how == "die":
        sys.stderr.write("guest error: out of virtue\n")
        sys.exit(1)
    if how == "flood":
        while True:
            say("x" * 65536)
    if words[0] != "bench":
        say("no such command\r\nASHLAR> ")
        continue
    options = dict(w[2:].split("=") for w in words[2:] if "=" in w)
    n = speed.get(words[1], 50000)
    bs = int(options["bs"])
    reads = "read" in words[words.index("--rw") + 1]
    a = {"device": words[1], "elapsed_ns": 1000000000, "read": side(n if reads else 0, bs),
         "write": side(0 if reads else n, bs), "flushes": 0, "errors": 0, "error": ""}
    if how == "error":
        a.update(error="vda: read at 4096 failed: I/O error", errors=1)
    if how == "negative":
        a["read"]["count"] = -1
    text = json.dumps(a)
    if how == "torn":
        text = text[:200]
    say("BENCH of what\r\n" if how == "none" else "note\r\nBENCH " + text + "\r\n")
    say("ASHLAR> ")
PY
chmod +x "$TMP/bin/"*
log=$TMP/qemu.log
bench() { # STAND_IN ARGUMENT...
    local how=$1
    shift
    : >"$log"
    STAND_IN=$how STAND_IN_LOG=$log ASHLAR_IMAGE=$TMP/stand_in.elf ASHLAR_VM_RUN=$TMP/bin/vm-run \
        PATH=$TMP/bin:$PATH timeout 200 "$ASHLAR" bench --dir "$TMP/place" --size 4M --quick "$@"
}
nothing_left() {
    local file
    [ -z "$(ls -A "$TMP/place")" ] || return
    for file in /proc/[0-9]*/cmdline; do
        ! tr '\0' ' ' <"$file" | grep -qE "^[^ ]*(python3|qemu)[^ ]* .*$TMP/(bin|plac[e])/" || return
    done 2>/dev/null
    return 0
}

all=unikernel-null,unikernel-null-irq,unikernel-vfs,unikernel-syscall,unikernel-file
all=$all,unikernel-file-irq,unikernel-ramfs,unikernel-9p
check "all paths of the unikernel" bench good --paths $all --json "$TMP/a.json" --report "$TMP/a.html"
cp "$log" "$TMP/words"
check "they hand over all figures" python3 - "$TMP/a.json" <<'PY'
import json, sys
d = json.load(open(sys.argv[1]))
assert not [p for p in d["paths"] if "unavailable" in p], d["paths"]
assert len(d["results"]) == 8 * len(d["jobs"]) == 64
for r in d["results"]:
    want = {"unikernel-null": 200000, "unikernel-file": 200000, "unikernel-null-irq": 160000,
            "unikernel-file-irq": 160000, "unikernel-vfs": 125000, "unikernel-syscall": 100000}
    assert r["iops"]["median"] == want.get(r["path"], 50000), r
    l = r["latency_ns"]
    assert [l[k] for k in ("mean", "p50", "p95", "p99", "p999", "max")] == \
        [5000, 4000, 7000, 8000, 9000, 11000], l
    assert l["curve"] == [1000 + 500 * i for i in range(20)], l
    mb = r["iops"]["median"] * {"4": 4096, "6": 65536, "1": 1 << 20}[r["job"].split("-")[1][0]] / 1e6
    assert abs(r["mbps"]["median"] - mb) < 1, r
PY
check "one machine for a path" test "$(wc -l <"$TMP/words")" -eq 8
check "of the same kind" test "$(grep -c -- '-accel tcg -cpu max -machine q35 -m 256M ' "$TMP/words")" -eq 8
check "four on a null disk" test "$(grep -c 'driver=null-co,size=4194304,read-zeroes=off' "$TMP/words")" -eq 4
check "two on a raw file" test "$(grep -c 'guest.img,format=raw,cache=none,aio=io_uring' "$TMP/words")" -eq 2
check "one with a folder" grep -q 'path=[^ ]*/share,.*mount_tag=share' "$TMP/words"
check "which it mounts" grep -qF 'console=ttyS0 vfs.fstab=[share:/share:9pfs:rw]' "$TMP/words"
said() { grep -qF -- "$1" "$TMP/a.html"; }
check "the report answers" said '<h2>What the layers in the unikernel cost</h2>'
check "what system calls cost" said \
    'system calls (on /dev/vda): 4 KiB random read, depth 1: 100k IOPS, raw 200k IOPS: <strong>5.00 us a request more</strong> (50 % of raw)'
check "what the VFS costs" said '125k IOPS, raw 200k IOPS: <strong>3.00 us a request more</strong>'
check "what 9P costs" said 'A file over 9P'
check "no sentence without its peer" sh -c "! grep -qE 'Against others|a Linux guest|qemu-img bench \(' '$TMP/a.html'"
check "nothing stays" nothing_left

ASHLAR_IMAGE=$TMP/none.elf "$ASHLAR" bench --dir "$TMP/place" --quick --size 4M --paths null,unikernel-null \
    --report "$TMP/b.html" >"$TMP/out" 2>&1
check "no image" grep -q 'not measured: unikernel-null: the image ashlar.elf is not there' "$TMP/out"
check "no answers in the report then" sh -c "! grep -q 'What the layers' '$TMP/b.html'"
one() { bench "$1" --paths unikernel-null --jobs "${2:-randread-4k-qd1}"; }
check_fails "an error of the guest's disk" 1 'unikernel-null: 4 KiB random read, depth 1: vda: read at 4096 failed' one error
check_fails "figures that cannot be" 1 'not as they must be' one negative
check_fails "half an answer" 1 'not JSON' one torn
check_fails "an answer without figures" 1 'has no figures: BENCH of what' one none
check_fails "the guest dies" 1 'the unikernel ended: guest error: out of virtue' one die
check_fails "it does not stop talking" 1 'says too much' one flood
one no-disk >"$TMP/out" 2>&1
check "QEMU does not start" grep -q 'not measured: unikernel-null: the unikernel ended: .*no such disk' "$TMP/out"
one mute >"$TMP/out" 2>&1
check "it never shows its prompt" grep -q 'not measured: unikernel-null: no answer in time' "$TMP/out"
check_fails "it never answers, other jobs do" 1 '1 MiB sequential read, depth 4: no answer in time' \
    one hang randread-4k-qd1,read-1m-qd4
check_fails "a job that guests do not do" 1 'verify' bench good --paths unikernel-null --verify write
check "nothing stays of these" nothing_left

for signal in INT KILL; do
    : >"$log"
    start run env STAND_IN=good STAND_IN_LOG="$log" ASHLAR_IMAGE="$TMP/stand_in.elf" \
        ASHLAR_VM_RUN="$TMP/bin/vm-run" PATH="$TMP/bin:$PATH" \
        "$ASHLAR" bench --dir "$TMP/place" --size 4M --paths mem,unikernel-null --time 20s
    wait_for grep -q . "$log"
    kill -$signal "$(pid_of run)"
    wait "$(pid_of run)" 2>/dev/null
    [ $signal = INT ] || rm -rf "$TMP/place/"* # it had no chance
    check "SIG$signal, and nothing stays" wait_for nothing_left
done

# Others on the raw file; Linux in a guest.
if command -v qemu-img >/dev/null; then
    check "qemu-img bench" "$ASHLAR" bench --dir "$TMP/place" --quick --size 16M --paths qemu-img-file --json "$TMP/c.json"
    check "has figures for all jobs, and no latencies" python3 - "$TMP/c.json" <<'PY'
import json, sys
d = json.load(open(sys.argv[1]))
assert len(d["results"]) == 8, d
for r in d["results"]:
    assert r["iops"]["median"] > 10 and r["latency_ns"]["p50"] == 0 < r["latency_ns"]["mean"], r
PY
    check_fails "a mix is not for it" 1 'knows no such job' "$ASHLAR" bench --dir "$TMP/place" --size 4M --paths qemu-img-file --rw randrw
else
    skip "qemu-img bench" "it is not installed"
fi
vm_run=$(dirname "$0")/../vm/run
if "$vm_run" --fetch 2>"$TMP/err"; then
    check "a Linux guest" timeout 300 "$ASHLAR" bench --dir "$TMP/place" --quick --size 16M \
        --paths guest-linux-null,guest-linux-file --json "$TMP/d.json"
    check "its figures" python3 - "$TMP/d.json" <<'PY'
import json, sys
d = json.load(open(sys.argv[1]))
assert not [p for p in d["paths"] if "unavailable" in p], d["paths"]
assert len(d["results"]) == 16, d["results"]
for r in d["results"]:
    l = r["latency_ns"]
    assert r["iops"]["median"] > 1 and 0 < l["p50"] <= l["p95"] <= l["p99"] <= l["p999"] <= l["max"], r
    assert l["curve"] == sorted(l["curve"]) and len(l["curve"]) == 20, r
PY
    check "a mix with a rate there" timeout 300 "$ASHLAR" bench --dir "$TMP/place" --size 16M --paths guest-linux-null \
        --rw randrw --mix 30 --bs 8K --depth 4 --threads 2 --rate 1000 --time 500ms
    check "nothing stays of Linux" nothing_left
else
    skip "a Linux guest" "no kernel: $(tail -n 1 "$TMP/err")"
fi
if [ -f "$image" ]; then
    ASHLAR_IMAGE=$image timeout 300 "$ASHLAR" bench --dir "$TMP/place" --quick --size 16M --paths $all \
        --json "$TMP/e.json" >"$TMP/out" 2>&1
    check "the unikernel itself" python3 - "$TMP/e.json" <<'PY'
import json, sys
d = json.load(open(sys.argv[1]))
assert not [p for p in d["paths"] if "unavailable" in p], d["paths"]
assert len(d["results"]) == 64 and all(r["iops"]["median"] > 1 for r in d["results"]), d["results"]
PY
else
    skip "the unikernel itself" "$image is not built"
fi
finish
