/* From the words of a command line to a struct cli. */
#include "cli/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ashlar/blk_driver.h>

static void message(const struct cli_command *command, const char *format, va_list args)
{
    fprintf(stderr, command ? "ashlar %s: " : "ashlar: ", command ? command->name : "");
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
}

int cli_usage(const struct cli *cli, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    message(cli ? cli->command : NULL, format, args);
    va_end(args);
    return CLI_USAGE;
}

int cli_failed(const struct cli *cli, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    message(cli ? cli->command : NULL, format, args);
    va_end(args);
    return CLI_FAILED;
}

static const struct cli_option *find(const struct cli_command *command, const char *name,
                                     size_t len)
{
    for (const struct cli_option *o = command->options; o && o->name; o++)
        if (strlen(o->name) == len && !memcmp(o->name, name, len))
            return o;
    return NULL;
}

/* The known option that is most like what was typed, for the message. */
static const char *nearest(const struct cli_command *command, const char *name, size_t len)
{
    const char *best = NULL;
    size_t most = 1;
    for (const struct cli_option *o = command->options; o && o->name; o++) {
        size_t same = 0;
        while (same < len && o->name[same] == name[same])
            same++;
        if (same > most) {
            most = same;
            best = o->name;
        }
    }
    return best;
}

static bool is_count(const char *text)
{
    return *text && strlen(text) < 19 && !text[strspn(text, "0123456789")];
}

static int check_choice(struct cli *cli, const struct cli_option *o, const char *value)
{
    char list[200] = "";
    for (const char *const *c = o->choices; *c; c++) {
        if (!strcmp(*c, value))
            return CLI_OK;
        size_t used = strlen(list);
        snprintf(list + used, sizeof(list) - used, "%s%s", used ? ", " : "", *c);
    }
    return cli_usage(cli, "--%s must be one of %s, not '%s'", o->name, list, value);
}

static int check_value(struct cli *cli, const struct cli_option *o, const char *value)
{
    uint64_t number;
    if (o->choices)
        return check_choice(cli, o, value);
    if (o->type == CLI_SIZE && blk_parse_size(value, &number) < 0)
        return cli_usage(cli, "--%s must be a size such as 4096, 64K or 1G, not '%s'", o->name,
                         value);
    if (o->type == CLI_TIME && blk_parse_time(value, &number) < 0)
        return cli_usage(cli, "--%s must be a time such as 10us, 5ms or 2s, not '%s'", o->name,
                         value);
    if (o->type == CLI_COUNT && !is_count(value))
        return cli_usage(cli, "--%s must be a number, not '%s'", o->name, value);
    return CLI_OK;
}

static bool given(const struct cli *cli, const struct cli_option *o)
{
    for (unsigned i = 0; i < cli->option_count; i++)
        if (cli->given[i].option == o)
            return true;
    return false;
}

/* word is "--name", "--name=value"; next is the word after it. *used: how many words it took. */
static int parse_option(struct cli *cli, const char *word, const char *next, int *used)
{
    const char *name = word + 2;
    size_t len = strcspn(name, "=");
    const char *value = name[len] ? name + len + 1 : NULL;
    const struct cli_option *o = find(cli->command, name, len);
    *used = 1;
    if (!o) {
        const char *like = nearest(cli->command, name, len);
        if (like)
            return cli_usage(cli, "unknown option '%s'; did you mean --%s?", word, like);
        return cli_usage(cli, "unknown option '%s' ('ashlar %s --help' lists them)", word,
                         cli->command->name);
    }
    if (o->type == CLI_FLAG && value)
        return cli_usage(cli, "--%s takes no value", o->name);
    if (o->type != CLI_FLAG && !value) {
        if (!next)
            return cli_usage(cli, "--%s needs a value: --%s %s", o->name, o->name, o->value);
        value = next;
        *used = 2;
    }
    if (!o->repeatable && given(cli, o))
        return cli_usage(cli, "--%s is given twice", o->name);
    int code = value ? check_value(cli, o, value) : CLI_OK;
    if (code != CLI_OK)
        return code;
    cli->given[cli->option_count].option = o;
    cli->given[cli->option_count++].value = value;
    return CLI_OK;
}

