/* Parsing and checking of what NBD clients send. */
#include "linux/nbd/parse.h"

#include <errno.h>

#include "base/util.h"

/* ---- handshake ------------------------------------------------------------------------- */

bool nbd_parse_option(const uint8_t *header, struct nbd_option *option)
{
    option->option = load_be32(header + 8);
    option->len = load_be32(header + 12);
    return load_be64(header) == NBD_OPTION_MAGIC;
}

bool nbd_parse_name(const uint8_t *data, size_t len, struct nbd_string *name)
{
    if (len > NBD_STRING_MAX || memchr(data, 0, len))
        return false;
    name->text = (const char *)data;
    name->len = (uint32_t)len;
    return true;
}

/* A string behind its length of 32 bits; moves *data and *len past it. */
static bool take_string(const uint8_t **data, size_t *len, struct nbd_string *string)
{
    if (*len < 4)
        return false;
    uint32_t n = load_be32(*data);
    if (n > *len - 4 || !nbd_parse_name(*data + 4, n, string))
        return false;
    *data += 4 + n;
    *len -= 4 + n;
    return true;
}

bool nbd_parse_info(const uint8_t *data, size_t len, struct nbd_info_option *info)
{
    if (!take_string(&data, &len, &info->name) || len < 2)
        return false;
    info->count = load_be16(data);
    info->requests = data + 2;
    return len == 2 + (size_t)2 * info->count;
}

bool nbd_info_requests(const struct nbd_info_option *info, enum nbd_info what)
{
    for (unsigned i = 0; i < info->count; i++)
        if (load_be16(info->requests + (size_t)2 * i) == (unsigned)what)
            return true;
    return false;
}

bool nbd_parse_meta(const uint8_t *data, size_t len, struct nbd_meta_option *meta)
{
    struct nbd_string query;
    if (!take_string(&data, &len, &meta->name) || len < 4)
        return false;
    meta->count = load_be32(data);
    meta->queries = data += 4;
    len -= 4;
    for (uint32_t i = 0; i < meta->count; i++)
        if (!take_string(&data, &len, &query))
            return false;
    return len == 0;
}

bool nbd_next_query(struct nbd_meta_option *meta, struct nbd_string *query)
{
    size_t len = 4 + NBD_STRING_MAX; /* checked by nbd_parse_meta() */
    if (!meta->count)
        return false;
    meta->count--;
    return take_string(&meta->queries, &len, query);
}

static bool equals(const struct nbd_string *string, const char *text)
{
    return string->len == strlen(text) && !memcmp(string->text, text, string->len);
}

bool nbd_query_is_allocation(const struct nbd_string *query, bool wildcard)
{
    return equals(query, "base:allocation") || (wildcard && equals(query, "base:"));
}

/* ---- transmission ---------------------------------------------------------------------- */

bool nbd_parse_request(const uint8_t *header, struct nbd_request *request)
{
    request->flags = load_be16(header + 4);
    request->type = load_be16(header + 6);
    request->cookie = load_be64(header + 8);
    request->offset = load_be64(header + 16);
    request->len = load_be32(header + 24);
    return load_be32(header) == NBD_REQUEST_MAGIC;
}

/* What each command needs and allows. */
static const struct command {
    uint16_t needs; /* the transmission flag that offers it */
    uint16_t flags; /* command flags, besides FUA that all take */
    bool modifies;
    bool payload; /* carries data one way or the other */
} commands[] = {
    [NBD_CMD_READ] = {0, NBD_CMD_FLAG_DF, false, true},
    [NBD_CMD_WRITE] = {0, 0, true, true},
    [NBD_CMD_FLUSH] = {NBD_FLAG_SEND_FLUSH, 0, false, false},
    [NBD_CMD_TRIM] = {NBD_FLAG_SEND_TRIM, 0, true, false},
    [NBD_CMD_CACHE] = {NBD_FLAG_SEND_CACHE, 0, false, false},
    [NBD_CMD_WRITE_ZEROES] = {NBD_FLAG_SEND_WRITE_ZEROES,
                              NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO, true, false},
    [NBD_CMD_BLOCK_STATUS] = {0, NBD_CMD_FLAG_REQ_ONE, false, false},
};

