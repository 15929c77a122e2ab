. "$(dirname "$0")/ublk_lib.sh"
modprobe ublk_drv
modprobe ext4
cd "$TMP" || exit 1
mkdir mnt
load() { # NAME WORDS...
    local name=$1
    shift
    timeout 200 fio --name="$name" --filename=/dev/ublkb0 --direct=1 --ioengine=libaio --minimal \
        --output=/dev/null --rw=randwrite --bsrange=4k-64k --iodepth=64 --size=64m --norandommap \
        --verify_dump=0 "$@" >"$name.said" 2>&1 &
    fio=$!
}
busy() { # is the device at work?
    local before after
    before=$(awk '{ print $5 }' /sys/block/ublkb0/stat)
    sleep 0.2
    after=$(awk '{ print $5 }' /sys/block/ublkb0/stat)
    [ "$after" -gt "$before" ]
}
ended() { ! kill -0 "$1" 2>/dev/null || gone "$1"; }

# ---- killed under load, and recovered -----------------------------------------------------
truncate -s 64M disk
serve file:disk --recover reissue --name survivor --mode copy >/dev/null
load recovered --serialize_overlap=1 --verify=crc32c --verify_fatal=1 --verify_backlog=512 \
    --time_based --runtime=40 --fsync=100
wait_for busy
times=0
for ((i = 0; i < 10; i++)); do
    pid=$(server 0)
    kill -9 "$pid"
    if ! timeout 60 "$ASHLAR" ublk recover survivor >path; then
        timeout 60 "$ASHLAR" ublk del survivor # else fio would wait for ever
        break
    fi
    [ "$(cat path)" = /dev/ublkb0 ] && [ "$(server 0)" != "$pid" ] && wait_for busy && times=$((times + 1))
done
check "killed and recovered ten times under load" test "$times" = 10
wait $fio
code=$?
check "the application went on, no write was lost" test $code -eq 0
[ $code -eq 0 ] || tail -n 3 recovered.said
check "a recovered device ends well" "$ASHLAR" ublk del survivor
check "and is gone" no_nodes

for mode in get-data user-copy; do
    serve file:disk --recover reissue --mode $mode >/dev/null
    load "$mode" --verify=crc32c --serialize_overlap=1 --verify_fatal=1 --time_based --runtime=4
    wait_for busy
    kill -9 "$(server 0)"
    check "$mode: recovered" "$ASHLAR" ublk recover 0
    check "$mode: as it was" test "$(value 0 mode)" = $mode
    wait $fio
    check "$mode: no write was lost" test $? -eq 0
    "$ASHLAR" ublk del 0
done

# ---- other recoveries -----------------------------------------------------------------------
serve file:disk --recover queue >/dev/null
pid=$(server 0)
kill -9 "$pid"
wait_for test "$("$ASHLAR" ublk info 0 --json | grep -c quiesced)" = 1
check "it is quiesced" sh -c "'$ASHLAR' ublk list | grep -q quiesced"
timeout 60 dd if=/dev/ublkb0 of=/dev/null bs=4096 count=1 iflag=direct 2>/dev/null &
reader=$!
sleep 0.5
check "a read waits" kill -0 $reader
truncate -s 32M less
check_fails "not with a smaller device" 1 'smaller than what was served' "$ASHLAR" ublk recover 0 file:less
check_fails "nor with one that is not there" 1 'no such file' "$ASHLAR" ublk recover 0 file:none
check "recovered with another spec" "$ASHLAR" ublk recover 0 stats,file:disk
wait $reader
check "the read went on" test $? -eq 0
check_fails "no second recovery" 1 'is served, by process' "$ASHLAR" ublk recover 0
kill -9 "$(server 0)"
rm /run/ashlar/ublk/0.json
wait_for sh -c "'$ASHLAR' ublk list | grep -q quiesced"
check_fails "without a record" 1 'no record.*recover 0 DEVICE' "$ASHLAR" ublk recover 0
check "a quiesced device is deleted" timeout 30 "$ASHLAR" ublk del 0
check "and is gone" no_nodes
check_fails "recover of what is not there" 1 'no device|device 5' "$ASHLAR" ublk recover 5 mem:1M
serve file:disk >/dev/null
check_fails "recover of a device without" 1 'cannot be recovered' "$ASHLAR" ublk recover 0
"$ASHLAR" ublk del 0

