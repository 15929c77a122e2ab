/* Run a program of this folder as plain C: native MEMORY OUT */
#include <stdio.h>
#include <stdlib.h>

#include "test.h"

void say(const char *text)
{
    fprintf(stderr, "%s\n", text);
}

int main(int argc, char **argv)
{
    static u8 memory[1 << 16] __attribute__((aligned(8)));
    FILE *in = argc == 3 ? fopen(argv[1], "rb") : NULL;
    FILE *out = argc == 3 ? fopen(argv[2], "wb") : NULL;
    if (!in || !out)
        return 1;
    const size_t size = fread(memory, 1, sizeof(memory), in);
    const u64 r0 = prog(memory, size);
    printf("r0 = %#llx (%llu", r0, r0);
    if (r0 >> 63)
        printf(", %lld", (s64)r0);
    printf(")\n");
    return fwrite(memory, 1, size, out) != size || fclose(out);
}
