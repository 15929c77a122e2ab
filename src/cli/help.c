/* Help, man pages and shell completion, all from the table of subcommands. */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

#include <ashlar/blk_driver.h>

enum { WIDTH = 90 };

/* Print text wrapped and indented, starting at column. An empty line in text stays one. */
static void wrap(const char *text, unsigned indent, unsigned column)
{
    while (*text) {
        if (*text == '\n') {
            printf("\n\n");
            column = 0;
            text += strspn(text, "\n");
            continue;
        }
        size_t len = strcspn(text, " \n");
        if (column > indent && column + 1 + len > WIDTH) {
            printf("\n");
            column = 0;
        }
        if (column < indent) {
            printf("%*s", (int)(indent - column), "");
            column = indent;
        } else if (column > indent) {
            printf(" ");
            column++;
        }
        printf("%.*s", (int)len, text);
        column += (unsigned)len;
        text += len;
        text += strspn(text, " ");
    }
    printf("\n");
}

static void option_name(const struct cli_option *o, char *out, size_t size)
{
    char letter[] = {'-', o->letter, ',', ' ', '\0'};
    snprintf(out, size, "%s--%s%s%s%s", o->letter ? letter : "", o->name, o->value ? " " : "",
             o->value ? o->value : "", o->repeatable ? "..." : "");
}

void cli_help_command(const struct cli_command *c)
{
    printf("usage: ashlar %s%s%s%s\n\n", c->name, c->options ? " [OPTION]..." : "",
           c->operands ? " " : "", c->operands ? c->operands : "");
    wrap(c->description, 0, 0);
    if (c->options)
        printf("\noptions:\n");
    for (const struct cli_option *o = c->options; o && o->name; o++) {
        char name[80];
        option_name(o, name, sizeof(name));
        int printed = printf("  %-22s ", name);
        wrap(o->help, 25, (unsigned)printed);
    }
    if (c->examples)
        printf("\nexamples:\n");
    for (const struct cli_example *e = c->examples; e && e->line; e++)
        printf("  %s\n      %s\n", e->line, e->what);
}

void cli_help_overview(void)
{
    printf("usage: ashlar [--driver FILE.so]... [--verbose] SUBCOMMAND [OPTION]... [OPERAND]...\n\n"
           "One storage stack, from the application down to the device.\n\nsubcommands:\n");
    for (const struct cli_command *const *c = cli_commands; *c; c++)
        printf("  %-14s %s\n", (*c)->name, (*c)->summary);
    printf("  %-14s %s\n", "help", "this text; 'help SUBCOMMAND'; 'help devices'");
    printf("\n'ashlar SUBCOMMAND --help' tells more. 'ashlar help devices' tells how a DEVICE is "
           "written.\n");
}

static void device_option(const struct blk_option *o)
{
    int printed = printf("      %-14s ", o->name);
    wrap(o->help, 21, (unsigned)printed);
    if (o->default_text)
        printf("%*s(default %s)\n", 21, "", o->default_text);
}

void cli_help_devices(void)
{
    printf("A DEVICE is written scheme:argument?option=value&option=value. A filter stands before\n"
           "the device it works on, with a comma: filter?option=value,DEVICE. Sizes are bytes, or\n"
           "with K, M, G, T; times have a unit: us, ms, s. In a file name '?' is written %%3F and\n"
           "'%%' is written %%25. In a shell, put a DEVICE with '?' or '&' into quotes.\n");
    for (int filters = 0; filters < 2; filters++) {
        printf(filters ? "\nfilters:\n" : "\ndevices:\n");
        for (const struct blk_driver *d = NULL; (d = blk_driver_next(d));) {
            if (filters == !(d->flags & BLK_DRIVER_FILTER))
                continue;
            char name[80];
            snprintf(name, sizeof(name), "%s%s%s", d->name,
                     filters                                       ? ","
                     : d->argument && !(d->flags & BLK_DRIVER_URI) ? ":"
                                                                   : "",
                     filters       ? "DEVICE"
                     : d->argument ? d->argument
                                   : "");
            if (d->flags & BLK_DRIVER_URI)
                snprintf(name, sizeof(name), "%s", d->argument);
            int printed = printf("  %-18s ", name);
            wrap(d->summary, 21, (unsigned)printed);
            for (const struct blk_option *o = d->options; o && o->name; o++)
                device_option(o);
        }
    }
}

/* ---- man pages ------------------------------------------------------------------------- */

/* Text in roff: backslashes and dashes escaped, no control character at the start of a line. */
static void roff(const char *text)
{
    bool start = true;
    for (; *text; text++) {
        if (start && (*text == '.' || *text == '\''))
            printf("\\&");
        start = *text == '\n';
        if (*text == '\\')
            printf("\\e");
        else if (*text == '-')
            printf("\\-");
        else if (*text == '\n' && text[1] == '\n')
            printf("\n.PP"), start = false;
        else
            putchar(*text);
    }
    printf("\n");
}

static void man_header(const char *name)
{
    printf(".TH \"ASHLAR");
    for (; *name; name++)
        putchar(*name == ' ' ? '-' : *name >= 'a' && *name <= 'z' ? *name - 'a' + 'A' : *name);
    printf("\" 1 \"\" \"Ashlar %s\" \"Ashlar\"\n", ASHLAR_VERSION);
}

