/*
 * Any bytes as a client's side of the transmission phase.
 *
 * The first byte says what was negotiated; magic numbers are put in, so that the rest is spent on
 * what comes after them.
 */
#include "nbd_conn.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t put_option(uint8_t *out, uint32_t option, const void *data, uint32_t len)
{
    store_be64(out, NBD_OPTION_MAGIC);
    store_be32(out + 8, option);
    store_be32(out + 12, len);
    memcpy(out + 16, data, len);
    return 16 + len;
}

static size_t handshake(uint8_t *out, unsigned choice)
{
    static const uint8_t meta[] = "\0\0\0\1a\0\0\0\1\0\0\0\017base:allocation";
    static const uint8_t go[] = "\0\0\0\1a\0";
    size_t len = 4;
    store_be32(out, 3);
    if (choice & 1)
        len += put_option(out + len, NBD_OPT_STRUCTURED_REPLY, "", 0);
    if (choice & 2)
        len += put_option(out + len, NBD_OPT_SET_META_CONTEXT, meta, sizeof(meta) - 1);
    if (choice & 4)
        return len + put_option(out + len, NBD_OPT_EXPORT_NAME, choice & 8 ? "b" : "",
                                choice & 8 ? 1 : 0);
    return len + put_option(out + len, NBD_OPT_GO, go, sizeof(go));
}

/* Requests as the bytes say, with the magic number in place and offsets that often hit. */
static size_t requests(uint8_t *out, const uint8_t *data, size_t size)
{
    size_t len = 0;
    while (size >= 12) {
        uint32_t data_len = load_be32(data + 8) & 0x3ffff;
        uint8_t *h = out + len;
        memset(h, 0, NBD_REQUEST_SIZE);
        store_be32(h, data[0] == 0xff ? 0 : NBD_REQUEST_MAGIC);
        h[5] = data[1];
        h[7] = data[2] % 10;
        store_be64(h + 16, (uint64_t)load_be32(data + 4) >> (data[3] % 32));
        store_be32(h + 24, data_len);
        len += NBD_REQUEST_SIZE;
        data += 12;
        size -= 12;
        if (h[7] != NBD_CMD_WRITE)
            continue;
        /* A payload of what is left, so that some writes are whole and some are cut off. */
        size_t part = size < data_len ? size : data_len;
        memcpy(out + len, data, part);
        len += part;
        data += part;
        size -= part;
    }
    return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const device = "mem:1M";
    int client;
    if (size < 1 || size > 1 << 16)
        return 0;
    /* Each 12 bytes become at most 28, in front of them the handshake. */
    uint8_t *out = malloc(4 * size + 256);
    if (!out)
        return 0;
    size_t len = handshake(out, data[0]);
    len += requests(out + len, data + 1, size - 1);
    struct nbd_conn *c = fuzz_conn(fuzz_service(device), &client);
    fuzz_feed(c, client, out, len);
    free(out);
    return 0;
}
