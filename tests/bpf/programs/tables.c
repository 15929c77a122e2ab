/* Addresses in data: of functions, strings, variables, of addresses. */
#include "test.h"

typedef u64 function(u64 a, u64 b);

static u64 plus(u64 a, u64 b)
{
    return a + b;
}
static u64 minus(u64 a, u64 b)
{
    return a - b;
}
SECTION("elsewhere") u64 times(u64 a, u64 b)
{
    return a * b;
}
static function *const constant_table[] = {plus, minus, times};
function *table[4] = {times, minus};

static u64 counter, other = 3;
static u64 *const counters[] = {&counter, &other};
u64 **pointer_to_pointers[1];

struct node {
    const char *name;
    struct node *next;
    function *apply;
    u64 value;
};
static struct node third = {"third", 0, plus, 30};
static struct node second = {"second", &third, minus, 20};
struct node first = {"first", &second, times, 10};

static const char *const names[] = {"red", "green", "blue", "nothing"};
static const char *lists[2][2] = {{"a", "bb"}, {"ccc", "dddd"}};
static const u8 bytes[] = {9, 8, 7, 6, 5};
static const u8 *middle = bytes + 2, *end = bytes + sizeof(bytes);

u64 prog(u8 *memory, u64 size)
{
    u64 sum = 1;
    table[2] = plus;
    table[3] = constant_table[memory[1] % 3];
    for (u64 i = 0; i < 100 && i < size; i++) {
        sum = table[memory[i] % 4](sum, i) ^ constant_table[i % 3](memory[i], 3);
        ++*counters[i % 2];
        sum += (u64)names[memory[i] % 4][1] + (u64)*lists[i % 2][memory[i] / 128];
    }
    for (struct node *n = &first; n; n = n->next)
        sum = n->apply(sum, n->value + (u64)n->name[0]);
    pointer_to_pointers[0] = (u64 **)counters;
    return sum + **pointer_to_pointers[0] + other + *middle + end[-1] + (end > middle);
}
