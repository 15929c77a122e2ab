/* What NBD clients send, checked; and the buffers that it goes to. */
#include "test.h"

#include <stdlib.h>

#include "base/platform.h"
#include "base/util.h"
#include "linux/nbd/arena.h"
#include "linux/nbd/parse.h"

/* Bytes of an option's data, in an allocation of exactly their size, so that a sanitizer sees a
 * read past them. */
struct bytes {
    uint8_t *data;
    size_t len;
};

static void add(struct bytes *b, const void *data, size_t len)
{
    b->data = realloc(b->data, b->len + len);
    assert_non_null(b->data);
    memcpy(b->data + b->len, data, len);
    b->len += len;
}

static void add16(struct bytes *b, uint16_t v)
{
    v = htobe16(v);
    add(b, &v, 2);
}

static void add32(struct bytes *b, uint32_t v)
{
    v = htobe32(v);
    add(b, &v, 4);
}

static void add_text(struct bytes *b, const char *text)
{
    add32(b, (uint32_t)strlen(text));
    add(b, text, strlen(text));
}

static void option_header(void **state)
{
    (void)state;
    static const uint8_t good[NBD_OPTION_SIZE] = {'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T',
                                                  0,   0,   0,   7,   0,   1,   0,   2};
    uint8_t bad[NBD_OPTION_SIZE];
    struct nbd_option o;
    assert_true(nbd_parse_option(good, &o));
    assert_int_equal(o.option, NBD_OPT_GO);
    assert_int_equal(o.len, 65538);
    for (unsigned i = 0; i < 8; i++) {
        memcpy(bad, good, sizeof(bad));
        bad[i] ^= 1;
        assert_false(nbd_parse_option(bad, &o));
    }
}

static void names(void **state)
{
    (void)state;
    struct nbd_string s;
    uint8_t *text = malloc(NBD_STRING_MAX + 1);
    memset(text, 'x', NBD_STRING_MAX + 1);
    assert_true(nbd_parse_name(text, 0, &s));
    assert_int_equal(s.len, 0);
    assert_true(nbd_parse_name(text, NBD_STRING_MAX, &s));
    assert_int_equal(s.len, NBD_STRING_MAX);
    assert_false(nbd_parse_name(text, NBD_STRING_MAX + 1, &s));
    text[7] = 0;
    assert_false(nbd_parse_name(text, 8, &s));
    assert_true(nbd_parse_name(text, 7, &s));
    free(text);
}

static void info(void **state)
{
    (void)state;
    struct bytes b = {0};
    struct nbd_info_option i;
    add_text(&b, "disk");
    add16(&b, 2);
    add16(&b, NBD_INFO_BLOCK_SIZE);
    add16(&b, NBD_INFO_NAME);
    assert_true(nbd_parse_info(b.data, b.len, &i));
    assert_int_equal(i.name.len, 4);
    assert_memory_equal(i.name.text, "disk", 4);
    assert_int_equal(i.count, 2);
    assert_true(nbd_info_requests(&i, NBD_INFO_NAME));
    assert_true(nbd_info_requests(&i, NBD_INFO_BLOCK_SIZE));
    assert_false(nbd_info_requests(&i, NBD_INFO_DESCRIPTION));
    add16(&b, 9);
    assert_false(nbd_parse_info(b.data, b.len, &i)); /* more than it says */
    free(b.data);
}

/* Every beginning of good data that is not all of it is refused, and read no further. */
static void cut_short(void **state)
{
    (void)state;
    struct bytes go = {0}, meta = {0};
    struct nbd_info_option i;
    struct nbd_meta_option m;
    add_text(&go, "a");
    add16(&go, 1);
    add16(&go, NBD_INFO_NAME);
    add_text(&meta, "a");
    add32(&meta, 2);
    add_text(&meta, "base:allocation");
    add_text(&meta, "x:y");
    assert_true(nbd_parse_info(go.data, go.len, &i));
    assert_true(nbd_parse_meta(meta.data, meta.len, &m));
    for (size_t n = 0; n < go.len; n++) {
        struct bytes part = {0};
        add(&part, go.data, n);
        assert_false(nbd_parse_info(part.data, n, &i));
        free(part.data);
    }
    for (size_t n = 0; n < meta.len; n++) {
        struct bytes part = {0};
        add(&part, meta.data, n);
        assert_false(nbd_parse_meta(part.data, n, &m));
        free(part.data);
    }
    free(go.data);
    free(meta.data);
}

