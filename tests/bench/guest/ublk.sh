#!/usr/bin/env bash
# The part of ublk.sh that runs in the guest. /dev/vda is a disk to be used.
set -u
rounds=$1 seconds=$2
all="null_blk ublk-null brd ublk-mem loop ublk-file loop-disk ublk-disk"
paths=${BENCH_PATHS:-$all}
jobs=${BENCH_JOBS:-"4k:randread:1:1 4k:randread:32:1 4k:randread:32:2 4k:randwrite:32:1
    4k:randwrite:32:2 128k:read:4:1 128k:write:4:1"}
memory=/dev/shm/bench disk=/mnt/bench
mkdir -p $memory $disk
for module in ublk_drv loop ext4; do modprobe $module; done
mkfs.ext4 -qF /dev/vda && mount /dev/vda $disk || exit
image() { # FILE: full of data
    [ -e "$1" ] || dd if=/dev/zero of="$1" bs=1M count=256 conv=fsync status=none
    echo "$1"
}
make_device() {
    case $1 in
    null_blk)
        modprobe null_blk gb=1 irqmode=0 queue_mode=2 submit_queues=2 hw_queue_depth=128
        echo /dev/nullb0
        ;;
    brd)
        modprobe brd rd_nr=1 rd_size=262144
        dd if=/dev/zero of=/dev/ram0 bs=1M count=256 oflag=direct status=none
        echo /dev/ram0
        ;;
    loop) losetup --direct-io=on --show -f "$(image $memory/loop)" ;;
    loop-disk) losetup --direct-io=on --show -f "$(image $disk/loop)" ;;
    ublk-null) serve null:1G ;;
    ublk-mem)
        made=$(serve mem:256M)
        dd if=/dev/zero of="$made" bs=1M count=256 oflag=direct status=none
        echo "$made"
        ;;
    ublk-file) serve "file:$(image $memory/file)" ;;
    ublk-disk) serve "file:$(image $disk/file)?direct=on" ;;
    esac
}
# UBLK_OPTIONS: of `ashlar serve ublk`
serve() { "$ASHLAR" serve ublk --queues 2 ${UBLK_OPTIONS:-} "$1"; }

declare -A device
for path in $paths; do
    device[$path]=$(make_device "$path")
    [ -b "${device[$path]}" ] || exit
done
echo "Linux $(uname -r); mode of ublk-disk: $("$ASHLAR" ublk list -v | awk '/^mode/ { m = $2 } END { print m }')"
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
done >$memory/figures
python3 - $memory/figures "$paths" "$jobs" <<'PY'
import statistics, sys
rows = {}
for line in open(sys.argv[1]):
    path, job, iops = line.split()
    rows.setdefault((path, job), []).append(float(iops))
pairs = {"ublk-null": "null_blk", "ublk-mem": "brd", "ublk-file": "loop", "ublk-disk": "loop-disk"}
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
losetup -D
umount $disk
