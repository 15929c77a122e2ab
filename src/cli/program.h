/* cli/program.h: what the subcommands that take eBPF programs share. */
#ifndef CLI_PROGRAM_H
#define CLI_PROGRAM_H

#include <ashlar/bpf.h>

#include "cli/cli.h"

#define PROGRAM_MAX (UINT64_C(64) << 20) /* bytes of a program's file */

/* All of a file, also of a pipe, at most so many bytes; free(). *data is NULL after an error. */
int cli_read_file(const struct cli *cli, const char *path, uint64_t most, uint8_t **data,
                  size_t *size);

/* --verify, and with it --jit, --interp and --function. */
enum bpf_verify program_verify(const struct cli *cli, enum bpf_verify by_default);
struct bpf_options program_options(const struct cli *cli, enum bpf_verify by_default);

extern const char *const program_verify_choices[];

#define PROGRAM_FUNCTION                                                                           \
    {                                                                                              \
        "function", CLI_TEXT, "NAME",                                                              \
            "where it starts; by default main, or the only function that is not static"            \
    }

#endif
