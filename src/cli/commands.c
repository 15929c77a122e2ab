/* The subcommands, in the order in which help shows them. */
#include "cli/cli.h"

extern const struct cli_command cli_info, cli_copy, cli_bench, cli_serve_nbd, cli_boot,
    cli_gguf_info, cli_gguf_verify;

const struct cli_command *const cli_commands[] = {
    &cli_info, &cli_copy,      &cli_bench,       &cli_serve_nbd,
    &cli_boot, &cli_gguf_info, &cli_gguf_verify, NULL,
};
