. "$(dirname "$0")/ublk_lib.sh"
cd "$TMP" && chmod 755 . || exit 1
udevd=
for file in /lib/systemd/systemd-udevd /usr/lib/systemd/systemd-udevd; do
    [ ! -x $file ] || udevd=$file
done
if [ -z "$udevd" ]; then
    skip "devices of users" "udev is not installed"
    finish
fi
ln -s "$ASHLAR" /usr/local/bin/ashlar
rules=$(dirname "$ASHLAR")/60-ashlar-ublk.rules
mkdir -p /etc/udev/rules.d
sed "s#[^\"]*/ashlar ublk owner#/usr/local/bin/ashlar ublk owner#" "$rules" >/etc/udev/rules.d/60-ashlar-ublk.rules
$udevd --daemon || fail "udevd" "does not start"
modprobe ublk_drv
udevadm trigger && udevadm settle
check "the control device lets users in" test "$(stat -c %a /dev/ublk-control)" = 666
check "the rules are installed" grep -q 'ublk owner' "$rules"

user() { setpriv --reuid 1000 --regid 1000 --clear-groups --inh-caps=-all env -u XDG_RUNTIME_DIR HOME=/ "$@"; }
other() { setpriv --reuid 1001 --regid 1001 --clear-groups --inh-caps=-all "$@"; }
check_fails "without --unprivileged" 1 'CAP_SYS_ADMIN\), or with --unprivileged' \
    user "$ASHLAR" serve ublk mem:64M
path=$(user "$ASHLAR" serve ublk mem:64M --unprivileged --name mine)
check "a device of a user" test "$path" = /dev/ublkb0
check "is his" test "$(stat -c %u:%g:%a /dev/ublkb0)" = 1000:1000:600
check "and its other node" test "$(stat -c %u:%g:%a /dev/ublkc0)" = 1000:1000:600
check "its server is his" test "$(stat -c %u "/proc/$(value 0 pid)")" = 1000
check "list" sh -c "$(declare -f user); user '$ASHLAR' ublk list | grep -q 'live.*mine.*mem:64M'"
check "info" sh -c "$(declare -f user); user '$ASHLAR' ublk info mine | grep -qE '^owner +uid 1000, gid 1000$'"
head -c 8M /dev/urandom >data && chmod 644 data
check "he writes" user dd if=data of=/dev/ublkb0 bs=64k oflag=direct status=none
check "and reads" user cmp -n 8388608 data /dev/ublkb0
check "fio verifies it" user fio --name=x --filename=/dev/ublkb0 --direct=1 --ioengine=libaio \
    --rw=randwrite --bsrange=4k-128k --iodepth=32 --size=32m --verify=crc32c --verify_dump=0 \
    --minimal --output=/dev/null --runtime=5 --allow_mounted_write=1
check_fails "another user does not read it" 1 'Permission denied' other dd if=/dev/ublkb0 of=/dev/null bs=4096 count=1
check_fails "nor delete it" 1 "another's" other "$ASHLAR" ublk del 0
check "it is not in his list" test -z "$(other "$ASHLAR" ublk list | grep live)"
check_fails "no user copy" 2 'neither user nor zero copy' user "$ASHLAR" serve ublk mem:1M --unprivileged --mode user-copy
check_fails "no recovery" 1 'USER_RECOVERY' user "$ASHLAR" serve ublk mem:1M --unprivileged --recover reissue
check "root sees it" sh -c "'$ASHLAR' ublk list | grep -q live"
check "a second one" test "$(user "$ASHLAR" serve ublk null:1G --unprivileged --mode get-data)" = /dev/ublkb1
check "read by him" user dd if=/dev/ublkb1 of=/dev/null bs=64k count=16 status=none
check "deleted by him, by name" user "$ASHLAR" ublk del mine
check "and by root" "$ASHLAR" ublk del 1
check "nothing is left" no_nodes
check "a device of root is root's" sh -c "'$ASHLAR' serve ublk null:1G >/dev/null && udevadm settle && stat -c %u:%g /dev/ublkb0 | grep -q ^0:"
"$ASHLAR" ublk del 0
udevadm control --exit
finish