static void queries(void **state)
{
    (void)state;
    struct bytes b = {0};
    struct nbd_meta_option m;
    struct nbd_string q;
    add_text(&b, "");
    add32(&b, 3);
    add_text(&b, "base:");
    add_text(&b, "base:allocation");
    add_text(&b, "qemu:dirty-bitmap:x");
    assert_true(nbd_parse_meta(b.data, b.len, &m));
    assert_true(nbd_next_query(&m, &q));
    assert_true(nbd_query_is_allocation(&q, true));
    assert_false(nbd_query_is_allocation(&q, false));
    assert_true(nbd_next_query(&m, &q));
    assert_true(nbd_query_is_allocation(&q, false));
    assert_true(nbd_next_query(&m, &q));
    assert_false(nbd_query_is_allocation(&q, true));
    assert_false(nbd_next_query(&m, &q));
    free(b.data);
}

/* Counts and lengths that would wrap or reach far. */
static void queries_that_lie(void **state)
{
    (void)state;
    static const uint32_t lies[] = {1, 4, 0x7fffffff, 0xfffffffb, 0xfffffffc, 0xffffffff};
    struct nbd_meta_option m;
    struct nbd_info_option i;
    for (size_t k = 0; k < ARRAY_SIZE(lies); k++) {
        struct bytes name = {0}, count = {0}, query = {0};
        add32(&name, lies[k]);
        assert_false(nbd_parse_meta(name.data, name.len, &m));
        assert_false(nbd_parse_info(name.data, name.len, &i));
        add_text(&count, "");
        add32(&count, lies[k]);
        assert_false(nbd_parse_meta(count.data, count.len, &m));
        add_text(&query, "");
        add32(&query, 1);
        add32(&query, lies[k]);
        assert_false(nbd_parse_meta(query.data, query.len, &m));
        free(name.data);
        free(count.data);
        free(query.data);
    }
}

static void request_header(void **state)
{
    (void)state;
    static const uint8_t good[NBD_REQUEST_SIZE] = {0x25, 0x60, 0x95, 0x13, 0, 1, 0,    6, 1, 2,
                                                   3,    4,    5,    6,    7, 8, 0,    0, 0, 1,
                                                   0,    0,    0x10, 0,    0, 0, 0x20, 0};
    struct nbd_request r;
    assert_true(nbd_parse_request(good, &r));
    assert_int_equal(r.flags, NBD_CMD_FLAG_FUA);
    assert_int_equal(r.type, NBD_CMD_WRITE_ZEROES);
    assert_true(r.cookie == UINT64_C(0x0102030405060708));
    assert_true(r.offset == UINT64_C(0x100001000));
    assert_int_equal(r.len, 0x2000);
    uint8_t bad[NBD_REQUEST_SIZE];
    memcpy(bad, good, sizeof(bad));
    bad[3] ^= 4;
    assert_false(nbd_parse_request(bad, &r));
}

static const struct nbd_terms all = {
    .size = 1 << 20,
    .flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM |
             NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_DF | NBD_FLAG_SEND_CACHE |
             NBD_FLAG_SEND_FAST_ZERO,
    .structured = true,
    .allocation = true,
};

static void expect(const struct nbd_terms *terms, unsigned type, unsigned flags, uint64_t offset,
                   uint32_t len, enum nbd_error error)
{
    const char *why = NULL;
    struct nbd_request r = {
        .type = (uint16_t)type, .flags = (uint16_t)flags, .offset = offset, .len = len};
    int got = nbd_check_request(terms, &r, &why);
    if (got != (int)error)
        fail_msg("type %u flags %u offset %llu len %u: %d (%s), expected %d", type, flags,
                 (unsigned long long)offset, len, got, why ? why : "", error);
    assert_true(!error == !why);
}

static void requests_in_range(void **state)
{
    (void)state;
    for (unsigned type = NBD_CMD_READ; type <= NBD_CMD_BLOCK_STATUS; type++) {
        bool writes = type == NBD_CMD_WRITE || type == NBD_CMD_WRITE_ZEROES;
        enum nbd_error past = writes ? NBD_ENOSPC : NBD_EINVAL;
        if (type == NBD_CMD_DISC)
            continue;
        if (type == NBD_CMD_FLUSH) {
            expect(&all, type, 0, 0, 0, NBD_OK);
            expect(&all, type, 0, 0, 1, NBD_EINVAL);
            expect(&all, type, 0, 1, 0, NBD_EINVAL);
            continue;
        }
        expect(&all, type, 0, 0, 1 << 20, NBD_OK);
        expect(&all, type, 0, (1 << 20) - 1, 1, NBD_OK);
        expect(&all, type, 0, 1 << 20, 1, past);
        expect(&all, type, 0, 1, 1 << 20, past);
        expect(&all, type, 0, UINT64_MAX, 1, past);
        expect(&all, type, 0, UINT64_MAX - 4095, 4096, past);
        expect(&all, type, 0, 0, 0, type == NBD_CMD_BLOCK_STATUS ? NBD_EINVAL : NBD_OK);
    }
}

