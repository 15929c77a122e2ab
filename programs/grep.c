/* How many lines hold the argument, byte for byte (grep -c -F)? It may be 1 to 63 bytes, and no
 * line feed. Returns a uint64. */
#include "csd.h"

enum { MAX = 63, EINVAL = 22 };

/* From how much of the pattern has been seen, and the next byte, to how much has been seen. Once
 * it was seen whole, that stays until the line ends. */
static uint8_t step[(MAX + 1) * 256];

/* `same` is where the automaton would be if it had started one byte later. */
static void make_steps(const uint8_t *pattern, uint32_t len)
{
    uint32_t same = 0;
    step[pattern[0]] = 1;
    for (uint32_t seen = 1; seen < MAX && seen < len; seen++) {
        const uint8_t byte = pattern[seen];
        for (uint32_t c = 0; c < 256; c++)
            step[seen * 256 + c] = step[(same & MAX) * 256 + c];
        step[seen * 256 + byte] = (uint8_t)(seen + 1);
        same = step[(same & MAX) * 256 + byte];
    }
    for (uint32_t c = 0; c < 256; c++)
        step[(len & MAX) * 256 + c] = (uint8_t)len;
}

int main(void)
{
    uint64_t count = 0;
    uint32_t seen = 0;
    const void *data;
    int64_t n;
    const uint32_t len = (uint32_t)csd_arg(&data);
    if (len < 1 || len > MAX)
        return -EINVAL;
    make_steps(data, len);
    while ((n = csd_next(&data, CSD_CHUNK)) > 0) {
        const uint8_t *bytes = data;
        for (uint32_t i = 0; i < (uint32_t)n; i++) {
            if (bytes[i] == '\n') {
                count += seen == len;
                seen = 0;
            } else {
                seen = step[(seen & MAX) * 256 + bytes[i]];
            }
        }
    }
    count += seen == len; /* the last line may have no line feed */
    bpf_return_data(&count, sizeof(count));
    return (int)n;
}
