/* What the subcommands that take eBPF programs share. */
#include "cli/program.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const program_verify_choices[] = {"require", "auto", "checked", NULL};

enum bpf_verify program_verify(const struct cli *cli, enum bpf_verify by_default)
{
    const char *how = cli_text(cli, "verify", NULL);
    if (!how)
        return by_default;
    return !strcmp(how, "require") ? BPF_VERIFY_REQUIRE
           : !strcmp(how, "auto")  ? BPF_VERIFY_AUTO
                                   : BPF_VERIFY_CHECKED;
}

struct bpf_options program_options(const struct cli *cli, enum bpf_verify by_default)
{
    return (struct bpf_options){
        .verify = program_verify(cli, by_default),
        .engine = cli_flag(cli, "interp") ? BPF_ENGINE_INTERP
                  : cli_flag(cli, "jit")  ? BPF_ENGINE_JIT
                                          : BPF_ENGINE_AUTO,
        .function = cli_text(cli, "function", NULL),
    };
}

int cli_read_file(const struct cli *cli, const char *path, uint64_t most, uint8_t **data,
                  size_t *size)
{
    FILE *f = fopen(path, "rb");
    size_t room = 0, n = 1;
    *data = NULL;
    *size = 0;
    if (!f)
        return cli_failed(cli, "%s: %s", path, strerror(errno));
    while (n && *size <= most) {
        if (*size == room) {
            room = room ? 2 * room : 65536;
            uint8_t *more = realloc(*data, room);
            if (!more)
                break;
            *data = more;
        }
        n = fread(*data + *size, 1, room - *size, f);
        *size += n;
    }
    const int code = ferror(f)      ? cli_failed(cli, "%s: %s", path, strerror(errno))
                     : *size > most ? cli_failed(cli, "%s: more than %" PRIu64 " bytes", path, most)
                     : n && !feof(f) ? cli_failed(cli, "%s: not enough memory", path)
                                     : CLI_OK;
    fclose(f);
    if (code != CLI_OK) {
        free(*data);
        *data = NULL;
    }
    return code;
}
