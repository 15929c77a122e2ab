#!/usr/bin/env bash
# Mixed I/O with verification on every kind of device at once, and no memory lost: some rounds here,
# ten minutes of them in `make soak`.
. "$(dirname "$0")/lib.sh"
need_image
BOOT_LIMIT=1200
seconds=10
[ -z "${SOAK:-}" ] || seconds=600
truncate -s 16M "$TMP/a.img"
qemu-img create -q -f qcow2 "$TMP/b.qcow2" 16M
mkdir -p "$TMP/share"
machine m -m 256M -smp 2 -drive "file=$TMP/a.img,format=raw,if=virtio" \
    -drive "file=$TMP/b.qcow2,format=qcow2,if=virtio" \
    -fsdev "local,id=f,path=$TMP/share,security_model=none" \
    -device virtio-9p-pci,fsdev=f,mount_tag=s -append 'vfs.fstab=[s:/share:9pfs]'
check_prompt "boots" m

jobs=(
    "bench vda --verify write --rw randwrite --bs 4k --depth 32 --threads 2"
    "bench vdb --verify write --rw randwrite --bs 64k --depth 8 --flush-every 100"
    "bench vda?mode=interrupt --verify write --rw write --bs 1M --depth 4"
    "bench vda?mode=poll --verify write --rw randwrite --bs 512 --depth 16 --size 4M"
    "bench cache?size=8M,vdb --verify write --rw randwrite --bs 4k --depth 8"
    "bench vfs:/dev/vda --verify write --rw randwrite --bs 8k"
    "bench zns?zone=1M&format=on,vda --verify write --rw write --bs 64k --depth 8 --threads 2"
    "bench syscall:/dev/vdb --verify write --rw write --bs 128k"
    "bench vfs:/share/x?create=8M --verify write --rw randwrite --bs 16k"
    "bench vfs:/x?create=16M --verify write --rw randwrite --bs 4k"
    "bench vda vdb --rw randrw --bs 4k --depth 16 --threads 2 --count 4000"
)
look() { # not in a subshell, which would forget what it has seen of the console
    run m mem
    used=$(grep -o 'used [0-9]*' <<<"$out" | cut -d' ' -f2)
}
rounds=0 bad=0 first=
end=$((SECONDS + seconds))
while [ "$SECONDS" -lt "$end" ] || [ "$rounds" -lt 2 ]; do
    for job in "${jobs[@]}"; do
        if ! run m "$job --seed $((rounds + 1))" || ! grep -qE 'IOPS' <<<"$out" ||
            grep -qE '[1-9][0-9]* damaged|error' <<<"$out"; then
            fail "round $rounds: $job" "$(tr '\n' '|' <<<"$out")$(last_words m)"
            bad=1
            break 2
        fi
    done
    rounds=$((rounds + 1))
    [ -n "$first" ] || { look && first=$used; } # what is made once is made now
done
check "$rounds rounds of ${#jobs[@]} jobs, all verified" test "$bad" = 0
look
check "no memory is lost ($first KiB after the first round, $used at the end)" test "$used" -le "$((first + 128))"
send m poweroff
check_end "it ends" m 0
check "the host's copy of the last pass of vdb" qemu-img check -q "$TMP/b.qcow2"
finish
