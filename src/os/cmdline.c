/* The kernel command line; see cmdline.h. */
#include "os/cmdline.h"

#include <errno.h>
#include <string.h>

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static const char *skip_blanks(const char *p)
{
    while (is_blank(*p))
        p++;
    return p;
}

static const char *skip_plain(const char *p)
{
    while (*p && !is_blank(*p))
        p++;
    return p;
}

/* ---- items ----------------------------------------------------------------------------- */

/* p is behind the opening quote; the closing one, or NULL. */
static const char *closing_quote(const char *p)
{
    for (; *p && *p != '"'; p++)
        if (*p == '\\' && (p[1] == '"' || p[1] == '\\'))
            p++;
    return *p ? p : NULL;
}

/* *at is behind the '='. */
static int read_value(const char **at, struct cmdline_item *item)
{
    char open = **at;
    if (open != '"' && open != '[') {
        item->value = *at;
        *at = skip_plain(*at);
        item->value_len = (size_t)(*at - item->value);
        return 1;
    }
    item->value = *at + 1;
    const char *end = open == '"' ? closing_quote(item->value) : strchr(item->value, ']');
    if (!end || (end[1] && !is_blank(end[1])))
        return -EINVAL;
    item->value_len = (size_t)(end - item->value);
    item->escaped = open == '"';
    *at = end + 1;
    return 1;
}

int cmdline_next(const char **at, struct cmdline_item *item)
{
    const char *p = skip_blanks(*at);
    memset(item, 0, sizeof(*item));
    *at = p;
    if (!*p)
        return 0;
    item->key = p;
    while (*p && *p != '=' && !is_blank(*p))
        p++;
    item->key_len = (size_t)(p - item->key);
    if (*p != '=') {
        *at = p;
        return 1;
    }
    p++;
    int got = read_value(&p, item);
    if (got > 0)
        *at = p;
    return got;
}

int cmdline_check(const char *line)
{
    struct cmdline_item item;
    int got;
    do
        got = cmdline_next(&line, &item);
    while (got > 0);
    return got;
}

int cmdline_value(const struct cmdline_item *item, char *out, size_t size)
{
    size_t len = 0;
    for (size_t i = 0; i < item->value_len; i++) {
        char c = item->value[i];
        /* The quote that ends the value is not part of it, so the byte behind exists. */
        if (item->escaped && c == '\\' && (item->value[i + 1] == '"' || item->value[i + 1] == '\\'))
            c = item->value[++i];
        if (len + 1 >= size)
            return -ENOSPC;
        out[len++] = c;
    }
    if (!size)
        return -ENOSPC;
    out[len] = '\0';
    return (int)len;
}

/* The last item with this key. 1, 0, or -EINVAL if there is none before what is malformed. */
static int find(const char *line, const char *key, struct cmdline_item *found)
{
    struct cmdline_item item;
    size_t len = strlen(key);
    bool any = false;
    int got;
    while ((got = cmdline_next(&line, &item)) > 0)
        if (item.key_len == len && !memcmp(item.key, key, len)) {
            *found = item;
            any = true;
        }
    return any ? 1 : got;
}

int cmdline_get(const char *line, const char *key, char *out, size_t size)
{
    struct cmdline_item item;
    int got = find(line, key, &item);
    if (got <= 0)
        return got < 0 ? got : -ENOENT;
    return cmdline_value(&item, out, size);
}

bool cmdline_has(const char *line, const char *key)
{
    struct cmdline_item item;
    return find(line, key, &item) > 0;
}

/* ---- commands and words ---------------------------------------------------------------- */

/* One step through a command: what the byte at p means, with quote as the state (0, '\'' or '"').
 * LITERAL takes *p, ESCAPED takes p[1] and both bytes are used up, TOGGLE is a quote itself. */
enum step { LITERAL, ESCAPED, TOGGLE, BROKEN };

static enum step step_of(const char *p, char *quote)
{
    if (*quote == '\'' ? *p == '\'' : *quote == '"' ? *p == '"' : *p == '\'' || *p == '"') {
        *quote = *quote ? '\0' : *p;
        return TOGGLE;
    }
    if (*p != '\\' || *quote == '\'')
        return LITERAL;
    if (*quote == '"')
        return p[1] == '"' || p[1] == '\\' ? ESCAPED : LITERAL;
    return p[1] ? ESCAPED : BROKEN;
}

