#!/usr/bin/env bash
# ashlar bench: every path, the outputs, verification across runs.
. "$(dirname "$0")/lib.sh"
bench() { "$ASHLAR" bench --dir "$TMP" "$@"; }

check "the standard set on every path" sh -c "
    '$ASHLAR' bench --dir '$TMP' --quick --size 16M --json '$TMP/a.json' --report '$TMP/a.html' \
        >'$TMP/table'"
check "the table has the figures" grep -qE 'mem: a disk in memory +[0-9.]+[kM]? IOPS' "$TMP/table"
check "our NBD server is among them" grep -qE 'ashlar serve nbd, memory +[0-9.]+[kM]? IOPS' "$TMP/table"
check "nothing is left behind" test -z "$(ls -d "$TMP"/ashlar-bench-* 2>/dev/null)"
check "JSON as documented" python3 - "$TMP/a.json" <<'PY'
import json, sys
d = json.load(open(sys.argv[1]))
assert d["schema"] == 1 and d["ashlar"] and d["date"].endswith("Z"), d
assert {"kernel", "cpu", "cpus", "memory_bytes"} <= set(d["machine"])
jobs, paths = [j["name"] for j in d["jobs"]], [p["name"] for p in d["paths"]]
assert len(jobs) == 10 and "mem" in paths and "nbdkit" in paths
assert all({"title", "figure", "block_bytes", "depth", "threads", "runtime_ns"} <= set(j) for j in d["jobs"])
seen = set()
for r in d["results"]:
    seen.add((r["path"], r["job"]))
    for figure in ("iops", "mbps"):
        s = r[figure]
        assert len(s["rounds"]) == d["rounds"]
        assert s["min"] <= s["median"] <= s["max"] and s["median"] > 0, r
    assert ("returned_bytes" in r) == r["job"].startswith("csd-"), r
    l = r["latency_ns"]
    assert l["p50"] <= l["p95"] <= l["p99"] <= l["p999"] <= l["max"]
    assert len(l["curve"]) == len(d["curve_ppm"])
missing = {p["name"] for p in d["paths"] if "unavailable" in p}
csd = lambda name: name.startswith("csd-") # questions, and the paths that answer them
assert seen == {(p, j) for p in paths if p not in missing for j in jobs if csd(p) == csd(j)}, (missing, seen)
answers = {(r["path"], r["job"]): r["returned_bytes"] for r in d["results"] if csd(r["job"])}
assert answers["csd-mem-native", "csd-filter"] == 4 << 20 and answers["csd-mem-checked", "csd-filter"] == 8, answers
assert all(n < 4096 for (p, j), n in answers.items() if not p.endswith("native")), answers
PY
if command -v chromium >/dev/null; then
    chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
        --disable-background-networking --disable-component-update --disable-sync \
        --user-data-dir="$TMP/chromium" --dump-dom "file://$TMP/a.html" >"$TMP/dom" 2>/dev/null
    check "the report opens in a browser" grep -q 'What each path to storage costs' "$TMP/dom"
    check "it has a bar for each figure" sh -c "
        [ \$(grep -o 'class=\"bar\"' '$TMP/dom' | wc -l) -eq \$(grep -c '\"latency_ns\"' '$TMP/a.json') ]"
    check "it has latency curves" grep -q '<polyline' "$TMP/dom"
    check "it loads nothing from elsewhere" sh -c "! grep -qE 'src=|href=|url\(|@import' '$TMP/a.html'"
else
    skip "the report in a browser" "chromium is not installed"
fi

check "compare with oneself" sh -c "
    '$ASHLAR' bench --quick --dir '$TMP' --size 16M --paths mem --compare '$TMP/a.json' |
        grep -qE '[0-9]+ faster, [0-9]+ slower, [0-9]+ the same'"
python3 - "$TMP/a.json" "$TMP/fast.json" 1000 <<'PY'
import json, sys
d = json.load(open(sys.argv[1]))
for r in d["results"]:
    for f in ("iops", "mbps"):
        for k in ("median", "min", "max"):
            r[f][k] *= float(sys.argv[3])
