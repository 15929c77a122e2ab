/* The subcommands, in the order in which help shows them. */
#include "cli/cli.h"

extern const struct cli_command cli_info, cli_copy, cli_bench, cli_serve_nbd, cli_serve_ublk,
    cli_ublk_list, cli_ublk_info, cli_ublk_del, cli_ublk_recover, cli_ublk_resize,
    cli_ublk_features, cli_ublk_owner, cli_boot, cli_gguf_info, cli_gguf_verify, cli_zone_report,
    cli_zone_open, cli_zone_close, cli_zone_finish, cli_zone_reset, cli_bpf_run, cli_bpf_verify,
    cli_bpf_disasm, cli_csd_run, cli_csd_verify;

const struct cli_command *const cli_commands[] = {
    &cli_info,          &cli_copy,
    &cli_bench,         &cli_serve_nbd,
    &cli_serve_ublk,    &cli_ublk_list,
    &cli_ublk_info,     &cli_ublk_del,
    &cli_ublk_recover,  &cli_ublk_resize,
    &cli_ublk_features, &cli_ublk_owner,
    &cli_boot,          &cli_gguf_info,
    &cli_gguf_verify,   &cli_zone_report,
    &cli_zone_open,     &cli_zone_close,
    &cli_zone_finish,   &cli_zone_reset,
    &cli_bpf_run,       &cli_bpf_verify,
    &cli_bpf_disasm,    &cli_csd_run,
    &cli_csd_verify,    NULL,
};
