#!/usr/bin/env bash
# ashlar boot on the host: QEMU's command line, devices, folders, programs, acceleration, the exit
# status, and what is left behind. The guest is tests/boot/stand_in.c.
. "$(dirname "$0")/../boot/lib.sh"
cd "$TMP" || exit 1
export TMPDIR=$TMP/tmp
mkdir "$TMPDIR"
export ASHLAR_IMAGE=$TMP/stand_in.elf
check "the guest builds" build_stand_in "$ASHLAR_IMAGE"

words() { "$ASHLAR" boot --accel tcg --print "$@" </dev/null; }
prints() { # WHAT TEXT ARG...: a line of --print holds TEXT
    local what=$1 text=$2 got
    shift 2
    got=$(words "$@" 2>&1)
    if grep -qF -- "$text" <<<"$got"; then
        pass "$what"
    else
        fail "$what" "no '$text' in: $(tr '\n' ' ' <<<"$got")"
    fi
}
guest() { timeout 60 "$ASHLAR" boot --accel "$ASHLAR_ACCEL" "$@" </dev/null; }
status() { # WHAT CODE ARG...: the exit status of a run
    local what=$1 expected=$2 got
    shift 2
    got=$(guest "$@" 2>&1)
    code=$?
    if [ "$code" -eq "$expected" ]; then
        pass "$what"
    else
        fail "$what" "exit $code, expected $expected: $(tail -n 5 <<<"$got" | tr '\n' '|')"
    fi
}
line_is() { # WHAT LINE ARG...: the kernel command line that the guest prints
    local what=$1 line=$2 got
    shift 2
    got=$(guest "$@" 2>&1 | sed -n 's/^cmdline: //p')
    if [ "$got" = "$line" ]; then
        pass "$what"
    else
        fail "$what" "'$got', expected '$line'"
    fi
}
refuses() { # WHAT CODE PATTERN ARG...
    local what=$1 expected=$2 pattern=$3
    shift 3
    check_fails "$what" "$expected" "$pattern" "$ASHLAR" boot --accel tcg --print "$@"
}

# Status.
for machine in q35 pc microvm; do
    for n in 1 101 127; do
        want=$n
        status "$machine: status $n" $want --machine $machine --append "do=status:$n"
    done
    status "$machine: power off" 0 --machine $machine --append "do=poweroff $machine"
done
status "status 0 by the port is QEMU's own failure" 1 --append do=status:0
check_fails "a reset is a failure" 1 'machine was reset' guest --exec x --append do=reset
status "a reset from the prompt is none" 0 --append do=reset
check_fails "QEMU's own message" 1 'Could not open|failed to get|is not' \
    guest --device "qcow2:$ASHLAR_IMAGE" --append do=poweroff
status "more memory and processors" 6 --memory 100M --cpus 2 --append do=status:6

# The kernel command line.
line_is "plain" "console=ttyS0 do=poweroff" --append do=poweroff
line_is "commands" 'console=ttyS0 exec="ls; cat \"a b\" \\; \\$x" do=poweroff' \
    --exec 'ls; cat "a b" \; \$x' --append do=poweroff
line_is "interactive" 'console=ttyS0 exec=ls interactive do=poweroff' \
    --exec ls --interactive --append do=poweroff
mkdir -p "$TMP/d,1" "$TMP/d:ro" "$TMP/d"
# A folder named "d:ro" is one; without it that is "d", read-only.
line_is "folders" 'console=ttyS0 vfs.fstab=[share0:/share:9pfs:rw share1:/share1:9pfs:rw share2:/data:9pfs:rw share3:/x/y:9pfs:ro share4:/share4:9pfs:rw] do=poweroff' \
    --share "$TMP/d,1" --share d:ro --share "$TMP/d,1:/data" --share d:/x/y:ro --share ./d:ro \
    --append do=poweroff
rmdir "$TMP/d:ro"
line_is "a folder, read-only" 'console=ttyS0 vfs.fstab=[share0:/share:9pfs:ro] do=poweroff' \
    --share d:ro --append do=poweroff
eval "printed=\$($(words --exec "it's \"q\" \\ ; x" --append do=poweroff) </dev/null)"
check "--print can be pasted" test "$(plain <<<"$printed")" = \
    'cmdline: console=ttyS0 exec="it'"'"'s \"q\" \\ ; x" do=poweroff'
