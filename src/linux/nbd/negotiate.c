/*
 * The handshake: fixed newstyle. The client sends one option after the other and we answer each,
 * until it enters the transmission phase or gives up.
 *
 * Source: "The NBD protocol", sections "Fixed newstyle negotiation", "TLS support", "Metadata
 * querying", "Option types".
 */
#include "linux/nbd/conn.h"

#include <errno.h>
#include <string.h>

/* ---- answers --------------------------------------------------------------------------- */

enum { OUT_SLACK = 8192 }; /* every answer but that of LIST fits */

size_t nbd_negotiate_out_size(const struct nbd_service *service)
{
    size_t size = OUT_SLACK;
    for (unsigned i = 0; i < service->export_count; i++) {
        const struct nbd_export *e = &service->exports[i];
        size += NBD_OPTION_REPLY_SIZE + 4 + strlen(e->name);
        size += e->description ? strlen(e->description) : 0;
    }
    return size;
}

static void put(struct nbd_conn *c, const void *data, size_t len)
{
    if (len > c->out_size - c->out_len) {
        c->broken = true;
        return;
    }
    memcpy(c->out + c->out_len, data, len);
    c->out_len += len;
}

static void put16(struct nbd_conn *c, uint16_t value)
{
    value = htobe16(value);
    put(c, &value, sizeof(value));
}

static void put32(struct nbd_conn *c, uint32_t value)
{
    value = htobe32(value);
    put(c, &value, sizeof(value));
}

static void put64(struct nbd_conn *c, uint64_t value)
{
    value = htobe64(value);
    put(c, &value, sizeof(value));
}

static void put_text(struct nbd_conn *c, const char *text)
{
    put(c, text, strlen(text));
}

/* The header of an answer; len bytes must follow. */
static void answer(struct nbd_conn *c, uint32_t option, uint32_t type, size_t len)
{
    put64(c, NBD_OPTION_REPLY_MAGIC);
    put32(c, option);
    put32(c, type);
    put32(c, (uint32_t)len);
}

static void acknowledge(struct nbd_conn *c, uint32_t option)
{
    answer(c, option, NBD_REP_ACK, 0);
}

static void refuse(struct nbd_conn *c, uint32_t option, uint32_t type, const char *why)
{
    answer(c, option, type, strlen(why));
    put_text(c, why);
}

/* ---- exports --------------------------------------------------------------------------- */

static const struct nbd_export *find_export(const struct nbd_conn *c, const struct nbd_string *name)
{
    const struct nbd_service *s = c->service;
    if (!name->len)
        return &s->exports[0];
    for (unsigned i = 0; i < s->export_count; i++)
        if (strlen(s->exports[i].name) == name->len &&
            !memcmp(s->exports[i].name, name->text, name->len))
            return &s->exports[i];
    return NULL;
}

/* From here on requests. 0, or a negative errno and nothing has changed. */
static int transmit(struct nbd_conn *c, const struct nbd_export *e)
{
    int error = nbd_slots_open(c, e);
    if (error < 0)
        return error;
    c->terms = (struct nbd_terms){
        .size = c->info->size,
        .flags = nbd_transmission_flags(c->info, c->structured),
        .structured = c->structured,
        .allocation = c->structured && c->allocation == e,
    };
    c->phase = NBD_TRANSMISSION;
    c->deadline = 0;
    return 0;
}

static void export_name(struct nbd_conn *c, const uint8_t *data, uint32_t len)
{
    static const char zeroes[NBD_EXPORT_ZEROES];
    struct nbd_string name;
    const struct nbd_export *e = nbd_parse_name(data, len, &name) ? find_export(c, &name) : NULL;
    if (!e || transmit(c, e) < 0) {
        c->broken = true; /* this option has no way to say no */
        return;
    }
    put64(c, c->terms.size);
    put16(c, c->terms.flags);
    if (!c->no_zeroes)
        put(c, zeroes, sizeof(zeroes));
}

static void list(struct nbd_conn *c, uint32_t len)
{
    if (len) {
        refuse(c, NBD_OPT_LIST, NBD_REP_ERR_INVALID, "this option takes no data");
        return;
    }
    for (unsigned i = 0; i < c->service->export_count; i++) {
        const struct nbd_export *e = &c->service->exports[i];
        const char *description = e->description ? e->description : "";
        answer(c, NBD_OPT_LIST, NBD_REP_SERVER, 4 + strlen(e->name) + strlen(description));
        put32(c, (uint32_t)strlen(e->name));
        put_text(c, e->name);
        put_text(c, description);
    }
    acknowledge(c, NBD_OPT_LIST);
}

