/* The command: find the subcommand, parse its line, run it. */
#include "cli/cli.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"

/* Does the table's name, of one or two words, start argv? Returns how many words it took. */
static int matches(const struct cli_command *command, int argc, char **argv)
{
    size_t first = strcspn(command->name, " ");
    if (argc < 1 || strlen(argv[0]) != first || memcmp(argv[0], command->name, first))
        return 0;
    if (!command->name[first])
        return 1;
    return argc > 1 && !strcmp(argv[1], command->name + first + 1) ? 2 : 0;
}

static const struct cli_command *find_command(int argc, char **argv, int *words)
{
    for (const struct cli_command *const *c = cli_commands; *c; c++)
        if ((*words = matches(*c, argc, argv)))
            return *c;
    return NULL;
}

/* "ashlar serve", "ashlar serve help": the second words that exist. */
static bool list_second_words(const char *first)
{
    char list[300] = "";
    size_t len = strlen(first);
    for (const struct cli_command *const *c = cli_commands; *c; c++)
        if (!strncmp((*c)->name, first, len) && (*c)->name[len] == ' ') {
            size_t used = strlen(list);
            snprintf(list + used, sizeof(list) - used, "%s%s", used ? ", " : "",
                     (*c)->name + len + 1);
        }
    if (*list)
        cli_usage(NULL, "'%s' must be followed by one of: %s", first, list);
    return *list;
}

static bool is_help(const char *word)
{
    return !strcmp(word, "--help") || !strcmp(word, "-h");
}

static int help(int argc, char **argv)
{
    int words;
    if (!argc) {
        cli_help_overview();
        return CLI_OK;
    }
    const struct cli_command *command = find_command(argc, argv, &words);
    if (command)
        cli_help_command(command);
    else if (!strcmp(argv[0], "devices"))
        cli_help_devices();
    else
        return cli_usage(NULL, "no help on '%s' ('ashlar help' lists the subcommands)", argv[0]);
    return CLI_OK;
}

/* For the build: man pages and completion come from the same tables as the help. */
static int print_document(int argc, char **argv)
{
    int words;
    if (argc && !strcmp(argv[0], "completion")) {
        cli_print_completion();
        return CLI_OK;
    }
    const struct cli_command *command = argc ? find_command(argc, argv, &words) : NULL;
    if (argc && !command)
        return cli_usage(NULL, "no such subcommand '%s'", argv[0]);
    cli_print_man(command);
    return CLI_OK;
}

/* --driver FILE.so: a driver from a shared object that exports `ashlar_driver`. */
static int load_driver(const char *file)
{
    void *object = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    const struct blk_driver *driver = object ? dlsym(object, "ashlar_driver") : NULL;
    if (!driver)
        return cli_failed(NULL, "--driver %s: %s", file, dlerror());
    int error = blk_driver_register(driver);
    if (error < 0)
        return cli_failed(NULL, "--driver %s: %s", file, strerror(-error));
    return CLI_OK;
}

static int run_command(int argc, char **argv)
{
    static struct cli cli;
    int words;
    const struct cli_command *command = find_command(argc, argv, &words);
    if (!command) {
        if (!list_second_words(argv[0]))
            cli_usage(NULL, "unknown subcommand '%s' ('ashlar help' lists them)", argv[0]);
        return CLI_USAGE;
    }
    for (int i = words; i < argc && !cli_ends_options(command, argv[i]); i++)
        if (is_help(argv[i])) {
            cli_help_command(command);
            return CLI_OK;
        }
    int code = cli_parse(command, argc - words, argv + words, &cli);
    return code == CLI_OK ? command->run(&cli) : code;
}

static int dispatch(int argc, char **argv)
{
    while (argc >= 1 && !strcmp(argv[0], "--driver")) {
        if (argc < 2)
            return cli_usage(NULL, "--driver needs a value: --driver FILE.so");
        int code = load_driver(argv[1]);
        if (code != CLI_OK)
            return code;
        argc -= 2;
        argv += 2;
    }
    if (argc >= 1 && !strcmp(argv[0], "--verbose")) {
        base_log_set_level(BASE_LOG_INFO);
        argc--;
        argv++;
    }
    if (!argc)
        return cli_usage(NULL, "which subcommand? ('ashlar help' lists them)");
    if (!strcmp(argv[0], "--version")) {
        printf("ashlar %s\n", ASHLAR_VERSION);
        return CLI_OK;
    }
    if (!strcmp(argv[0], "help") || is_help(argv[0]))
        return help(argc - 1, argv + 1);
    if (!strcmp(argv[0], "--man"))
        return print_document(argc - 1, argv + 1);
    return run_command(argc, argv);
}

int main(int argc, char **argv)
{
    int code = dispatch(argc - 1, argv + 1);
    if (fflush(stdout) || ferror(stdout)) {
        fprintf(stderr, "ashlar: cannot write to standard output: %s\n", strerror(errno));
        return CLI_FAILED;
    }
    return code;
}