refuses "--append with an open quote" 2 'does not end' --append 'a="b'
refuses "a command line that is too long" 2 'over 4095 bytes' --exec "$(printf '%5000s' x)"
refuses "--app and --exec" 2 'not both' --exec y --app x
refuses "a word too many" 2 '--device' disk.img

# Devices.
truncate -s 1M 'we,i"r=d %41.img'
prints "a file" '"driver":"raw"' --device 'we,i"r=d %41.img'
prints "its name as it is" '"filename":"we,i\"r=d %41.img"' --device 'we,i"r=d %41.img'
prints "decoded in a spec" '"filename":"we,i\"r=d %41.img"' --device 'file:we,i"r=d %2541.img'
status "QEMU opens it" 0 --device 'we,i"r=d %41.img' --append do=poweroff
qemu-img create -q -f qcow2 q.img 1G
prints "a QCOW2 image is recognised" '"driver":"qcow2"' --device q.img
prints "but not if it is said to be raw" '"driver":"raw"' --device file:q.img
prints "qcow2:" '"driver":"qcow2","read-only":true,"discard":"unmap","cache":{"direct":true}' \
    --device 'readonly,qcow2:q.img?direct=on'
prints "direct" '"cache":{"direct":true}}' --device 'file:q.img?direct=on'
prints "not direct" '"cache":{"direct":false}}' --device file:q.img
prints "block size" 'drive=disk0,num-queues=1,logical_block_size=4096,physical_block_size=4096' \
    --device 'file:q.img?block=4K'
prints "null" '"driver":"null-co","size":1073741824' --device null:1G
prints "another device is served" "--export 'disk1=stats,mem:1M'" \
    --device null:1G --device stats,mem:1M
prints "a queue for each processor" 'drive=disk0,num-queues=3' --device null:1G --cpus 3
prints "the second disk" 'virtio-blk-pci,drive=disk1' --device null:1G --device null:2G
if [ -w /dev/loop-control ] && loop=$(losetup -f --show q.img 2>/dev/null); then
    prints "a block device" '"driver":"host_device"' --device "$loop"
    losetup -d "$loop"
else
    skip "a block device" "no loop devices"
fi
created="file:new.img?create=2M"
words --device "file:q.img?create=2M" >/dev/null
check_fails "--print creates nothing" 1 'no such file' "$ASHLAR" boot --accel tcg --print --device "$created"
status "create=" 0 --device "$created" --append do=poweroff
check "made it" test "$(stat -c %s new.img)" = 2097152
refuses "no such file" 1 'no such file' --device none.img
refuses "a folder" 1 'neither a file' --device d
refuses "an unknown option" 2 "unknown option 'blok'; there are: block, create, direct" --device 'file:q.img?blok=1'
refuses "a bad switch" 2 'must be on or off' --device 'file:q.img?direct=maybe'
refuses "a bad block size" 2 'block must be' --device 'null:1G?block=1000'
refuses "a bad size" 2 'the size must be' --device null:x
refuses "an empty device" 2 'is empty' --device readonly,
refuses "too many devices" 2 'more than 24' $(printf -- '--device null:1M %.0s' {1..25})
check_fails "a device that cannot be opened" 1 'no such file' guest --device stats,file:none.img
check_fails "a malformed one" 2 "unknown option" guest --device 'stats,mem:1M?blok=1'
check_fails "the statistics of a served device" 9 'disk1: stats: read' \
    guest --device null:1M --device stats,mem:1M --append do=status:9
printf -- 'x' >flushed.img && truncate -s 1M flushed.img
status "filters over a file" 0 --device slice?size=64K,file:flushed.img --device readonly,mem:1M \
    --append do=poweroff

disks() { guest --append "do=disks $1" --machine "$1" --device null:1M --share d --device mem:1M | sed 1d; }
check "pc: devices in order" test "$(disks pc | awk '{ printf "%s ", $4 }')" = "00001001 00001001 00001009 "
# Its transports are found from the last one on.
check "microvm: devices in order" test "$(disks microvm | tac | tr '\n' ' ')" = "virtio mmio 00000017 00000002 \
version 00000002 virtio mmio 00000016 00000002 version 00000002 virtio mmio 00000015 00000009 version 00000002 "