static void put_info_text(struct nbd_conn *c, uint32_t option, enum nbd_info what, const char *text)
{
    answer(c, option, NBD_REP_INFO, 2 + strlen(text));
    put16(c, (uint16_t)what);
    put_text(c, text);
}

static void put_info(struct nbd_conn *c, uint32_t option, const struct nbd_info_option *asked,
                     const struct nbd_export *e)
{
    const struct blk_info *info = blk_info(e->dev);
    answer(c, option, NBD_REP_INFO, 12);
    put16(c, NBD_INFO_EXPORT);
    put64(c, info->size);
    put16(c, nbd_transmission_flags(info, c->structured));
    answer(c, option, NBD_REP_INFO, 14);
    put16(c, NBD_INFO_BLOCK_SIZE);
    put32(c, nbd_minimum_block(info));
    put32(c, nbd_preferred_block(info));
    put32(c, NBD_MAX_PAYLOAD);
    if (nbd_info_requests(asked, NBD_INFO_NAME))
        put_info_text(c, option, NBD_INFO_NAME, e->name);
    if (nbd_info_requests(asked, NBD_INFO_DESCRIPTION) && e->description)
        put_info_text(c, option, NBD_INFO_DESCRIPTION, e->description);
}

static void info_or_go(struct nbd_conn *c, uint32_t option, const uint8_t *data, uint32_t len)
{
    struct nbd_info_option asked;
    if (!nbd_parse_info(data, len, &asked)) {
        refuse(c, option, NBD_REP_ERR_INVALID, "the data of this option is malformed");
        return;
    }
    const struct nbd_export *e = find_export(c, &asked.name);
    if (!e) {
        refuse(c, option, NBD_REP_ERR_UNKNOWN, "there is no export of this name");
        return;
    }
    if (option == NBD_OPT_GO && transmit(c, e) < 0) {
        refuse(c, option, NBD_REP_ERR_POLICY, "the device takes no more connections now");
        return;
    }
    put_info(c, option, &asked, e);
    acknowledge(c, option);
}

/* ---- the other options ----------------------------------------------------------------- */

static bool selects_allocation(struct nbd_meta_option *meta, bool listing)
{
    struct nbd_string query;
    bool found = listing && !meta->count;
    while (nbd_next_query(meta, &query))
        found |= nbd_query_is_allocation(&query, listing);
    return found;
}

static void meta_context(struct nbd_conn *c, uint32_t option, const uint8_t *data, uint32_t len)
{
    struct nbd_meta_option meta;
    bool listing = option == NBD_OPT_LIST_META_CONTEXT;
    if (!listing)
        c->allocation = NULL;
    if (!nbd_parse_meta(data, len, &meta)) {
        refuse(c, option, NBD_REP_ERR_INVALID, "the data of this option is malformed");
        return;
    }
    if (!listing && !c->structured) {
        refuse(c, option, NBD_REP_ERR_INVALID, "structured replies must be negotiated first");
        return;
    }
    const struct nbd_export *e = find_export(c, &meta.name);
    if (!e) {
        refuse(c, option, NBD_REP_ERR_UNKNOWN, "there is no export of this name");
        return;
    }
    if (selects_allocation(&meta, listing)) {
        if (!listing)
            c->allocation = e;
        answer(c, option, NBD_REP_META_CONTEXT, 4 + strlen("base:allocation"));
        put32(c, listing ? 0 : NBD_ALLOCATION_ID);
        put_text(c, "base:allocation");
    }
    acknowledge(c, option);
}

static void structured_reply(struct nbd_conn *c, uint32_t len)
{
    if (len || c->structured) {
        refuse(c, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_INVALID,
               len ? "this option takes no data" : "structured replies are negotiated already");
        return;
    }
    c->structured = true;
    acknowledge(c, NBD_OPT_STRUCTURED_REPLY);
}

static void start_tls(struct nbd_conn *c, uint32_t len)
{
    if (!c->service->tls || !c->fixed) {
        refuse(c, NBD_OPT_STARTTLS, NBD_REP_ERR_POLICY, "TLS is not configured");
    } else if (len || c->stream.tls) {
        refuse(c, NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID,
               len ? "this option takes no data" : "TLS is on already");
    } else if (c->in_start != c->in_end) {
        /* What was sent in the clear must not count as said inside TLS. */
        c->broken = true;
    } else {
        acknowledge(c, NBD_OPT_STARTTLS);
        c->structured = false;
        c->allocation = NULL;
        c->phase = NBD_TLS;
    }
}