json.dump(d, open(sys.argv[2], "w"))
PY
check "compare says what is slower" sh -c "
    '$ASHLAR' bench --quick --dir '$TMP' --size 16M --paths mem --jobs randread-4k-qd1 \
        --compare '$TMP/fast.json' | grep -q '^slower: mem, 4 KiB random read, depth 1'"
echo '{"schema": 99}' >"$TMP/other.json"
check_fails "compare with something else" 1 'of this version' bench --quick --size 16M --paths null --compare "$TMP/other.json"
check_fails "compare with nothing" 1 'none.json' bench --quick --size 16M --paths null --compare "$TMP/none.json"
check_fails "JSON that cannot be written" 1 'cannot be written' bench --quick --size 16M --paths null --json /dev/full
check_fails "report that cannot be written" 1 'cannot be written' bench --quick --size 16M --paths null --report "$TMP/no/r.html"

# Given devices.
truncate -s 8M "$TMP/disk"
cp "$TMP/disk" "$TMP/before"
check "devices are only read by default" sh -c "
    '$ASHLAR' bench 'file:$TMP/disk' --quick && cmp '$TMP/disk' '$TMP/before'"
check "a job of one's own" sh -c "
    '$ASHLAR' bench mem:16M 'readonly,mem:16M' --rw randread --bs 8K --depth 8 --threads 2 --count 10000 |
        grep -q '^8 KiB randread, depth 8, 2 threads'"
check "mix, rate and flushes" bench "file:$TMP/disk" --rw randrw --mix 30 --rate 5000 --flush-every 10 --time 100ms
check_fails "an error of the device" 1 'write at [0-9]+ failed' bench readonly,mem:1M --rw write
check_fails "a device that is not there" 1 'no such file' bench "file:$TMP/none"
check_fails "a malformed device" 1 'unknown scheme' bench foo:1
check_fails "a job that does not fit" 1 'multiples of 512' bench mem:1M --bs 1000
check_fails "unknown pattern" 2 'randread' bench mem:1M --rw frob
check_fails "unknown path" 2 "no 'frob'" bench --paths frob
check_fails "mix without a mix" 2 'rw or randrw' bench mem:1M --mix 3
check_fails "size too small" 2 'at least 1M' bench --size 1K

# Verification, across runs.
disk="file:$TMP/disk"
check "fill" bench "$disk" --verify fill --seed 7 --rw randwrite --depth 8
check "check in a later run" bench "$disk" --verify check --seed 7 --depth 4
check "check in another order" bench "$disk" --verify check --seed 7 --rw randread --threads 2
check_fails "another seed is found out" 1 'lost at' bench "$disk" --verify check --seed 8
check_fails "a missing pass is found out" 1 'stale at' bench "$disk" --verify check --seed 7 --generation 2
dd if=/dev/zero of="$TMP/disk" bs=512 seek=33 count=1 conv=notrunc status=none
check_fails "a lost sector is found" 1 '1 of 2048 blocks are damaged; the first: corrupt at 16384' \
    bench "$disk" --verify check --seed 7
dd if="$TMP/disk" of="$TMP/disk" bs=4096 skip=100 seek=4 count=1 conv=notrunc status=none
check_fails "a moved block is found" 1 'misplaced at 16384' bench "$disk" --verify check --seed 7
check "write and check at once" bench "$disk" --verify write --seed 7 --generation 2

# A signal ends it, and nothing stays.
start run "$ASHLAR" bench --dir "$TMP" --size 64M --time 20s
wait_for sh -c "ls -d '$TMP'/ashlar-bench-*/nbd.sock"
kill -INT "$(pid_of run)"
wait "$(pid_of run)"
check "stopped by a signal" test $? -eq 1
check "its files are gone" test -z "$(ls -d "$TMP"/ashlar-bench-* 2>/dev/null)"
finish