char *cmdline_command(char **rest)
{
    char *start = *rest;
    char *p = start;
    char quote = '\0';
    if (!start || !*start)
        return NULL;
    for (; *p; p++) {
        enum step step = step_of(p, &quote);
        if (step == ESCAPED)
            p++;
        else if (step == LITERAL && !quote && (*p == ';' || *p == '\n'))
            break;
    }
    *rest = *p ? p + 1 : p;
    *p = '\0';
    return start;
}

/* Unquote the word at *at, writing it at out, which is never ahead of it. Returns the byte that
 * ended it, a blank or '\0', or -EINVAL. */
static int read_word(char **at, char *out)
{
    char quote = '\0';
    char *p = *at;
    for (; *p && (quote || !is_blank(*p)); p++) {
        switch (step_of(p, &quote)) {
        case TOGGLE:
            break;
        case ESCAPED:
            *out++ = *++p;
            break;
        case LITERAL:
            *out++ = *p;
            break;
        case BROKEN:
            return -EINVAL;
        }
    }
    if (quote)
        return -EINVAL;
    int end = *p ? ' ' : '\0';
    *at = p;
    *out = '\0';
    return end;
}

int cmdline_words(char *text, char **words, unsigned max)
{
    unsigned count = 0;
    int end = ' ';
    while (end) {
        while (is_blank(*text))
            text++;
        if (!*text)
            break;
        if (count + 1 >= max)
            return -ENOSPC;
        words[count] = text;
        end = read_word(&text, words[count]);
        if (end < 0)
            return end;
        count++;
        text += end ? 1 : 0;
    }
    if (!max)
        return -ENOSPC;
    words[count] = NULL;
    return (int)count;
}

/* ---- writing --------------------------------------------------------------------------- */

/* A text that grows; full once something did not fit. */
struct text {
    char *bytes;
    size_t size;
    size_t len;
    size_t before; /* where it ended at first */
    bool full;
};

static struct text text_open(char *bytes, size_t size)
{
    size_t len = strnlen(bytes, size);
    return (struct text){bytes, size, len, len, len >= size};
}

static void put(struct text *t, const char *bytes, size_t len)
{
    if (t->full || len >= t->size - t->len) {
        t->full = true;
        return;
    }
    memcpy(t->bytes + t->len, bytes, len);
    t->len += len;
}

static int text_close(struct text *t)
{
    if (t->before >= t->size)
        return -ENOSPC;
    if (t->full)
        t->len = t->before;
    t->bytes[t->len] = '\0';
    return t->full ? -ENOSPC : 0;
}

static void put_key(struct text *t, const char *key, const char *mark)
{
    if (t->len)
        put(t, " ", 1);
    put(t, key, strlen(key));
    put(t, mark, strlen(mark));
}

static bool is_plain(const char *value)
{
    return *value != '"' && *value != '[' && !*skip_plain(value);
}

int cmdline_add(char *line, size_t size, const char *key, const char *value)
{
    struct text t = text_open(line, size);
    bool plain = !value || is_plain(value);
    put_key(&t, key, !value ? "" : plain ? "=" : "=\"");
    for (; value && *value; value++) {
        if (!plain && (*value == '"' || *value == '\\'))
            put(&t, "\\", 1);
        put(&t, value, 1);
    }
    if (!plain)
        put(&t, "\"", 1);
    return text_close(&t);
}

int cmdline_add_list(char *line, size_t size, const char *key, const char *value)
{
    struct text t = text_open(line, size);
    if (strchr(value, ']'))
        return -EINVAL;
    put_key(&t, key, "=[");
    put(&t, value, strlen(value));
    put(&t, "]", 1);
    return text_close(&t);
}

static bool needs_quotes(const char *word)
{
    if (!*word)
        return true;
    for (; *word; word++)
        if (is_blank(*word) || strchr("'\"\\;", *word))
            return true;
    return false;
}

int cmdline_add_word(char *command, size_t size, const char *word)
{
    struct text t = text_open(command, size);
    bool quotes = needs_quotes(word);
    if (t.len)
        put(&t, " ", 1);
    if (quotes)
        put(&t, "'", 1);
    for (; *word; word++) {
        if (quotes && *word == '\'')
            put(&t, "'\\''", 4);
        else
            put(&t, word, 1);
    }
    if (quotes)
        put(&t, "'", 1);
    return text_close(&t);
}