refuses "a folder that is not there" 1 'No such file' --share none
refuses "a file for a folder" 1 'not a folder' --share q.img
refuses "a bad mount point" 2 'mount point' --share 'd:/a b'

# Programs.
cat >prog.s <<'S'
.globl _start
_start: mov $60, %eax
        xor %edi, %edi
        syscall
S
cc -nostdlib -static -o 'my prog' prog.s
cc -nostdlib -static-pie -o pie prog.s
cc -nostdlib -shared -x c -o lib.so - <<<'int f(void) { return 0; }'
cc -c -o object.o prog.s
cc -x c -o dynamic - <<<'int main(void) { return 0; }'
cc -m32 -nostdlib -static -x c -o small - <<<'void _start(void) { for (;;); }'
guest --append do=initrd --app './my prog' >archive 2>/dev/null
sed 1d archive | cpio -itv >list 2>/dev/null
check "the archive" test "$(awk '{ print $1, $NF }' list | tr '\n' ' ')" = \
    "drwxr-xr-x bin drwxr-xr-x dev drwxrwxrwt tmp -rwxr-xr-x prog "
(mkdir unpacked && cd unpacked && sed 1d ../archive | cpio -idu --no-absolute-filenames 2>/dev/null)
check "the program in it" cmp 'my prog' 'unpacked/bin/my prog'
line_is "its name and arguments" "console=ttyS0 app=\"'/bin/my prog' a 'b c' '' 'it'\\\\''s' --help -x -- --print\" do=poweroff" \
    --append do=poweroff --app './my prog' a 'b c' '' "it's" --help -x -- --print 2>/dev/null
refuses "no program" 1 'no such file' --app ./none
refuses "a folder as a program" 1 'not a file' --app d
refuses "a text as a program" 1 'not an ELF' --app prog.s
refuses "a dynamic program" 1 'dynamically linked' --app ./dynamic
refuses "a program for i386" 1 'not a program for x86-64' --app ./small
refuses "a shared library" 1 'a shared library' --app ./lib.so
refuses "an object" 1 'not linked' --app ./object.o
prints "a static-pie program" "/bin/pie" --app ./pie
head -c 100 'my prog' >cut
refuses "a program cut short" 1 'cut short' --app ./cut
for at in 16 18 54 56 32; do # type, machine, sizes of the header table, its offset
    cp 'my prog' broken
    printf '\377\377\377\377\377\377\377\177' | head -c $((at == 32 ? 8 : 2)) |
        dd of=broken bs=1 seek=$at conv=notrunc status=none
    refuses "a header broken at $at" 1 '--app ./broken: ' --app ./broken
done
prints "a program inside an initramfs" 'app="/x/prog a"' --initrd archive --app /x/prog a
refuses "no initramfs" 1 'no such file' --initrd none

# The image.
check_fails "no image" 1 'no unikernel image at nowhere' "$ASHLAR" boot --print --accel tcg --image nowhere
check_fails "no image by the environment" 1 'which ASHLAR_IMAGE names' \
    env ASHLAR_IMAGE=nowhere "$ASHLAR" boot --print --accel tcg
mkdir -p bin lib/ashlar
cp "$ASHLAR" bin/ashlar
check_fails "no image anywhere" 1 'neither .*bin/ashlar.elf nor .*lib/ashlar/ashlar.elf' \
    env -u ASHLAR_IMAGE bin/ashlar boot --print --accel tcg
cp "$ASHLAR_IMAGE" lib/ashlar/ashlar.elf
check "the image that is installed" sh -c \
    'env -u ASHLAR_IMAGE bin/ashlar boot --print --accel tcg | grep -q "bin/../lib/ashlar/ashlar.elf"'
cp "$ASHLAR_IMAGE" bin/ashlar.elf
check "the image beside the command" sh -c \
    'env -u ASHLAR_IMAGE bin/ashlar boot --print --accel tcg | grep -q "bin/ashlar.elf"'
rm -r bin

