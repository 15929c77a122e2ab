/* Reading a line: editing keys of a VT100 (arrows, Home, End, Delete, Ctrl-A, E, K, U, W, L) and
 * the lines before. */
#include <string.h>

#include "base/util.h"
#include "os/os.h"
#include "os/shell/shell.h"

enum { HISTORY = 16, HISTORY_LINE = 256 };

static char history[HISTORY][HISTORY_LINE];
static unsigned history_count; /* of all times */

struct editor {
    char *line;
    unsigned size, len, at;
    unsigned back; /* lines up in the history; 0: the new one */
};

static char read_key(void)
{
    static char keys[64];
    static size_t have, next;
    if (next == have) {
        have = console_read(keys, sizeof(keys));
        next = 0;
    }
    return keys[next++];
}

/* Show the line from a place on, and put the cursor where it is. */
static void show(const struct editor *e, unsigned from)
{
    console_write(e->line + from, e->len - from);
    print("\033[K");
    if (e->len > e->at)
        print("\033[%uD", e->len - e->at);
}

static void move(struct editor *e, unsigned to)
{
    if (to < e->at)
        print("\033[%uD", e->at - to);
    else if (to > e->at)
        print("\033[%uC", to - e->at);
    e->at = to;
}

static void erase(struct editor *e, unsigned from, unsigned to)
{
    memmove(e->line + from, e->line + to, e->len - to);
    e->len -= to - from;
    move(e, from);
    show(e, from);
}

static void insert(struct editor *e, char c)
{
    if (e->len + 1 >= e->size)
        return;
    memmove(e->line + e->at + 1, e->line + e->at, e->len - e->at);
    e->line[e->at] = c;
    e->len++;
    e->at++;
    if (e->at == e->len)
        console_write(&c, 1);
    else
        show(e, e->at - 1);
}

static void recall(struct editor *e, bool older)
{
    const unsigned kept = (unsigned)min_u64(history_count, HISTORY);
    if (older ? e->back >= kept : e->back == 0)
        return;
    e->back += older ? 1u : -1u;
    move(e, 0);
    const char *text = e->back ? history[(history_count - e->back) % HISTORY] : "";
    e->len = e->at = (unsigned)min_u64(strlen(text), e->size - 1);
    memcpy(e->line, text, e->len);
    show(e, 0);
}

static unsigned word_start(const struct editor *e)
{
    unsigned at = e->at;
    while (at && e->line[at - 1] == ' ')
        at--;
    while (at && e->line[at - 1] != ' ')
        at--;
    return at;
}

static void escape(struct editor *e)
{
    const char kind = read_key();
    if (kind != '[' && kind != 'O')
        return;
    char c = read_key(), digit = 0;
    if (c >= '0' && c <= '9') {
        digit = c;
        while ((c = read_key()) != '~' && c >= '0' && c <= ';')
            ;
    }
    if (c == 'A' || c == 'B')
        recall(e, c == 'A');
    else if (c == 'C' && e->at < e->len)
        move(e, e->at + 1);
    else if (c == 'D' && e->at)
        move(e, e->at - 1);
    else if (c == 'H' || digit == '1' || digit == '7')
        move(e, 0);
    else if (c == 'F' || digit == '4' || digit == '8')
        move(e, e->len);
    else if (digit == '3' && e->at < e->len)
        erase(e, e->at, e->at + 1);
}

static void control(struct editor *e, char c)
{
    switch (c) {
    case 1: /* Ctrl-A */
        move(e, 0);
        break;
    case 5: /* Ctrl-E */
        move(e, e->len);
        break;
    case 8: /* Backspace */
    case 127:
        if (e->at)
            erase(e, e->at - 1, e->at);
        break;
    case 11: /* Ctrl-K */
        erase(e, e->at, e->len);
        break;
    case 12: /* Ctrl-L */
        print("\033[H\033[2JASHLAR> ");
        show(e, 0);
        break;
    case 21: /* Ctrl-U */
        erase(e, 0, e->at);
        break;
    case 23: /* Ctrl-W */
        erase(e, word_start(e), e->at);
        break;
    case 27:
        escape(e);
        break;
    default:
        break;
    }
}

static void remember(const char *line)
{
    if (!*line || (history_count && !strcmp(history[(history_count - 1) % HISTORY], line)))
        return;
    char *to = history[history_count++ % HISTORY];
    const size_t n = min_u64(strlen(line), HISTORY_LINE - 1);
    memcpy(to, line, n);
    to[n] = '\0';
}

bool shell_read_line(char *line, unsigned size)
{
    struct editor e = {.line = line, .size = size};
    for (;;) {
        const char c = read_key();
        if (c == '\r' || c == '\n')
            break;
        if (c == 3) { /* Ctrl-C: another line */
            print("^C");
            e.len = 0;
            break;
        }
        if (c == 4 && !e.len) {
            print("\n");
            return false;
        }
        if ((unsigned char)c >= ' ' && c != 127)
            insert(&e, c);
        else
            control(&e, c);
    }
    print("\n");
    line[e.len] = '\0';
    console_interrupted();
    remember(line);
    return true;
}