static void requests_too_large(void **state)
{
    (void)state;
    struct nbd_terms t = all;
    t.size = UINT64_C(1) << 40;
    expect(&t, NBD_CMD_READ, 0, 0, NBD_MAX_PAYLOAD, NBD_OK);
    expect(&t, NBD_CMD_READ, 0, 0, NBD_MAX_PAYLOAD + 1, NBD_EOVERFLOW);
    expect(&t, NBD_CMD_WRITE, 0, 0, UINT32_MAX, NBD_EINVAL);
    expect(&t, NBD_CMD_WRITE_ZEROES, 0, 0, UINT32_MAX, NBD_OK);
    expect(&t, NBD_CMD_TRIM, 0, 0, UINT32_MAX, NBD_OK);
    expect(&t, NBD_CMD_BLOCK_STATUS, 0, 0, UINT32_MAX, NBD_OK);
    t.structured = false;
    expect(&t, NBD_CMD_READ, 0, 0, NBD_MAX_PAYLOAD + 1, NBD_EINVAL);
}

static void request_flags(void **state)
{
    (void)state;
    for (unsigned type = 0; type <= NBD_CMD_BLOCK_STATUS; type++) {
        unsigned own = type == NBD_CMD_READ ? NBD_CMD_FLAG_DF
                       : type == NBD_CMD_WRITE_ZEROES
                           ? NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO
                       : type == NBD_CMD_BLOCK_STATUS ? NBD_CMD_FLAG_REQ_ONE
                                                      : 0u;
        if (type == NBD_CMD_DISC)
            continue;
        for (unsigned bit = 0; bit < 16; bit++) {
            bool ok = (own | NBD_CMD_FLAG_FUA) >> bit & 1;
            expect(&all, type, 1u << bit, 0, type == NBD_CMD_FLUSH ? 0 : 512,
                   ok ? NBD_OK : NBD_EINVAL);
        }
    }
    struct nbd_terms t = all;
    t.flags &= (uint16_t) ~(NBD_FLAG_SEND_DF | NBD_FLAG_SEND_FAST_ZERO);
    expect(&t, NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, 512, NBD_EINVAL);
    expect(&t, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO, 0, 512, NBD_EINVAL);
}

static void requests_not_offered(void **state)
{
    (void)state;
    struct nbd_terms t = all;
    for (unsigned type = NBD_CMD_BLOCK_STATUS + 1; type < 65536; type += 97)
        expect(&all, type, 0, 0, 512, NBD_EINVAL);
    t.allocation = false;
    expect(&t, NBD_CMD_BLOCK_STATUS, 0, 0, 512, NBD_EINVAL);
    t.flags &= (uint16_t)~NBD_FLAG_SEND_TRIM;
    expect(&t, NBD_CMD_TRIM, 0, 0, 512, NBD_EINVAL);
    t.flags |= NBD_FLAG_READ_ONLY;
    expect(&t, NBD_CMD_READ, 0, 0, 512, NBD_OK);
    expect(&t, NBD_CMD_FLUSH, 0, 0, 0, NBD_OK);
    expect(&t, NBD_CMD_WRITE, 0, 0, 512, NBD_EPERM);
    expect(&t, NBD_CMD_WRITE_ZEROES, 0, 0, 512, NBD_EPERM);
    expect(&t, NBD_CMD_TRIM, 0, 0, 512, NBD_EPERM);
}

/* Only the numbers that the protocol has go over the wire. */
static void errors(void **state)
{
    (void)state;
    assert_int_equal(nbd_error_of(0), NBD_OK);
    assert_int_equal(nbd_error_of(-EROFS), NBD_EPERM);
    assert_int_equal(nbd_error_of(-EFBIG), NBD_ENOSPC);
    assert_int_equal(nbd_error_of(-EDQUOT), NBD_ENOSPC);
    assert_int_equal(nbd_error_of(-ENOTSUP), NBD_ENOTSUP);
    for (int e = 1; e < 4096; e++)
        switch (nbd_error_of(-e)) {
        case NBD_EPERM:
        case NBD_EIO:
        case NBD_ENOMEM:
        case NBD_EINVAL:
        case NBD_ENOSPC:
        case NBD_ENOTSUP:
        case NBD_ESHUTDOWN:
            break;
        default:
            fail_msg("errno %d", e);
        }
}

