/* base/crc32c.h: the checksum of every structure that Ashlar writes. */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* CRC-32C (Castagnoli; RFC 3720, appendix B.4). Start with crc 0; feed the result of one part in
 * for the next. Uses the processor's instruction where there is one. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

/* The same without the instruction; for processors that lack it, and to test the other. */
uint32_t crc32c_portable(uint32_t crc, const void *data, size_t len);

#endif
