/* Words with quotes: see cmdline.h. Portable: `ashlar boot` makes lines that the kernel reads. */
#include "os/lib/cmdline.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Copy a word without quotes to `to` (room bytes, NULL: nowhere); *end is behind it. Its length, or
 * -EINVAL. */
static int unquote(const char *at, char *to, size_t room, const char **end)
{
    size_t n = 0;
    char quote = 0;
    for (; *at && (quote || !is_blank(*at)); at++) {
        char c = *at;
        if (c == quote) {
            if (c != ']') {
                quote = 0;
                continue;
            }
            quote = 0;
        } else if (!quote && (c == '"' || c == '\'')) {
            quote = c;
            continue;
        } else if (!quote && c == '[' && (n == 0 || at[-1] == '=')) {
            quote = ']';
        } else if (c == '\\' && quote != '\'' && quote != ']' && at[1]) {
            c = *++at;
        }
        if (n < room)
            to[n] = c;
        n++;
    }
    *end = at;
    return quote ? -EINVAL : (int)n;
}

int cmdline_get(const char *line, const char *key, char *value, size_t size)
{
    const size_t len = strlen(key);
    while (*line) {
        while (is_blank(*line))
            line++;
        const bool found = !strncmp(line, key, len) && line[len] == '=';
        const char *start = line + (found ? len + 1 : 0);
        const int n = unquote(start, value, found ? size : 0, &line);
        if (!found)
            continue;
        if (n < 0)
            return n;
        if (size)
            value[(size_t)n < size ? (size_t)n : size - 1] = '\0';
        return n;
    }
    return -ENOENT;
}

int cmdline_split(const char *line, char *storage, char **words, unsigned max)
{
    unsigned n = 0;
    for (;;) {
        while (is_blank(*line))
            line++;
        if (!*line)
            break;
        if (n + 1 >= max)
            return -E2BIG;
        const int len = unquote(line, storage, strlen(line), &line);
        if (len < 0)
            return len;
        storage[len] = '\0';
        words[n++] = storage;
        storage += len + 1;
    }
    words[n] = NULL;
    return (int)n;
}

size_t cmdline_command(const char *line, const char **rest)
{
    char quote = 0;
    const char *at = line;
    for (; *at; at++) {
        if (*at == '\\' && quote != '\'' && at[1])
            at++;
        else if (*at == quote)
            quote = 0;
        else if (!quote && (*at == '"' || *at == '\''))
            quote = *at;
        else if (!quote && *at == ';')
            break;
    }
    *rest = *at ? at + 1 : NULL;
    return (size_t)(at - line);
}

int cmdline_append(char *line, size_t size, const char *word)
{
    size_t n = strlen(line);
    const bool quoted = !*word || strpbrk(word, " \t\n\r\"'\\;[");
    const size_t start = n;
    if (n + 4 >= size)
        return -ENOSPC;
    if (n)
        line[n++] = ' ';
    if (quoted)
        line[n++] = '"';
    for (; *word; word++) {
        if (n + 4 >= size) {
            line[start] = '\0';
            return -ENOSPC;
        }
        if (quoted && (*word == '"' || *word == '\\'))
            line[n++] = '\\';
        line[n++] = *word;
    }
    if (quoted)
        line[n++] = '"';
    line[n] = '\0';
    return 0;
}
