/* For tests/integration/bpf_verify.sh: verify one function of an ELF file in the environment of
 * device.c. bpf_verify FILE.o FUNCTION [verbose]. It prints "accepted", or the log. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "device.h"
#include "bpf/vm.h"

int main(int argc, char **argv)
{
    enum { SIZE = 16 << 20 };
    static char file[SIZE], text[SIZE];
    struct bpf_log log = {.text = text, .size = SIZE, .verbose = argc > 3};
    struct bpf_options options = {.function = argc > 2 ? argv[2] : NULL,
                                  .engine = BPF_ENGINE_INTERP};
    struct bpf_module *module;
    struct bpf_prog *prog;
    FILE *f = argc > 1 ? fopen(argv[1], "rb") : NULL;
    if (!f) {
        fprintf(stderr, "usage: bpf_verify FILE.o FUNCTION [verbose]\n");
        return 2;
    }
    size_t size = fread(file, 1, sizeof(file), f);
    fclose(f);
    int error = bpf_module_open(file, size, &module, &log);
    uint64_t start = base_now_ns();
    if (error == 0) {
        error = bpf_prog_open(module, &device_environment, &options, &prog, &log);
        bpf_module_close(module);
    }
    fputs(text, stdout);
    if (error == 0) {
        printf("accepted in %llu us\n", (unsigned long long)(base_now_ns() - start) / 1000);
        bpf_prog_close(prog);
    }
    return error != 0;
}
