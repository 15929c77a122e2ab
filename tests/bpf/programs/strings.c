/* Text, which clang puts into sections of its own. */
#include "test.h"

static const char greeting[] = "a greeting that is not short";
const char *global_text = "global text";
static const char words[4][8] = {"alpha", "beta", "gamma", "delta"};

static NOINLINE u64 length(const char *s)
{
    u64 n = 0;
    while (s[n])
        n++;
    return n;
}

static NOINLINE int compare(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return (u8)*a - (u8)*b;
}

static NOINLINE const char *name(u64 n)
{
    switch (n % 4) {
    case 0:
        return "zero";
    case 1:
        return "one";
    case 2:
        return "two";
    default:
        return "many";
    }
}

u64 prog(u8 *memory, u64 size)
{
    u64 sum = length(greeting) * 1000 + length(global_text);
    for (u64 i = 0; i < 64 && i < size; i++) {
        const char *s = name(memory[i]);
        sum = sum * 17 + length(s) + (u64)compare(s, words[memory[i] % 4]);
        memory[i] = (u8)s[1];
    }
    char copy[16] = "on the stack";
    copy[memory[0] % 12] = '!';
    say(copy);
    say(greeting);
    return sum + length(copy) + (u64)copy[5];
}