static void handle_option(struct nbd_conn *c, uint32_t option, const uint8_t *data, uint32_t len)
{
    bool needs_tls = c->service->require_tls && !c->stream.tls;
    if (option == NBD_OPT_ABORT) {
        acknowledge(c, option);
        nbd_conn_end(c);
    } else if (option == NBD_OPT_STARTTLS) {
        start_tls(c, len);
    } else if (needs_tls && option == NBD_OPT_EXPORT_NAME) {
        c->broken = true;
    } else if (needs_tls) {
        refuse(c, option, NBD_REP_ERR_TLS_REQD, "this server requires TLS");
    } else if (option == NBD_OPT_EXPORT_NAME) {
        export_name(c, data, len);
    } else if (option == NBD_OPT_LIST) {
        list(c, len);
    } else if (option == NBD_OPT_INFO || option == NBD_OPT_GO) {
        info_or_go(c, option, data, len);
    } else if (option == NBD_OPT_STRUCTURED_REPLY) {
        structured_reply(c, len);
    } else if (option == NBD_OPT_LIST_META_CONTEXT || option == NBD_OPT_SET_META_CONTEXT) {
        meta_context(c, option, data, len);
    } else {
        refuse(c, option, NBD_REP_ERR_UNSUP, "unknown option");
    }
}

/* ---- the course of it ------------------------------------------------------------------ */

void nbd_negotiate_greet(struct nbd_conn *c)
{
    put64(c, NBD_MAGIC);
    put64(c, NBD_OPTION_MAGIC);
    put16(c, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
}

static bool take_hello(struct nbd_conn *c)
{
    if (c->in_end - c->in_start < NBD_CLIENT_FLAGS_SIZE)
        return false;
    uint32_t flags = load_be32(c->in + c->in_start);
    c->in_start += NBD_CLIENT_FLAGS_SIZE;
    c->fixed = flags & NBD_FLAG_FIXED_NEWSTYLE;
    c->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
    if (flags & ~(uint32_t)(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES))
        c->broken = true;
    c->phase = NBD_OPTIONS;
    return true;
}

static bool take_option(struct nbd_conn *c)
{
    struct nbd_option o;
    size_t have = c->in_end - c->in_start;
    const uint8_t *header = c->in + c->in_start;
    if (have < NBD_OPTION_SIZE)
        return false;
    if (!nbd_parse_option(header, &o) || c->options == NBD_OPTIONS_MAX) {
        c->broken = true;
        return true;
    }
    if (o.len > NBD_OPTION_MAX && o.option != NBD_OPT_EXPORT_NAME) {
        c->in_start += NBD_OPTION_SIZE;
        c->skip = o.len;
        c->options++;
        refuse(c, o.option, NBD_REP_ERR_TOO_BIG, "too much data in one option");
        return true;
    }
    if (o.len > NBD_OPTION_MAX)
        c->broken = true;
    if (o.len > NBD_OPTION_MAX || have - NBD_OPTION_SIZE < o.len)
        return c->broken;
    c->in_start += NBD_OPTION_SIZE + o.len;
    c->options++;
    handle_option(c, o.option, header + NBD_OPTION_SIZE, o.len);
    return true;
}

static bool tls_handshake(struct nbd_conn *c)
{
    if (!c->stream.tls && nbd_stream_start_tls(&c->stream, c->service->tls) < 0) {
        c->broken = true;
        return true;
    }
    int error = nbd_stream_handshake(&c->stream);
    if (error == 0) {
        c->phase = NBD_OPTIONS;
        c->readable = c->writable = true;
        return true;
    }
    if (error != -EAGAIN)
        c->broken = true;
    else if (nbd_stream_wants_write(&c->stream))
        c->writable = false;
    else
        c->readable = false;
    return c->broken;
}

bool nbd_negotiate(struct nbd_conn *c)
{
    if (c->out_sent < c->out_len)
        return false;
    c->out_sent = c->out_len = 0;
    if (c->phase == NBD_HELLO)
        return take_hello(c);
    if (c->phase == NBD_TLS)
        return tls_handshake(c);
    return take_option(c);
}