static void man_command(const struct cli_command *c)
{
    char title[64];
    snprintf(title, sizeof(title), " %s", c->name);
    man_header(title);
    printf(".SH NAME\nashlar\\-");
    for (const char *p = c->name; *p; p++)
        putchar(*p == ' ' ? '-' : *p);
    printf(" \\- ");
    roff(c->summary);
    printf(".SH SYNOPSIS\n.B ashlar %s\n", c->name);
    if (c->options)
        printf("[OPTION]...\n");
    if (c->operands)
        roff(c->operands);
    printf(".SH DESCRIPTION\n");
    roff(c->description);
    if (c->options)
        printf(".SH OPTIONS\n");
    for (const struct cli_option *o = c->options; o && o->name; o++) {
        char name[80];
        option_name(o, name, sizeof(name));
        printf(".TP\n.B ");
        roff(name);
        roff(o->help);
    }
    if (c->examples)
        printf(".SH EXAMPLES\n");
    for (const struct cli_example *e = c->examples; e && e->line; e++) {
        printf(".TP\n.B ");
        roff(e->line);
        roff(e->what);
    }
    printf(".SH EXIT STATUS\n0: done; 1: failed; 2: wrong usage.\n.SH SEE ALSO\n"
           ".BR ashlar (1)\n");
}

static void man_devices(void)
{
    for (const struct blk_driver *d = NULL; (d = blk_driver_next(d));) {
        printf(".TP\n.B ");
        roff(d->name);
        roff(d->summary);
        for (const struct blk_option *o = d->options; o && o->name; o++) {
            printf(".RS\n.TP\n.B ");
            roff(o->name);
            roff(o->help);
            if (o->default_text) {
                printf("Default: ");
                roff(o->default_text);
            }
            printf(".RE\n");
        }
    }
}

void cli_print_man(const struct cli_command *command)
{
    if (command) {
        man_command(command);
        return;
    }
    man_header("");
    printf(".SH NAME\nashlar \\- one storage stack, from the application down to the device\n"
           ".SH SYNOPSIS\n.B ashlar\n[\\-\\-driver FILE.so]... [\\-\\-verbose] SUBCOMMAND "
           "[OPTION]... [OPERAND]...\n.SH SUBCOMMANDS\n");
    for (const struct cli_command *const *c = cli_commands; *c; c++) {
        printf(".TP\n.BR ashlar\\-");
        for (const char *p = (*c)->name; *p; p++)
            putchar(*p == ' ' ? '-' : *p);
        printf(" (1)\n");
        roff((*c)->summary);
    }
    printf(
        ".SH DEVICES\nA device is written\n"
        ".IR scheme : argument ? option = value & option = value .\n"
        "A filter stands before the device it works on:\n.IR filter ? option = value , device .\n");
    man_devices();
    printf(".SH EXIT STATUS\n0: done; 1: failed; 2: wrong usage.\n");
}

/* ---- completion ------------------------------------------------------------------------ */

static void completion_options(const struct cli_command *c)
{
    printf("    \"%s\") words='--help", c->name);
    for (const struct cli_option *o = c->options; o && o->name; o++)
        printf(" --%s", o->name);
    printf("';;\n");
}

static void completion_choices(const struct cli_command *c)
{
    for (const struct cli_option *o = c->options; o && o->name; o++) {
        if (!o->choices)
            continue;
        printf("    \"%s --%s\") words='", c->name, o->name);
        for (const char *const *v = o->choices; *v; v++)
            printf("%s%s", v == o->choices ? "" : " ", *v);
        printf("';;\n");
    }
}

void cli_print_completion(void)
{
    printf("# bash completion for ashlar; made from its table of subcommands\n"
           "_ashlar() {\n"
           "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=''\n"
           "  local cmd=${COMP_WORDS[1]}\n"
           "  case \"$cmd ${COMP_WORDS[2]:-}\" in\n");
    for (const struct cli_command *const *c = cli_commands; *c; c++)
        if (strchr((*c)->name, ' '))
            printf("    \"%s\") [ $COMP_CWORD -gt 2 ] && cmd='%s';;\n", (*c)->name, (*c)->name);
    printf("  esac\n  case \"$cmd $prev\" in\n");
    for (const struct cli_command *const *c = cli_commands; *c; c++)
        completion_choices(*c);
    printf("  esac\n  if [ -n \"$words\" ]; then\n    :\n"
           "  elif [ $COMP_CWORD -eq 1 ]; then\n    words='help --version");
    for (const struct cli_command *const *c = cli_commands; *c; c++)
        printf(" %.*s", (int)strcspn((*c)->name, " "), (*c)->name);
    printf("'\n  else case \"$cmd\" in\n");
    for (const struct cli_command *const *c = cli_commands; *c; c++)
        completion_options(*c);
    for (const struct cli_command *const *c = cli_commands; *c; c++) {
        const char *space = strchr((*c)->name, ' ');
        if (space)
            printf("    %.*s) words+=' %s';;&\n", (int)(space - (*c)->name), (*c)->name, space + 1);
    }
    printf("    help) words='devices");
    for (const struct cli_command *const *c = cli_commands; *c; c++)
        printf(" %.*s", (int)strcspn((*c)->name, " "), (*c)->name);
    printf("';;\n  esac; fi\n"
           "  if [[ $cur != -* && $COMP_CWORD -gt 1 && -z ${words##--*} ]]; then\n"
           "    words=''\n    for s in");
    for (const struct blk_driver *d = NULL; (d = blk_driver_next(d));)
        if (!(d->flags & BLK_DRIVER_URI))
            printf(" %s%s", d->name, d->flags & BLK_DRIVER_FILTER ? "," : ":");
    printf("; do words+=\" $s\"; done\n  fi\n"
           "  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
           "}\ncomplete -o default -o nospace -F _ashlar ashlar\n");
}
