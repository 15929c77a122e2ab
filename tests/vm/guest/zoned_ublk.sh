. "$(dirname "$0")/zoned_lib.sh"
modprobe ublk_drv
cd "$TMP" || exit 1
seconds=${SOAK:+200} seconds=${seconds:-4}
spec='zns?zone=4M&cap=3M&conventional=4&max_open=6&max_active=8,file:disk?block=4096'
truncate -s 300M disk
new() { # a device anew, and served with these options
    rm -f disk && truncate -s 300M disk && serve "$spec" "$@"
}
again() { serve 'zns,file:disk?block=4096' "$@"; }
del() { "$ASHLAR" ublk del 0; }

# The zone with this number, in blkzone's words: wp_of counts 512 bytes from its start.
sector() { echo $(($1 * 8192)); }
zone() { blkzone report -o "$(sector "$1")" -c 1 /dev/ublkb0; }
state_of() { zone "$1" | sed 's/.*zcond:[ 0-9]*(\(..\)).*/\1/'; }
wp_of() { printf '%d\n' "$(zone "$1" | sed 's/.*wptr \(0x[0-9a-f]*\).*/\1/')"; }
is() { # ZONE STATE [WP]
    [ "$(state_of "$1")" = "$2" ] && { [ $# -lt 3 ] || [ "$(wp_of "$1")" = "$3" ]; }
}
act() { blkzone "$1" -o "$(sector "$2")" -c "${3:-1}" /dev/ublkb0; }
put() { # ZONE BLOCKS: 4 KiB blocks at its write pointer
    dd if=/dev/urandom of=/dev/ublkb0 bs=4096 count="$2" oflag=direct status=none \
        seek=$(($1 * 1024 + $(wp_of "$1") / 8))
}

# ---- what Linux sees -------------------------------------------------------------------------
check "a zoned device is served" test "$(new)" = /dev/ublkb0
zones=$(queue 0 nr_zones)
for fact in zoned=host-managed chunk_sectors=8192 max_open_zones=6 max_active_zones=8 \
    zone_append_max_bytes=262144 logical_block_size=4096 discard_max_bytes=0; do
    check "queue/$fact" test "$(queue 0 ${fact%=*})" = "${fact#*=}"
done
check "$zones zones, and the disk ends with the last" \
    test "$(blockdev --getsize64 /dev/ublkb0)" = $((zones * 4 << 20))
check "ublk info says so" test "$(value 0 zoned)-$(value 0 zone_size)-$(value 0 max_open_zones)-$(value 0 mode)" \
    = True-4194304-6-user-copy
check "all zones are reported" test "$(blkzone report /dev/ublkb0 | wc -l)" = "$zones"
check "the first are conventional" test "$(blkzone report -c 4 /dev/ublkb0 | grep -c '0(nw).*CONVENTIONAL')" = 4
check "the others are empty, of 3 MiB" test \
    "$(blkzone report -o 32768 /dev/ublkb0 | grep -c 'cap 0x001800, wptr 0x000000 .*1(em).*SEQ_WRITE_REQUIRED')" = $((zones - 4))
check "libzbd sees the same" test "$(zbd report /dev/ublkb0 | grep -c ', em, ')" = $((zones - 4))

# ---- zones are managed -----------------------------------------------------------------------
check "open" act open 4
check "explicitly open" is 4 oe 0
check "write" put 4 3
check "the write pointer moves" is 4 oe 24
check "close" act close 4
check "closed" is 4 cl 24
check "write again" put 4 1
check "implicitly open" is 4 oi 32
check "finish" act finish 4
check "full" is 4 fu
check "reset" act reset 4
check "empty" is 4 em 0
for i in 5 6 7; do put $i $i; done
check "zbd closes three" zbd close -ofst $((5 * 4 << 20)) -len $((3 * 4 << 20)) /dev/ublkb0
check "three are closed" test "$(state_of 5)$(state_of 6)$(state_of 7)" = clclcl
check "reset all" blkzone reset /dev/ublkb0
check "all are empty" test "$(blkzone report /dev/ublkb0 | grep -c '1(em)')" = $((zones - 4))

# ---- errors ----------------------------------------------------------------------------------
wrong() { # ERROR PATTERN ZONE BLOCK
    check_fails "$1" 1 "$2" dd if=/dev/zero of=/dev/ublkb0 bs=4096 count=1 oflag=direct seek=$(($3 * 1024 + $4))
    zone "$3" >zone # after an error the kernel wants a look
}
wrong "a write that is not at the write pointer" 'Input/output error' 4 1
put 4 768
check "written to the end of its capacity" is 4 fu
wrong "a write to a full zone" 'Input/output error|No space left' 4 768
check_fails "a conventional zone is not reset" 1 'BLKRESETZONE' act reset 0
for i in 5 6 7 8 9 10; do act open $i; done
check_fails "too many open zones: open" 1 'Too many references' act open 11
wrong "too many open zones: write" 'Too many references' 11 0
blkzone reset /dev/ublkb0
for i in 5 6 7 8 9 10 11 12; do put $i 1; done
wrong "too many active zones" 'Value too large' 13 0
check "no more than 6 are open" test "$(blkzone report /dev/ublkb0 | grep -c '(oi)')-$(blkzone report /dev/ublkb0 | grep -c '(cl)')" = 6-2
check "a zone is finished" act finish 5
check "then there is room" put 13 1

# What Linux is told is what the device is.
python3 - <(blkzone report /dev/ublkb0) <<'PYTHON' >theirs
import re, sys
names = {"nw": "conventional", "em": "empty", "oi": "implicitly open", "cl": "closed", "fu": "full"}
for line in open(sys.argv[1]):
    words = re.findall(r"(?:start:|len|cap|wptr) (0x[0-9a-f]+)", line)
    start, length, capacity, wp = (int(w, 16) * 512 for w in words)
    state = names[re.search(r"zcond:[ 0-9]*\((..)\)", line).group(1)]
    print(start, length, capacity, "-" if state in ("conventional", "full") else start + wp, state)
PYTHON
del
"$ASHLAR" zone report --json 'zns,file:disk?block=4096' >report.json
python3 - <<'PYTHON' >ours
import json
for z in json.load(open("report.json")):
    wp = "-" if z["state"] in ("conventional", "full") else z["write_pointer"]
    print(z["start"], z["length"], z["capacity"], wp, z["state"])
PYTHON
check "blkzone and ashlar zone report say the same" cmp theirs ours
check "of all states" test "$(cut -d ' ' -f 5- ours | sort -u | wc -l)" = 5

# ---- fio, with verification ------------------------------------------------------------------
verify() { # WHAT WORDS...
    local what=$1
    shift
    blkzone reset /dev/ublkb0
    check "fio: $what" timeout $((seconds * 10 + 120)) fio --name=x --filename=/dev/ublkb0 --direct=1 \
        --zonemode=zbd --offset=16m --verify=crc32c --verify_fatal=1 --verify_dump=0 --minimal \
        --output=/dev/null "$@"
}
new --queues 2 >path
verify "sequential, io_uring" --rw=write --bs=64k --iodepth=8 --size=64m --ioengine=io_uring
verify "random in zones, libaio, 4 open" --rw=randwrite --bs=4k --iodepth=32 --size=24m \
    --ioengine=libaio --max_open_zones=4 --randseed=$RANDOM
verify "two jobs, io_uring, again and again" --rw=randwrite --bsrange=4k-128k --iodepth=16 \
    --size=32m --numjobs=2 --offset_increment=64m --ioengine=io_uring --max_open_zones=3 \
    --time_based --runtime=$seconds --randseed=$RANDOM --fsync=64
verify "reads among writes" --rw=randrw --bs=16k --iodepth=16 --size=32m --ioengine=libaio \
    --max_open_zones=6 --randseed=$RANDOM
check "fio: conventional zones, anywhere" fio --name=x --filename=/dev/ublkb0 --direct=1 --rw=randwrite \
    --bs=4k --iodepth=16 --size=16m --ioengine=libaio --verify=crc32c --verify_fatal=1 --minimal --output=/dev/null
del

# ---- the server dies -------------------------------------------------------------------------
new >path
put 4 100
put 5 200
act finish 5
act open 6
dd if=/dev/ublkb0 of=before bs=1M skip=16 count=8 iflag=direct status=none
kill -9 "$(server 0)"
wait_for sh -c "'$ASHLAR' ublk list | grep -q dead"
del
check "served again after kill -9" test "$(again)" = /dev/ublkb0
check "zones are as they were" test "$(wp_of 4)-$(state_of 5)" = 800-fu
check "the data too" cmp before <(dd if=/dev/ublkb0 bs=1M skip=16 count=8 iflag=direct status=none)
check "and are written on" put 4 10
del

# A kill is like a power cut: what was flushed stays, and after a recovery Linux has to look.
again --recover queue >path
put 8 5
dd if=/dev/null of=/dev/ublkb0 conv=fsync,notrunc status=none
put 8 2
kill -9 "$(server 0)"
check "recovered while it is idle" "$ASHLAR" ublk recover 0
check_fails "a write where the lost ones ended" 1 'Input/output error' \
    dd if=/dev/zero of=/dev/ublkb0 bs=4096 count=1 oflag=direct seek=$((8 * 1024 + 7))
check "what was flushed is there, no more" test "$(wp_of 8)" = 40
check "it is written on from there" put 8 1
del

again --recover queue >path
fio --name=x --filename=/dev/ublkb0 --direct=1 --zonemode=zbd --offset=32m --rw=write --bs=64k \
    --iodepth=8 --size=128m --ioengine=libaio --time_based --runtime=30 --minimal --output=/dev/null 2>said &
fio=$!
busy() { blkzone report -o 73728 /dev/ublkb0 | grep -q '(oi)'; }
wait_for busy
kill -9 "$(server 0)"
check_fails "not with zones of another size" 1 'has zones of|zone size' \
    "$ASHLAR" ublk recover 0 'zns:mem:300M?zone=8M'
check_fails "nor with a device without zones" 1 'is not zoned' "$ASHLAR" ublk recover 0 mem:300M?block=4096
check_fails "nor with less active zones" 1 'less open or active' \
    "$ASHLAR" ublk recover 0 'zns?zone=4M&cap=3M&conventional=4&max_open=4&max_active=4,mem:300M?block=4096'
check "recovered under load" "$ASHLAR" ublk recover 0 'zns,file:disk?block=4096'
wait $fio
check "requests in flight failed, no more" grep -qE 'Input/output error|err= *5' said
check "what was written before is there" cmp before <(dd if=/dev/ublkb0 bs=1M skip=16 count=8 iflag=direct status=none | head -c 409600) -n 409600
blkzone report /dev/ublkb0 >report
check "it is written on" put 4 1
verify "after the recovery" --rw=randwrite --bs=16k --iodepth=8 --size=24m --ioengine=libaio --max_open_zones=4
del

# ---- refused ---------------------------------------------------------------------------------
refused() { # WHAT PATTERN WORDS...
    local what=$1 pattern=$2
    shift 2
    check_fails "refused: $what" 2 "$pattern" "$ASHLAR" serve ublk "$@"
}
refused "reissue" 'cannot be issued again' 'zns,file:disk?block=4096' --recover reissue
refused "another mode" 'needs the mode user-copy' 'zns,file:disk?block=4096' --mode copy
refused "another block size" 'block size must stay 512' 'zns:mem:64M?zone=4M' --block-size 4096
refused "zones of less than a page" 'powers of two from 4096' 'zns:mem:64M?zone=2K'
again >path
check_fails "it is not resized" 1 'is zoned|takes Linux 6.16' "$ASHLAR" ublk resize 0 64M
del
check "nothing is left" no_nodes
finish
