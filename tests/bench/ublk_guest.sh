#!/usr/bin/env bash
# The part of ublk.sh that runs in the guest.
set -u
rounds=$1 seconds=$2
work=/dev/shm/bench
mkdir $work
truncate -s 512M $work/loop.img $work/file.img
for f in loop file; do dd if=/dev/zero of=$work/$f.img bs=1M count=512 status=none; done
modprobe -r null_blk brd
modprobe null_blk nr_devices=1 gb=1 irqmode=0 queue_mode=2 submit_queues=2 hw_queue_depth=128
modprobe brd rd_nr=1 rd_size=524288
dd if=/dev/zero of=/dev/ram0 bs=1M count=512 status=none
sync
declare -A device=([null_blk]=/dev/nullb0 [brd]=/dev/ram0)
device[loop]=$(losetup --direct-io=on --show -f $work/loop.img)
device[ublk-null]=$("$ASHLAR" serve ublk null:1G ${UBLK_OPTIONS:-})
device[ublk-mem]=$("$ASHLAR" serve ublk mem:512M ${UBLK_OPTIONS:-})
device[ublk-file]=$("$ASHLAR" serve ublk "file:$work/file.img" ${UBLK_OPTIONS:-})
dd if=/dev/zero of=${device[ublk-mem]} bs=1M count=512 oflag=direct status=none
paths=${BENCH_PATHS:-"null_blk ublk-null brd ublk-mem loop ublk-file"}
jobs=${BENCH_JOBS:-"4k:randread:1:1 4k:randread:32:1 4k:randread:32:2 4k:randwrite:32:1 4k:randwrite:32:2 128k:read:4:1 128k:write:4:1"}
for ((round = 1; round <= rounds; round++)); do
    for job in $jobs; do
        IFS=: read -r bs rw depth threads <<<"$job"
        for path in $paths; do
            fio --name=x --filename="${device[$path]}" --direct=1 --ioengine=io_uring --rw="$rw" \
                --bs="$bs" --iodepth="$depth" --numjobs="$threads" --thread --group_reporting \
                --norandommap --time_based --runtime="$seconds" --output-format=terse \
                --terse-version=3 2>/dev/null |
                awk -F ';' -v p="$path" -v j="$job" '/^3;/ { print p, j, $8 + $49 }'
        done
    done
done >$work/figures
python3 - "$work/figures" "$paths" "$jobs" <<'PY'
import statistics, sys
rows = {}
for line in open(sys.argv[1]):
    path, job, iops = line.split()
    rows.setdefault((path, job), []).append(float(iops))
pairs = {"ublk-null": "null_blk", "ublk-mem": "brd", "ublk-file": "loop"}
for job in sys.argv[3].split():
    bs, rw, depth, threads = job.split(":")
    print(f"{bs} {rw}, depth {depth}, {threads} job{'s' if threads != '1' else ''} (IOPS)")
    for path in sys.argv[2].split():
        v = rows.get((path, job))
        if not v:
            print(f"  {path:10} no figures")
            continue
        m, peer = statistics.median(v), rows.get((pairs.get(path), job))
        ratio = f"{m / statistics.median(peer):5.2f} x {pairs[path]}" if peer else ""
        print(f"  {path:10} {m:9.0f}  ({min(v):.0f} to {max(v):.0f})  {ratio}")
PY
"$ASHLAR" ublk del --all
