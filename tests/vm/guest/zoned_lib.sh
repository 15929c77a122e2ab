# What the tests of zoned devices in the guest share. Sourced.
. "$(dirname "$0")/ublk_lib.sh"

# A zoned null_blk disk with memory, /dev/NAME: zoned_disk NAME ATTRIBUTE=VALUE... Sizes in MiB.
zoned_disk() {
    local folder=/sys/kernel/config/nullb/$1 word
    [ -d /sys/module/null_blk ] || modprobe null_blk nr_devices=0
    mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
    mkdir "$folder" || return
    shift
    for word in zoned=1 memory_backed=1 blocksize=4096 "$@" power=1; do
        echo "${word#*=}" >"$folder/${word%=*}" || return
    done
    wait_for test -b "/dev/$(basename "$folder")"
}
remove_disk() { rmdir "/sys/kernel/config/nullb/$1"; }
