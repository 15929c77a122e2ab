/* Any bytes as a client's side of the handshake, and what follows it. */
#include "nbd_conn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse(const uint8_t *data, size_t size)
{
    struct nbd_info_option info;
    struct nbd_meta_option meta;
    struct nbd_string query;
    if (nbd_parse_info(data, size, &info))
        nbd_info_requests(&info, NBD_INFO_DESCRIPTION);
    if (nbd_parse_meta(data, size, &meta))
        while (nbd_next_query(&meta, &query))
            nbd_query_is_allocation(&query, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int client;
    parse(data, size);
    struct nbd_conn *c = fuzz_conn(fuzz_service("mem:1M"), &client);
    fuzz_feed(c, client, data, size);
    return 0;
}
