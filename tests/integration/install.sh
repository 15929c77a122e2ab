#!/usr/bin/env bash
# make install: what is installed is whole, and a program outside the tree builds with it.
. "$(dirname "$0")/lib.sh"
build=$(dirname "$ASHLAR")
check "install" env DESTDIR="$TMP/root" meson install -C "$build" --quiet --no-rebuild
prefix=$(meson introspect "$build" --buildoptions |
    python3 -c 'import json, sys; print([o["value"] for o in json.load(sys.stdin) if o["name"] == "prefix"][0])')
root=$TMP/root$prefix
check "the command" test -x "$root/bin/ashlar"
check "what runs guests" test -x "$root/libexec/ashlar/vm-run"
check "the plug-in for conformance runners" test -x "$root/libexec/ashlar/bpf-conformance"
check "public headers and no others" test "$(find "$root/include" -name '*.h' | wc -l)" -eq \
    "$(ls "$(dirname "$0")"/../../include/ashlar/*.h | wc -l)"
for page in ashlar $("$ASHLAR" help | sed -n '/^subcommands:/,/^$/s/^  \([a-z]*\( [a-z]*\)\{0,1\}\)  .*/\1/p' | grep -v '^help' | sed 's/ *$//; s/ /-/; s/^/ashlar-/'); do
    check "man page $page(1)" sh -c "man -l '$root/share/man/man1/$page.1' | grep -q NAME"
done
check "device programs, and what writing them takes" sh -c "
    cd '$root/lib/ashlar/programs' && ls *.o && clang -target bpf -O2 -c filter.c -o '$TMP/filter.o' &&
        '$root/bin/ashlar' csd run '$TMP/filter.o' mem:1M --format u64 | grep -qx 0"
check "completion" bash -n "$root/share/bash-completion/completions/ashlar.bash"

check "the udev rules" grep -q "$prefix/bin/ashlar ublk owner" "$root/share/ashlar/60-ashlar-ublk.rules"

pc=$(dirname "$(find "$TMP/root" -name ashlar.pc)")
cat >"$TMP/user.c" <<'C'
#include <ashlar/bench.h>
#include <stdio.h>
int main(void)
{
    struct blk *dev;
    struct blk_error err;
    struct bench_job job = BENCH_JOB_DEFAULT;
    struct bench_result result;
    job.runtime = 0;
    job.count = 1000;
    if (blk_open("mem:1M", 0, &dev, &err) < 0 || bench_run(dev, &job, &result, &err) < 0) {
        puts(err.text);
        return 1;
    }
    printf("%llu\n", (unsigned long long)result.read.count);
    return blk_close(dev);
}
C
flags=$(PKG_CONFIG_PATH=$pc PKG_CONFIG_SYSROOT_DIR=$TMP/root pkg-config --cflags --libs ashlar)
grep -q __asan_init "$ASHLAR" && flags="$flags -fsanitize=address,undefined"
lib=$(dirname "$(find "$TMP/root" -name libashlar.so)")
# shellcheck disable=SC2086
check "a program builds with pkg-config" cc -o "$TMP/user" "$TMP/user.c" $flags -Wl,-rpath,"$lib"
check "and runs" test "$("$TMP/user")" = 1000
# shellcheck disable=SC2086
check "and the example of ublk" cc -Wall -Wextra -Werror -o "$TMP/counter" "$(dirname "$0")/../../examples/ublk_counter.c" $flags -Wl,-rpath,"$lib"
if [ ! -e /dev/ublk-control ]; then
    check_fails "which says what is missing here" 1 'modprobe ublk_drv' "$TMP/counter"
fi
# shellcheck disable=SC2086
check "and the example of csd" cc -Wall -Wextra -Werror -o "$TMP/csd_run" "$(dirname "$0")/../../examples/csd_run.c" $flags -Wl,-rpath,"$lib"
check "which runs a program" sh -c "
    '$TMP/csd_run' '$root/lib/ashlar/programs/entropy.o' mem:1M | grep -q '^257 numbers, the first is 1048576; 1048576'"
check "only public symbols are shown" sh -c "
    ! nm -D --defined-only '$lib/libashlar.so' | awk '{ print \$3 }' |
        grep -vE '^(blk_|bench_|bpf_|csd_|gguf_|ublk_|_init|_fini|__asan|__odr_asan|__ubsan)' | grep ."
finish