static enum nbd_error because(const char **why, const char *text, enum nbd_error error)
{
    *why = text;
    return error;
}

static bool flags_ok(const struct nbd_terms *t, const struct nbd_request *r)
{
    unsigned allowed = NBD_CMD_FLAG_FUA | commands[r->type].flags;
    if (!(t->flags & NBD_FLAG_SEND_DF))
        allowed &= ~(unsigned)NBD_CMD_FLAG_DF;
    if (!(t->flags & NBD_FLAG_SEND_FAST_ZERO))
        allowed &= ~(unsigned)NBD_CMD_FLAG_FAST_ZERO;
    return !(r->flags & ~allowed);
}

static enum nbd_error check_range(const struct nbd_terms *t, const struct nbd_request *r,
                                  const char **why)
{
    const struct command *c = &commands[r->type];
    if (r->type == NBD_CMD_FLUSH)
        return r->offset || r->len
                   ? because(why, "offset and length of a flush must be 0", NBD_EINVAL)
                   : NBD_OK;
    if (c->payload && r->len > NBD_MAX_PAYLOAD)
        return because(why, "more than 32 MiB in one request",
                       r->type == NBD_CMD_READ && t->structured ? NBD_EOVERFLOW : NBD_EINVAL);
    if (!range_ok(r->offset, r->len, t->size))
        return because(why, "reaches past the end of the device",
                       r->type == NBD_CMD_WRITE || r->type == NBD_CMD_WRITE_ZEROES ? NBD_ENOSPC
                                                                                   : NBD_EINVAL);
    if (!r->len && r->type == NBD_CMD_BLOCK_STATUS)
        return because(why, "length 0 has no status", NBD_EINVAL);
    return NBD_OK;
}

enum nbd_error nbd_check_request(const struct nbd_terms *t, const struct nbd_request *r,
                                 const char **why)
{
    if (r->type >= ARRAY_SIZE(commands))
        return because(why, "unknown command", NBD_EINVAL);
    const struct command *c = &commands[r->type];
    if (!flags_ok(t, r))
        return because(why, "a flag that this command does not take", NBD_EINVAL);
    if (c->modifies && (t->flags & NBD_FLAG_READ_ONLY))
        return because(why, "the export is read-only", NBD_EPERM);
    if ((t->flags & c->needs) != c->needs)
        return because(why, "the device cannot do this command", NBD_EINVAL);
    if (r->type == NBD_CMD_BLOCK_STATUS && !t->allocation)
        return because(why, "base:allocation was not negotiated", NBD_EINVAL);
    return check_range(t, r, why);
}

enum nbd_error nbd_error_of(int error)
{
    switch (-error) {
    case 0:
        return NBD_OK;
    case EPERM:
    case EACCES:
    case EROFS:
        return NBD_EPERM;
    case ENOMEM:
        return NBD_ENOMEM;
    case EINVAL:
    case ERANGE:
        return NBD_EINVAL;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return NBD_ENOSPC;
    case ENOTSUP:
        return NBD_ENOTSUP;
    case ESHUTDOWN:
        return NBD_ESHUTDOWN;
    default:
        return NBD_EIO;
    }
}

/* ---- what a device offers -------------------------------------------------------------- */

uint16_t nbd_transmission_flags(const struct blk_info *info, bool structured)
{
    unsigned flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
                     NBD_FLAG_SEND_CACHE | NBD_FLAG_CAN_MULTI_CONN;
    if (structured)
        flags |= NBD_FLAG_SEND_DF;
    if (info->rotational)
        flags |= NBD_FLAG_ROTATIONAL;
    if (info->read_only)
        return (uint16_t)(flags | NBD_FLAG_READ_ONLY);
    if (info->discard_granularity)
        flags |= NBD_FLAG_SEND_TRIM;
    flags |= NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
    return (uint16_t)flags;
}

uint32_t nbd_minimum_block(const struct blk_info *info)
{
    return (uint32_t)min_u64(info->block_size, NBD_BLOCK_MAX);
}

uint32_t nbd_preferred_block(const struct blk_info *info)
{
    uint64_t least = max_u64(512, nbd_minimum_block(info));
    return (uint32_t)min_u64(max_u64(info->physical_block_size, least), NBD_MAX_PAYLOAD);
}