# ---- ended under load -----------------------------------------------------------------------
times=0
for ((i = 0; i < 10; i++)); do
    serve file:disk --mode "$([ $((i % 2)) = 0 ] && echo copy || echo user-copy)" >/dev/null
    pid=$(server 0)
    load stopped --time_based --runtime=60
    wait_for busy
    kill -$([ $((i % 3)) = 0 ] && echo INT || echo TERM) "$pid"
    wait_for gone "$pid" && wait_for ended $fio && no_nodes && times=$((times + 1))
    wait $fio
    [ $? -ne 0 ] || echo "not ok - the application of $i must have seen an error"
done
check "SIGTERM or SIGINT under load, ten times, nothing left" test "$times" = 10

# What was written before a SIGTERM, through the page cache, is in the file.
for recover in none reissue; do
    serve file:disk --recover $recover >/dev/null
    pid=$(server 0)
    head -c 8M /dev/urandom >data
    dd if=data of=/dev/ublkb0 bs=1M status=none # not synced
    kill "$pid"
    wait_for gone "$pid"
    check "what the kernel cached is written back (recovery $recover)" cmp -n 8388608 data disk
done

# ---- a crash without recovery ---------------------------------------------------------------
serve file:disk >/dev/null
load crashed --time_based --runtime=60
wait_for busy
kill -9 "$(server 0)"
check "the application gets an error, and ends" wait_for ended $fio
wait $fio
check "not with success" test $? -ne 0
check "the disk is gone" wait_for test ! -e /dev/ublkb0
check "the device is dead" sh -c "'$ASHLAR' ublk list | grep -q dead"
check "and can be deleted" timeout 30 "$ASHLAR" ublk del 0
check "nothing is left" no_nodes
check "nor a record" sh -c '! ls /run/ashlar/ublk/* 2>/dev/null'

# ---- the server as a process ----------------------------------------------------------------
mkfs.ext4 -qF disk
serve file:disk --id 3 >/dev/null
pid=$(server 3)
check "its own mount namespace" test "$(readlink "/proc/$pid/ns/mnt")" != "$(readlink /proc/self/ns/mnt)"
check "the current folder is not in use" test "/proc/$pid/cwd/" -ef /
mount /dev/ublkb3 mnt
check "its own disk is not mounted there" sh -c "! grep -q ublkb3 /proc/$pid/mountinfo"
check "nobody holds its output" sh -c "readlink /proc/$pid/fd/1 | grep -q '/dev/null\$'"
serve mem:64M --id 4 >/dev/null
second=$(server 4)
check "nor the disk of another" sh -c "! grep -q ublkb3 /proc/$second/mountinfo"
echo hello >mnt/file
check "unmounted" umount mnt
check "the disk is free at once" "$ASHLAR" ublk del 3 4
serve file:disk >/dev/null
mount /dev/ublkb0 mnt
check "the file is there" grep -q hello mnt/file
kill -9 "$(server 0)"
check "a mounted disk whose server died is unmounted without a hang" timeout 60 umount mnt
wait_for test ! -e /dev/ublkb0
"$ASHLAR" ublk del 0

# A stuck device: the first SIGTERM waits for it, the second does not.
serve 'delay?write=120s,mem:64M' >/dev/null
pid=$(server 0)
dd if=/dev/zero of=/dev/ublkb0 bs=4096 count=1 oflag=direct 2>/dev/null &
sleep 0.5
kill "$pid"
sleep 1
check "SIGTERM waits for what is in flight" test -e "/proc/$pid"
kill "$pid"
check "a second one does not" wait_for gone "$pid"
wait
wait_for test ! -e /dev/ublkb0
check "what is left can be deleted" timeout 60 "$ASHLAR" ublk del 0

# Often.
for ((i = 0; i < 100; i++)); do
    "$ASHLAR" serve ublk null:1G >once || break
    "$ASHLAR" ublk del 0 || break
done
check "added and deleted 100 times" test "$i" -ge 100
check "nothing is left" no_nodes
finish