/* "-v" */
static bool take_letter(struct cli *cli, const char *word)
{
    for (const struct cli_option *o = cli->command->options; o && o->name; o++)
        if (o->letter && o->letter == word[1] && !word[2]) {
            cli->given[cli->option_count++].option = o;
            return true;
        }
    return false;
}

/* Is this word "--", or an option behind whose value all words are operands? */
bool cli_ends_options(const struct cli_command *command, const char *word)
{
    if (strncmp(word, "--", 2))
        return false;
    const struct cli_option *o = find(command, word + 2, strcspn(word + 2, "="));
    return !word[2] || (o && o->rest);
}

int cli_parse(const struct cli_command *command, int argc, char **argv, struct cli *cli)
{
    bool only_operands = false;
    memset(cli, 0, sizeof(*cli));
    cli->command = command;
    if (argc >= CLI_MAX_WORDS)
        return cli_usage(cli, "more than %d words", CLI_MAX_WORDS - 1);
    for (int i = 0; i < argc;) {
        const char *word = argv[i];
        if (!only_operands && !strcmp(word, "--")) {
            only_operands = true;
            i++;
        } else if (!only_operands && !strncmp(word, "--", 2)) {
            int used;
            int code = parse_option(cli, word, i + 1 < argc ? argv[i + 1] : NULL, &used);
            if (code != CLI_OK)
                return code;
            only_operands = cli_ends_options(command, word);
            i += used;
        } else if (!only_operands && word[0] == '-' && word[1] && take_letter(cli, word)) {
            i++;
        } else if (!only_operands && word[0] == '-' && word[1]) {
            return cli_usage(cli, "unknown option '%s' (options are written --name)", word);
        } else {
            cli->operand[cli->operand_count++] = word;
            i++;
        }
    }
    if (cli->operand_count < command->min_operands)
        return cli_usage(cli, "missing operand: ashlar %s %s", command->name, command->operands);
    if (cli->operand_count > command->max_operands)
        return cli_usage(cli, "unexpected '%s': ashlar %s%s%s", cli->operand[command->max_operands],
                         command->name, command->operands ? " " : "",
                         command->operands ? command->operands : "");
    return CLI_OK;
}

static const char *last(const struct cli *cli, const char *name, bool *found)
{
    *found = false;
    const char *value = NULL;
    for (unsigned i = 0; i < cli->option_count; i++)
        if (!strcmp(cli->given[i].option->name, name)) {
            *found = true;
            value = cli->given[i].value;
        }
    return value;
}

bool cli_flag(const struct cli *cli, const char *name)
{
    bool found;
    last(cli, name, &found);
    return found;
}

const char *cli_text(const struct cli *cli, const char *name, const char *otherwise)
{
    bool found;
    const char *value = last(cli, name, &found);
    return found ? value : otherwise;
}

uint64_t cli_number(const struct cli *cli, const char *name, uint64_t otherwise)
{
    bool found;
    uint64_t number = otherwise;
    const char *value = last(cli, name, &found);
    const struct cli_option *o = found ? find(cli->command, name, strlen(name)) : NULL;
    if (o && o->type == CLI_SIZE)
        blk_parse_size(value, &number);
    else if (o && o->type == CLI_TIME)
        blk_parse_time(value, &number);
    else if (o)
        number = strtoull(value, NULL, 10);
    return number;
}

const char *cli_next(const struct cli *cli, const char *name, unsigned *at)
{
    while (*at < cli->option_count) {
        unsigned i = (*at)++;
        if (!strcmp(cli->given[i].option->name, name))
            return cli->given[i].value;
    }
    return NULL;
}
