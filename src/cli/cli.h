/*
 * cli/cli.h: what a subcommand is made of.
 *
 * A subcommand is one file that ends in one const struct cli_command, listed in commands.c. Help,
 * man pages and shell completion are made from that table.
 *
 * Exit codes: 0 done, 1 failed, 2 wrong usage. Every message is one line on standard error.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ashlar/blk.h>

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

enum cli_type {
    CLI_FLAG,  /* takes no value */
    CLI_TEXT,  /* any text */
    CLI_SIZE,  /* 4096, 64K, 1G */
    CLI_COUNT, /* 0, 1, 2, ... */
    CLI_TIME,  /* 10us, 5ms, 2s */
};

struct cli_option {
    const char *name; /* without the dashes */
    enum cli_type type;
    const char *value; /* what help calls the value, "PATH"; NULL for a flag */
    const char *help;  /* one or two sentences; says the default */
    bool repeatable;
    const char *const *choices; /* a NULL-ended list of the allowed values; NULL: any */
    bool rest;                  /* all words behind its value are operands, also "--help" */
    char letter;                /* 'v': a flag that may also be written -v; 0: none */
};

struct cli_example {
    const char *line;
    const char *what;
};

struct cli;

struct cli_command {
    const char *name;     /* "bench", or two words: "serve nbd" */
    const char *operands; /* as help shows them: "DEVICE..."; NULL if there are none */
    unsigned min_operands;
    unsigned max_operands;
    const char *summary;                /* one line */
    const char *description;            /* paragraphs, separated by empty lines */
    const struct cli_option *options;   /* ends with a zero name; NULL if there are none */
    const struct cli_example *examples; /* ends with a zero line; NULL if there are none */
    int (*run)(struct cli *cli);        /* returns the exit code */
};

#define CLI_MAX_WORDS 256

/* A parsed command line. Values have been checked against their types. */
struct cli {
    const struct cli_command *command;
    unsigned operand_count;
    const char *operand[CLI_MAX_WORDS];
    unsigned option_count;
    struct {
        const struct cli_option *option;
        const char *value;
    } given[CLI_MAX_WORDS];
};

/* The value of an option; what otherwise says, if it is not given. A repeated one: the last. */
bool cli_flag(const struct cli *cli, const char *name);
const char *cli_text(const struct cli *cli, const char *name, const char *otherwise);
uint64_t cli_number(const struct cli *cli, const char *name, uint64_t otherwise);

/* The values of a repeatable option, one after the other: start with *at = 0; NULL ends. */
const char *cli_next(const struct cli *cli, const char *name, unsigned *at);

/* Print "ashlar COMMAND: message" and return CLI_USAGE or CLI_FAILED. */
int cli_usage(const struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
int cli_failed(const struct cli *cli, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* blk_open() with the message printed: returns CLI_OK, CLI_FAILED or CLI_USAGE. */
int cli_open(const struct cli *cli, const char *spec, unsigned flags, struct blk **dev);

/* The same for a spec or the name of a file, which may hold what means something in a spec. */
int cli_open_path(const struct cli *cli, const char *name, unsigned flags, struct blk **dev);

/* What servers share. Before any thread starts: SIGTERM, SIGINT and SIGHUP (unless it is
 * ignored) wait to be taken, and SIGPIPE is ignored. */
void cli_block_signals(void);

/* What the stats filters of a stack counted, on standard error, each line behind name; nothing if
 * there are none. */
void cli_report_stats(const struct blk *dev, const char *name);

/* "1.5 GiB", "512 B"; out has room for 16 bytes; returns out. */
char *cli_format_size(uint64_t bytes, char out[16]);

/* A progress bar on standard error; does nothing unless that is a terminal. */
void cli_progress(const char *what, uint64_t done, uint64_t total);
void cli_progress_end(void);

/* All subcommands, ended by NULL. */
extern const struct cli_command *const cli_commands[];

/* The parts of the front end (see main.c). */
int cli_parse(const struct cli_command *command, int argc, char **argv, struct cli *cli);
bool cli_ends_options(const struct cli_command *command, const char *word);
void cli_help_command(const struct cli_command *command);
void cli_help_overview(void);
void cli_help_devices(void);
void cli_print_man(const struct cli_command *command); /* NULL: ashlar(1) */
void cli_print_completion(void);

#endif
