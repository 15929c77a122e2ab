/* Messages of 9P2000.L: size[4] type[1] tag[2], then fields; integers are little-endian, texts have
 * their length in two bytes before them. */
#include "os/vfs/p9.h"

#include <errno.h>
#include <string.h>

#include "base/platform.h"
#include "base/util.h"

enum { RLERROR = 7, NO_TAG = 0xffff, TAGS = 64 };

/* ---- writing and reading fields --------------------------------------------------------- */

void p9_begin(struct p9_message *m, uint8_t type)
{
    m->at = P9_HEADER;
    m->error = 0;
    m->bytes[4] = type;
}

void p9_put(struct p9_message *m, uint64_t value, unsigned bytes)
{
    if (m->at + bytes > sizeof(m->bytes)) {
        m->error = -ENAMETOOLONG;
        return;
    }
    for (unsigned i = 0; i < bytes; i++)
        m->bytes[m->at++] = (uint8_t)(value >> 8 * i);
}

void p9_put_text(struct p9_message *m, const char *text)
{
    const size_t n = strlen(text);
    if (n > UINT16_MAX || m->at + 2 + n > sizeof(m->bytes)) {
        m->error = -ENAMETOOLONG;
        return;
    }
    p9_put(m, n, 2);
    memcpy(m->bytes + m->at, text, n);
    m->at += (uint32_t)n;
}

uint64_t p9_get(struct p9_message *m, unsigned bytes)
{
    uint64_t value = 0;
    if (bytes > m->size - m->at) {
        m->error = -EIO;
        return 0;
    }
    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)m->bytes[m->at++] << 8 * i;
    return value;
}

void p9_get_qid(struct p9_message *m, struct p9_qid *qid)
{
    qid->type = (uint8_t)p9_get(m, 1);
    p9_get(m, 4); /* version */
    qid->path = p9_get(m, 8);
}

int p9_get_text(struct p9_message *m, char *text, size_t size)
{
    const uint32_t n = (uint32_t)p9_get(m, 2);
    if (n > m->size - m->at)
        m->error = -EIO;
    if (m->error)
        return m->error;
    const size_t copied = min_u64(n, size - 1);
    memcpy(text, m->bytes + m->at, copied);
    text[copied] = '\0';
    m->at += n;
    return (int)n;
}

/* ---- asking ----------------------------------------------------------------------------- */

static unsigned take_tag(struct p9 *p)
{
    for (;;) {
        uint64_t tags = __atomic_load_n(&p->tags, __ATOMIC_RELAXED);
        if (tags == UINT64_MAX) { /* as many as that at once: wait for one */
            base_sleep_until_ns(base_now_ns() + 100000);
            continue;
        }
        const unsigned tag = (unsigned)__builtin_ctzll(~tags);
        if (__atomic_compare_exchange_n(&p->tags, &tags, tags | UINT64_C(1) << tag, false,
                                        __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return tag;
    }
}

static void give_tag(struct p9 *p, unsigned tag)
{
    __atomic_fetch_and(&p->tags, ~(UINT64_C(1) << tag), __ATOMIC_RELEASE);
}

static void finish_header(struct p9_message *m, uint32_t data, unsigned tag)
{
    store_le32(m->bytes, m->at + data);
    m->bytes[5] = (uint8_t)tag;
    m->bytes[6] = (uint8_t)(tag >> 8);
}

/* The head of an answer is in m->bytes: is it the answer to this? head: bytes that fit there. */
static int check_answer(struct p9_message *m, uint8_t type, unsigned tag, uint32_t got,
                        uint32_t head)
{
    const uint32_t size = load_le32(m->bytes);
    if (got < P9_HEADER || size < P9_HEADER || size > got ||
        (m->bytes[5] | m->bytes[6] << 8) != (int)tag)
        return -EIO;
    m->at = P9_HEADER;
    m->size = (uint32_t)min_u64(size, head);
    m->error = 0;
    if (m->bytes[4] == RLERROR) {
        const int error = (int)p9_get(m, 4);
        return m->error || error <= 0 || error > 4095 ? -EIO : -error;
    }
    return m->bytes[4] == type + 1 ? 0 : -EIO;
}

static int ask(struct p9 *p, struct p9_message *m, const struct iovec *out, unsigned nout,
               const struct iovec *in, unsigned nin, uint32_t out_data)
{
    const uint8_t type = m->bytes[4];
    const unsigned tag = type == P9_VERSION ? NO_TAG : take_tag(p);
    uint32_t got = 0;
    finish_header(m, out_data, tag);
    int r = p->transport->call(p->transport, out, nout, in, nin, &got);
    if (r == 0)
        r = check_answer(m, type, tag, got, (uint32_t)in[0].iov_len);
    if (tag != NO_TAG)
        give_tag(p, tag);
    return r;
}

int p9_ask(struct p9 *p, struct p9_message *m)
{
    if (m->error)
        return m->error;
    const struct iovec out = {m->bytes, m->at};
    const struct iovec in = {m->bytes, sizeof(m->bytes)};
    return ask(p, m, &out, 1, &in, 1, 0);
}

int p9_ask_data(struct p9 *p, struct p9_message *m, const void *out_data, void *in_data, uint32_t n,
                uint32_t *got)
{
    enum { COUNTED_HEADER = P9_HEADER + 4 }; /* Rread, Rreaddir, Rwrite, and Rlerror too */
    if (m->error)
        return m->error;
    const struct iovec out[2] = {{m->bytes, m->at}, {(void *)(uintptr_t)out_data, n}};
    const struct iovec in[2] = {{m->bytes, COUNTED_HEADER}, {in_data, n}};
    const int r = ask(p, m, out, out_data ? 2 : 1, in, in_data ? 2 : 1, out_data ? n : 0);
    if (r < 0)
        return r;
    const uint32_t size = load_le32(m->bytes);
    *got = (uint32_t)p9_get(m, 4);
    if (m->error || *got > n || (in_data && *got != size - COUNTED_HEADER))
        return -EIO;
    return 0;
}
