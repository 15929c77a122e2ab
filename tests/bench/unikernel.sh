#!/usr/bin/env bash
# The unikernel against a Linux guest on the same disks in the same QEMU set-up, and against
# qemu-img bench on the host. Interleaved rounds; medians. ROUNDS and SECONDS_EACH can be set.
set -eu
: "${ASHLAR:=build/ashlar}" "${ROUNDS:=5}" "${SECONDS_EACH:=2}"
json=$(mktemp "${TMPDIR:-/var/tmp}/ashlar-unikernel-XXXXXX")
trap 'rm -f "$json"' EXIT
"$ASHLAR" bench --rounds "$ROUNDS" --time "${SECONDS_EACH}s" --json "$json" \
    --paths unikernel-null,unikernel-null-irq,unikernel-vfs,unikernel-syscall,guest-linux-null,unikernel-file,unikernel-file-irq,guest-linux-file,qemu-img-file \
    --jobs randread-4k-qd1,randread-4k-qd32,read-1m-qd4
python3 - "$json" <<'END'
import json, sys
result = {(r["path"], r["job"]): r for r in json.load(open(sys.argv[1]))["results"]}


def ratio(title, ours, peer, job, figure, asked):
    a, b = result.get((ours, job)), result.get((peer, job))
    if not a or not b or "error" in a or "error" in b:
        print("%-62s no figures" % title)
        return
    r = a[figure]["median"] / b[figure]["median"]
    print("%-62s %6.2f  asked %s" % (title, r, asked))


print("\nratios of medians")
ratio("null disk, 4 KiB depth 1: unikernel to Linux guest", "unikernel-null", "guest-linux-null", "randread-4k-qd1", "iops", "5")
ratio("null disk, 4 KiB depth 32: unikernel to Linux guest", "unikernel-null", "guest-linux-null", "randread-4k-qd32", "iops", "5")
ratio("raw file, 4 KiB depth 32: unikernel to qemu-img bench", "unikernel-file", "qemu-img-file", "randread-4k-qd32", "iops", "0.85")
ratio("  by interrupts", "unikernel-file-irq", "qemu-img-file", "randread-4k-qd32", "iops", "-")
ratio("raw file, 1 MiB sequential: unikernel to Linux guest", "unikernel-file", "guest-linux-file", "read-1m-qd4", "mbps", "1")
ratio("VFS to raw, 4 KiB depth 1", "unikernel-vfs", "unikernel-null", "randread-4k-qd1", "iops", "-")
ratio("system calls to raw, 4 KiB depth 1", "unikernel-syscall", "unikernel-null", "randread-4k-qd1", "iops", "-")
END
# From the first instruction to the prompt, by the unikernel's own clock.
for _ in $(seq "$ROUNDS"); do
    (sleep 2 && printf 'poweroff\n' && sleep 1) | "$ASHLAR" boot --accel tcg --device null:1G 2>/dev/null |
        sed -n 's/^Ready after \([0-9.]*\) ms.*/\1/p'
done | sort -n | awk '{ v[NR] = $1 } END { if (NR) print "start to prompt under TCG: " v[int((NR + 1) / 2)] " ms, asked under 20" }'
