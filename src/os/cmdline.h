/*
 * os/cmdline.h: the kernel command line, as `ashlar boot` writes it and the unikernel reads it.
 *
 *     line  = items with blanks (space, tab, newline) between them
 *     item  = key | key "=" value
 *     value = plain         any bytes but blanks; not starting with a quote or a bracket
 *           | '"' text '"'  may hold blanks; \" is a quote, \\ a backslash
 *           | '[' text ']'  may hold blanks, but no ']' and no escapes: lists
 *
 * Such as: console=ttyS0 vfs.fstab=[share0:/share:9pfs:rw] exec="blkdevs; cat \"/a b\"" interactive
 *
 * A value may itself be commands: words with blanks between them, and ';' or a newline between
 * commands. In a word, '...' is taken as it is, "..." too but for \" and \\, and outside of quotes
 * a backslash takes the next byte as it is. This is a subset of what a POSIX shell does.
 *
 * Pure functions on the caller's memory; any text may be given to them. Errors are negative errno
 * values: -ENOENT (no such key), -EINVAL (malformed), -ENOSPC (does not fit).
 */
#ifndef OS_CMDLINE_H
#define OS_CMDLINE_H

#include <stdbool.h>
#include <stddef.h>

#define CMDLINE_MAX 4096 /* bytes of a line with its ending zero */

/* ---- reading --------------------------------------------------------------------------- */

/* One item; points into the line. value is what stands between quotes or brackets, still escaped;
 * NULL for an item without '='. */
struct cmdline_item {
    const char *key;
    size_t key_len;
    const char *value;
    size_t value_len;
    bool escaped; /* the value stood in quotes */
};

/* The item at *at, which moves behind it: 1; 0 at the end; -EINVAL if what is there is malformed:
 * a quote or bracket that does not end, or is followed by something else than a blank. */
int cmdline_next(const char **at, struct cmdline_item *item);

/* 0 if the whole line can be read, else -EINVAL. */
int cmdline_check(const char *line);

/* The value of an item without its escapes: its length, without the ending zero; -ENOSPC. */
int cmdline_value(const struct cmdline_item *item, char *out, size_t size);

/* The value of the last item with this key ("" if it has no '='): its length; -ENOENT, -ENOSPC.
 * Items behind a malformed one are not seen; -EINVAL if that may be why there is none. */
int cmdline_get(const char *line, const char *key, char *out, size_t size);

/* Is there an item with this key, with or without a value? */
bool cmdline_has(const char *line, const char *key);

/* Cut the next command off *rest, in place, at a ';' or newline that is not quoted; it may be
 * blank. NULL when there is no more. Start with *rest at the text; it is changed. */
char *cmdline_command(char **rest);

/* Cut a command into its words, in place, without their quotes, and NULL after the last: returns
 * their number. -EINVAL if a quote does not end or the last byte is a lone backslash, -ENOSPC if
 * there are more than max - 1. */
int cmdline_words(char *text, char **words, unsigned max);

/* ---- writing --------------------------------------------------------------------------- */

/* Append an item to the line, quoted if it needs that; value NULL: the key alone. -ENOSPC leaves
 * the line as it was. */
int cmdline_add(char *line, size_t size, const char *key, const char *value);

/* Append a list: key=[value]. -EINVAL if the value holds a ']'. */
int cmdline_add_list(char *line, size_t size, const char *key, const char *value);

/* Append a word to a command, quoted if it needs that. */
int cmdline_add_word(char *command, size_t size, const char *word);

#endif