# Acceleration, with a QEMU that answers as it is told.
mkdir fake
fake() { # BODY: what it does instead, for KVM
    printf '#!/bin/sh\ncase "$*" in *"-accel kvm"*) %s;; esac\nexec %s "$@"\n' "$1" \
        "$(command -v qemu-system-x86_64)" >fake/qemu-system-x86_64
    chmod +x fake/qemu-system-x86_64
}
chosen() { PATH=$TMP/fake:$PATH "$ASHLAR" boot --print "$@" 2>&1 | sed -n 's/^ *-\(accel\|cpu\) \(.*\) .$/\2/p' | tr '\n' ' '; }
export ASHLAR_KVM_PVM=/none
if [ -r /dev/kvm ] && [ -w /dev/kvm ]; then
    fake 'echo no such register >&2; exit 134'
    check "KVM that fails: TCG" test "$(chosen --accel auto)" = "tcg max "
    check_fails "KVM that fails, but is asked for" 1 'KVM does not work: no such register' \
        env "PATH=$TMP/fake:$PATH" "$ASHLAR" boot --print --accel kvm
    fake 'exit 33'
    check "KVM that works" test "$(chosen)" = "kvm host "
    check "KVM without the processor's help" test "$(ASHLAR_KVM_PVM=/ chosen)" = "tcg max "
    fake 'exit 0'
    check "a guest that does not get to its end" test "$(chosen)" = "tcg max "
    fake 'case "$*" in *-arch-cap*) exit 33;; *) kill -ABRT $$;; esac'
    check "KVM without a register" test "$(chosen)" = "kvm host,-arch-capabilities "
    fake 'exec sleep 100'
    check "KVM that hangs: TCG" test "$(chosen)" = "tcg max "
    rm fake/qemu-system-x86_64
    if "$ASHLAR" boot --print --accel kvm >/dev/null 2>&1; then
        ASHLAR_ACCEL=kvm status "a guest on KVM" 7 --machine microvm --append do=status:7
    else
        skip "a guest on KVM" "KVM does not work here"
    fi
else
    skip "acceleration" "no /dev/kvm"
fi
check_fails "no QEMU" 1 'is not installed' env PATH=/nowhere "$ASHLAR" boot --accel tcg

# Console and signals.
child_of() { tr -d " " <"/proc/$1/task/$1/children"; }
boot typed --append do=shell
check_prompt "the console" typed
check_run "a line typed" typed "say hello" '^hello$'
send typed "quit"
check_end "quit" typed 0
for signal in TERM INT HUP; do
    boot hang --device mem:1M --append do=hang
    expect hang cmdline
    qemu=$(child_of "${started[hang]}")
    kill -$signal "${started[hang]}"
    check_end "SIG$signal ends it" hang $((128 + $(kill -l $signal)))
    check "and QEMU" sh -c "! kill -0 $qemu"
done
check "nothing is left in the folder for temporary files" sh -c "ls -A '$TMPDIR' | grep -c . | grep -qx 0"
boot killed --append do=hang
expect killed cmdline
qemu=$(child_of "${started[killed]}")
kill -KILL "${started[killed]}"
check_end "SIGKILL" killed 137
check "QEMU does not outlive it" wait_for sh -c "! kill -0 $qemu"

check "a terminal" timeout 120 python3 - "$ASHLAR" <<'P'
import os, pty, sys, termios, time
master, slave = pty.openpty()
before = termios.tcgetattr(slave)
pid = os.fork()
if not pid:
    os.login_tty(slave) if hasattr(os, "login_tty") else (
        os.setsid(), [os.dup2(slave, n) for n in range(3)])
    os.execv(sys.argv[1], [sys.argv[1], "boot", "--accel", "tcg", "--append", "do=shell"])
seen = b""
def until(what):
    global seen
    end = time.monotonic() + 50
    while what not in seen:
        assert time.monotonic() < end, seen
        seen += os.read(master, 4096)
until(b"ASHLAR> ")
os.write(master, b"say \x03\x1a!\r")  # Ctrl-C and Ctrl-Z are the guest's
until(b"\n\x03\x1a!")
os.write(master, b"\x01x")
status = os.waitpid(pid, 0)[1]
assert os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0, (status, seen)
assert termios.tcgetattr(slave) == before, "the terminal is not as it was"
P
finish
