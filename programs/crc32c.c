/* The CRC-32C of the range (RFC 3720, appendix B.4): the checksum of iSCSI, Btrfs and ext4. Returns
 * a uint32. */
#include "csd.h"

static uint32_t table[8][256];

/* table[k] takes a byte on over k more bytes of zeroes. */
static void make_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (uint32_t bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
        table[0][i] = crc;
    }
    for (uint32_t k = 1; k < 8; k++)
        for (uint32_t i = 0; i < 256; i++)
            table[k][i] = table[k - 1][i] >> 8 ^ table[0][table[k - 1][i] & 255];
}

int main(void)
{
    uint32_t crc = 0xffffffff;
    const void *data;
    int64_t n;
    make_table();
    while ((n = csd_next(&data, CSD_CHUNK)) > 0) {
        const uint64_t *words = data;
        uint32_t whole = (uint32_t)n / 8;
        csd_opaque(whole);
        for (uint32_t i = 0; i < whole; i++) {
            const uint64_t w = words[i] ^ crc;
            crc = table[7][w & 255] ^ table[6][w >> 8 & 255] ^ table[5][w >> 16 & 255] ^
                  table[4][w >> 24 & 255] ^ table[3][w >> 32 & 255] ^ table[2][w >> 40 & 255] ^
                  table[1][w >> 48 & 255] ^ table[0][w >> 56];
        }
        uint32_t rest = whole * 8;
        csd_opaque(rest);
        for (uint32_t i = rest; i < (uint32_t)n; i++)
            crc = crc >> 8 ^ table[0][(crc ^ ((const uint8_t *)data)[i]) & 255];
    }
    crc = ~crc;
    bpf_return_data(&crc, sizeof(crc));
    return (int)n;
}
