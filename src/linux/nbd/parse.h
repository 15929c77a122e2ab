/*
 * linux/nbd/parse.h: what a client sent, checked. Pure functions: bytes in, facts out.
 *
 * Strings point into the bytes that were parsed.
 */
#ifndef NBD_PARSE_H
#define NBD_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ashlar/blk.h>

#include "linux/nbd/proto.h"

/* Not ended by a zero byte. */
struct nbd_string {
    const char *text;
    uint32_t len;
};

struct nbd_option {
    uint32_t option; /* enum nbd_opt, or unknown */
    uint32_t len;    /* of the data that follows */
};

/* Data of NBD_OPT_INFO and NBD_OPT_GO. */
struct nbd_info_option {
    struct nbd_string name;
    uint16_t count;          /* information requests */
    const uint8_t *requests; /* 16 bits each */
};

/* Data of NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT. */
struct nbd_meta_option {
    struct nbd_string name;
    uint32_t count;         /* queries not yet taken by nbd_next_query() */
    const uint8_t *queries; /* the next one */
};

struct nbd_request {
    uint16_t flags;
    uint16_t type; /* enum nbd_cmd, or unknown */
    uint64_t cookie;
    uint64_t offset;
    uint32_t len;
};

/* What a connection has negotiated. */
struct nbd_terms {
    uint64_t size;
    uint16_t flags; /* transmission flags */
    bool structured;
    bool allocation; /* base:allocation was selected */
};

/* header: NBD_OPTION_SIZE bytes. false: the magic number is wrong. */
bool nbd_parse_option(const uint8_t *header, struct nbd_option *option);

/* A name alone, as in NBD_OPT_EXPORT_NAME. false: no valid string. */
bool nbd_parse_name(const uint8_t *data, size_t len, struct nbd_string *name);

/* false: the parts do not fill the data exactly, or a string is invalid. */
bool nbd_parse_info(const uint8_t *data, size_t len, struct nbd_info_option *info);
bool nbd_parse_meta(const uint8_t *data, size_t len, struct nbd_meta_option *meta);

bool nbd_info_requests(const struct nbd_info_option *info, enum nbd_info what);

/* The next query; false: there is none. */
bool nbd_next_query(struct nbd_meta_option *meta, struct nbd_string *query);

/* Whether the query asks for base:allocation; with wildcard also as "base:". */
bool nbd_query_is_allocation(const struct nbd_string *query, bool wildcard);

/* header: NBD_REQUEST_SIZE bytes. false: the magic number is wrong. */
bool nbd_parse_request(const uint8_t *header, struct nbd_request *request);

/* Whether the request may be done. Returns 0, or the error for the client with the reason in
 * *why. Not for NBD_CMD_DISC. */
enum nbd_error nbd_check_request(const struct nbd_terms *terms, const struct nbd_request *request,
                                 const char **why);

/* The error for the client; error is a negative errno or 0. */
enum nbd_error nbd_error_of(int error);

/* The transmission flags of a device, and the block sizes to advertise. */
uint16_t nbd_transmission_flags(const struct blk_info *info, bool structured);
uint32_t nbd_minimum_block(const struct blk_info *info);
uint32_t nbd_preferred_block(const struct blk_info *info);

#endif