static void offers(void **state)
{
    (void)state;
    struct blk_info i = {.size = 1 << 20, .block_size = 512, .physical_block_size = 4096};
    assert_int_equal(nbd_minimum_block(&i), 512);
    assert_int_equal(nbd_preferred_block(&i), 4096);
    assert_false(nbd_transmission_flags(&i, false) & (NBD_FLAG_SEND_DF | NBD_FLAG_SEND_TRIM));
    i.discard_granularity = 512;
    assert_true(nbd_transmission_flags(&i, true) & NBD_FLAG_SEND_DF);
    assert_true(nbd_transmission_flags(&i, true) & NBD_FLAG_SEND_TRIM);
    i.read_only = true;
    assert_int_equal(nbd_transmission_flags(&i, true) &
                         (NBD_FLAG_READ_ONLY | NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES |
                          NBD_FLAG_SEND_FAST_ZERO),
                     NBD_FLAG_READ_ONLY);
    i.block_size = i.physical_block_size = 1;
    assert_int_equal(nbd_minimum_block(&i), 1);
    assert_int_equal(nbd_preferred_block(&i), 512);
    i.block_size = i.physical_block_size = 1 << 20;
    assert_int_equal(nbd_minimum_block(&i), 65536);
    assert_int_equal(nbd_preferred_block(&i), 1 << 20);
}

/* Runs never overlap, and what is free can be lent. */
static void arena(void **state)
{
    (void)state;
    enum { PAGES = 64, HELD = 48, STEPS = 20000 };
    struct nbd_arena a;
    struct {
        char *memory;
        size_t len;
    } held[HELD] = {0};
    uint64_t random = 7;
    assert_int_equal(nbd_arena_init(&a, PAGES * BASE_PAGE), 0);
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned k = (unsigned)random_below(&random, HELD);
        if (held[k].memory) {
            for (size_t n = 0; n < held[k].len; n++)
                assert_int_equal(held[k].memory[n], (char)k);
            nbd_arena_give(&a, held[k].memory);
            held[k].memory = NULL;
            continue;
        }
        held[k].len = 1 + random_below(&random, 6 * BASE_PAGE);
        held[k].memory = nbd_arena_take(&a, held[k].len);
        if (held[k].memory)
            memset(held[k].memory, (int)k, held[k].len);
        if (step % 100 == 0)
            nbd_arena_trim(&a);
    }
    for (unsigned k = 0; k < HELD; k++)
        if (held[k].memory)
            nbd_arena_give(&a, held[k].memory);
    assert_int_equal(a.count, 0);
    char *whole = nbd_arena_take(&a, PAGES * BASE_PAGE);
    assert_non_null(whole);
    assert_null(nbd_arena_take(&a, 1));
    nbd_arena_give(&a, whole);
    assert_null(nbd_arena_take(&a, PAGES * BASE_PAGE + 1));
    nbd_arena_trim(&a); /* it was used since the last one */
    memset(a.memory, 1, 1);
    nbd_arena_trim(&a);
    assert_int_equal(a.memory[0], 0); /* given back */
    nbd_arena_fini(&a);
}

/* No more runs than there is bookkeeping for. */
static void arena_full(void **state)
{
    (void)state;
    struct nbd_arena a;
    void *memory[NBD_ARENA_RUNS];
    assert_int_equal(nbd_arena_init(&a, (NBD_ARENA_RUNS + 8) * BASE_PAGE), 0);
    for (unsigned i = 0; i < NBD_ARENA_RUNS; i++)
        assert_non_null(memory[i] = nbd_arena_take(&a, 1));
    assert_null(nbd_arena_take(&a, 1));
    nbd_arena_give(&a, memory[5]);
    assert_ptr_equal(nbd_arena_take(&a, 1), memory[5]);
    nbd_arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(option_header),
        cmocka_unit_test(names),
        cmocka_unit_test(info),
        cmocka_unit_test(cut_short),
        cmocka_unit_test(queries),
        cmocka_unit_test(queries_that_lie),
        cmocka_unit_test(request_header),
        cmocka_unit_test(requests_in_range),
        cmocka_unit_test(requests_too_large),
        cmocka_unit_test(request_flags),
        cmocka_unit_test(requests_not_offered),
        cmocka_unit_test(errors),
        cmocka_unit_test(offers),
        cmocka_unit_test(arena),
        cmocka_unit_test(arena_full),
    };
    return cmocka_run_group_tests_name("nbd_parse", tests, NULL, NULL);
}
