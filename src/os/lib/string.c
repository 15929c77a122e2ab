/* Functions of C17 7.24 that the C library has only in versions which use vector registers. */
#include <stddef.h>
#include <string.h>

size_t strspn(const char *text, const char *set)
{
    size_t n = 0;
    while (text[n] && strchr(set, text[n]))
        n++;
    return n;
}

size_t strcspn(const char *text, const char *set)
{
    size_t n = 0;
    while (text[n] && !strchr(set, text[n]))
        n++;
    return n;
}

char *strpbrk(const char *text, const char *set)
{
    text += strcspn(text, set);
    return *text ? (char *)text : NULL;
}

char *strstr(const char *text, const char *word)
{
    const size_t n = strlen(word);
    for (;; text++) {
        if (!strncmp(text, word, n))
            return (char *)text;
        if (!*text)
            return NULL;
    }
}
