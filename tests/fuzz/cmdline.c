/* The kernel command line: any text is read without harm; what is read and written again is the
 * same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "os/cmdline.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition)
{
    if (!condition)
        abort();
}

/* Words read from text, written as one command, read again: the same. */
static void words(char *text)
{
    char *first[64], *second[64];
    int count = cmdline_words(text, first, 64);
    if (count < 0)
        return;
    char command[8192] = "";
    for (int i = 0; i < count; i++)
        if (cmdline_add_word(command, sizeof(command), first[i]) < 0)
            return;
    require(cmdline_words(command, second, 64) == count);
    for (int i = 0; i < count; i++)
        require(!strcmp(first[i], second[i]));
}

static void commands(const char *text)
{
    char *copy = strdup(text), *rest = copy, *command;
    size_t total = 0;
    while ((command = cmdline_command(&rest))) {
        total += strlen(command) + 1;
        words(command);
    }
    require(total <= strlen(text) + 1);
    free(copy);
}

/* The value of an item, written again, comes back. */
static void again(const char *value)
{
    char line[16384] = "", back[8192];
    if (cmdline_add(line, sizeof(line), "k", value) < 0)
        return;
    require(cmdline_get(line, "k", back, sizeof(back)) == (int)strlen(value));
    require(!strcmp(value, back));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const keys[] = {"console", "vfs.fstab", "exec", "app", "a"};
    if (size > CMDLINE_MAX)
        return 0;
    char *line = malloc(size + 1), out[8192];
    memcpy(line, data, size);
    line[size] = '\0';
    struct cmdline_item item;
    const char *at = line;
    while (cmdline_next(&at, &item) > 0) {
        require(cmdline_value(&item, out, sizeof(out)) >= 0);
        again(out);
        commands(out);
    }
    require(at <= line + strlen(line));
    for (unsigned i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (cmdline_get(line, keys[i], out, 1 + size / 4) >= 0)
            require(cmdline_has(line, keys[i]));
    commands(line);
    free(line);
    return 0;
}
