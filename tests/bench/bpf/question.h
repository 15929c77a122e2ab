/* What is asked of the data; compiled for this machine and for the virtual one. */
#include <stdint.h>

uint64_t question(const uint8_t *data, uint64_t size);
