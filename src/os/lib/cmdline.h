/*
 * lib/cmdline.h: the kernel command line, and lines that people type: words with quotes.
 *
 * A word ends at a blank. Within '...' everything stands for itself; within "..." and outside of
 * quotes a backslash makes the next character stand for itself. `key="a b"` is one word.
 * A text in [...] at the start of a word or after = is one word too, brackets included.
 */
#ifndef OS_CMDLINE_H
#define OS_CMDLINE_H

#include <stddef.h>

/* The value of key= in a command line, without its quotes, cut to size - 1 bytes. Its length before
 * the cut, or -ENOENT. */
int cmdline_get(const char *line, const char *key, char *value, size_t size);

/* Split a line into words, without quotes, in `storage` (at least strlen(line) + 1 bytes). How many
 * there are, or -E2BIG (over max - 1), -EINVAL (an open quote). words[n] is NULL. */
int cmdline_split(const char *line, char *storage, char **words, unsigned max);

/* The part of a line up to a `;` outside of quotes; *rest is behind it, or NULL at the end. */
size_t cmdline_command(const char *line, const char **rest);

/* Append word to a line in quotes if it needs them. 0, or -ENOSPC. For those who make lines. */
int cmdline_append(char *line, size_t size, const char *word);

#endif
