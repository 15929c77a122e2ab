/* No functions yet: the first link finds them out. */
#include <stdint.h>
extern const uint32_t image_symbols_none[];
const uint32_t image_symbols_none[1] __attribute__((section(".symbols"), used)) = {0};
