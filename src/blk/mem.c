/*
 * mem:SIZE - a disk in memory. Sparse: a page takes memory when it is first written, and gives it
 * back when it is discarded. Nothing outlives the device.
 */
#include <ashlar/blk_driver.h>

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/platform.h"
#include "base/util.h"

struct mem {
    uint64_t block;
    char *data; /* reserved address space of the whole size */
    /* A bit for each page of data: set if it was written. What is not set reads as zeroes without
     * being touched. Atomic; set after the page was written. */
    uint64_t *present;
    uint64_t reserved; /* bytes behind data */
    uint64_t present_size;
};

/*
 * Requests that overlap may be in flight at the same time, also in several threads. As on any disk
 * it is open which bytes they find, but it is no mistake of theirs; so the thread sanitizer, which
 * would call it one, sees the disk's side of a copy as atomic words.
 */
#if defined(__SANITIZE_THREAD__)
static void copy_words(void *to, const void *from, size_t len, bool to_disk)
{
    const uintptr_t bits = (uintptr_t)to | (uintptr_t)from | len;
    const size_t step = bits % 8 ? 1 : 8;
    for (size_t at = 0; at < len; at += step) {
        const uint8_t *f8 = (const uint8_t *)from + at;
        uint8_t *t8 = (uint8_t *)to + at;
        const uint64_t *f64 = (const void *)f8;
        uint64_t *t64 = (void *)t8;
        if (step == 8 && to_disk)
            __atomic_store_n(t64, *f64, __ATOMIC_RELAXED);
        else if (step == 8)
            *t64 = __atomic_load_n(f64, __ATOMIC_RELAXED);
        else if (to_disk)
            __atomic_store_n(t8, *f8, __ATOMIC_RELAXED);
        else
            *t8 = __atomic_load_n(f8, __ATOMIC_RELAXED);
    }
}
#else
static void copy_words(void *to, const void *from, size_t len, bool to_disk)
{
    (void)to_disk;
    memcpy(to, from, len);
}
#endif

static void mem_close(struct blk *dev)
{
    struct mem *m = dev->priv;
    if (m->data)
        base_unreserve(m->data, m->reserved);
    if (m->present)
        base_unreserve(m->present, m->present_size);
}

static int mem_open(struct blk *dev, struct blk_error *err)
{
    struct mem *m = dev->priv;
    int error = blk_parse_size(dev->argument, &dev->info.size);
    if (error < 0)
        return blk_error_set(err, -EINVAL, "the size must be like 512M or 1G, not '%.64s'",
                             dev->argument);
    if (m->block > 1 << 20)
        return blk_error_set(err, -EINVAL, "block must be at most 1M");
    if (!dev->info.size || dev->info.size > (uint64_t)1 << 46)
        return blk_error_set(err, -EINVAL, "the size must be from 1 byte to 64T");
    dev->info.block_size = (uint32_t)m->block;
    dev->info.physical_block_size = (uint32_t)max_u64(BASE_PAGE, m->block);
    dev->info.discard_granularity = (uint32_t)max_u64(BASE_PAGE, m->block);
    dev->info.write_zeroes = true;
    dev->info.fast_zero = true;
    dev->info.status = true;

    m->reserved = round_up(dev->info.size, BASE_PAGE);
    m->present_size = round_up(m->reserved / BASE_PAGE / 8 + 8, BASE_PAGE);
    m->data = base_reserve(m->reserved);
    m->present = base_reserve(m->present_size);
    if (!m->data || !m->present) {
        mem_close(dev);
        return blk_error_set(err, -ENOMEM, "no address space for %s bytes", dev->argument);
    }
    return 0;
}

static bool is_present(const struct mem *m, uint64_t page)
{
    return __atomic_load_n(&m->present[page / 64], __ATOMIC_RELAXED) >> (page % 64) & 1;
}

static void set_present(struct mem *m, uint64_t page)
{
    if (!is_present(m, page))
        __atomic_fetch_or(&m->present[page / 64], UINT64_C(1) << (page % 64), __ATOMIC_RELAXED);
}

static void clear_present(struct mem *m, uint64_t page)
{
    __atomic_fetch_and(&m->present[page / 64], ~(UINT64_C(1) << (page % 64)), __ATOMIC_RELAXED);
}

/* The end of the run of pages from offset on that are all present or all absent, up to end. */
static uint64_t run_end(const struct mem *m, uint64_t offset, uint64_t end, bool *present)
{
    uint64_t page = offset / BASE_PAGE;
    *present = is_present(m, page);
    uint64_t skip = *present ? ~UINT64_C(0) : 0;
    page++;
    while (page * BASE_PAGE < end) {
        if (page % 64 == 0 && __atomic_load_n(&m->present[page / 64], __ATOMIC_RELAXED) == skip)
            page += 64;
        else if (is_present(m, page) == *present)
            page++;
        else
            break;
    }
    return min_u64(page * BASE_PAGE, end);
}

static void read_range(const struct mem *m, uint64_t offset, char *to, size_t len)
{
    uint64_t end = offset + len;
    while (offset < end) {
        bool present;
        uint64_t stop = run_end(m, offset, end, &present);
        if (present)
            copy_words(to, m->data + offset, stop - offset, false);
        else
            memset(to, 0, stop - offset);
        to += stop - offset;
        offset = stop;
    }
}

static void write_range(struct mem *m, uint64_t offset, const char *from, size_t len)
{
    copy_words(m->data + offset, from, len, true);
    for (uint64_t page = offset / BASE_PAGE; page * BASE_PAGE < offset + len; page++)
        set_present(m, page);
}

static void zero_part(struct mem *m, uint64_t offset, uint64_t end)
{
    static const char zeroes[BASE_PAGE];
    if (offset < end && is_present(m, offset / BASE_PAGE))
        copy_words(m->data + offset, zeroes, end - offset, true);
}

/* Whole pages give their memory back; the rest is cleared. */
static void zero_range(struct mem *m, uint64_t offset, uint64_t len)
{
    uint64_t end = offset + len;
    uint64_t first = round_up(offset, BASE_PAGE);
    uint64_t last = round_down(end, BASE_PAGE);
    if (first > last) {
        zero_part(m, offset, end);
        return;
    }
    zero_part(m, offset, first);
    zero_part(m, last, end);
    while (first < last) {
        bool present;
        uint64_t stop = run_end(m, first, last, &present);
        for (uint64_t at = first; present && at < stop; at += BASE_PAGE)
            clear_present(m, at / BASE_PAGE);
        if (present)
            base_reserve_discard(m->data + first, stop - first);
        first = stop;
    }
}

static void status(const struct mem *m, struct blk_req *r)
{
    struct blk_extent *e = r->iov[0].iov_base;
    size_t max = r->iov[0].iov_len / sizeof(*e);
    uint64_t offset = r->offset, end = r->offset + r->len;
    for (r->count = 0; r->count < max && offset < end; r->count++) {
        bool present;
        uint64_t stop = run_end(m, offset, end, &present);
        e[r->count] = (struct blk_extent){
            .len = stop - offset,
            .flags = present ? 0 : BLK_EXTENT_HOLE | BLK_EXTENT_ZERO,
        };
        offset = stop;
    }
}

static void mem_submit(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n)
{
    struct mem *m = queue->dev->priv;
    for (unsigned i = 0; i < n; i++) {
        struct blk_req *r = reqs[i];
        uint64_t offset = r->offset;
        if (r->op == BLK_READ || r->op == BLK_WRITE) {
            for (unsigned k = 0; k < r->niov; offset += r->iov[k++].iov_len)
                if (r->op == BLK_READ)
                    read_range(m, offset, r->iov[k].iov_base, r->iov[k].iov_len);
                else
                    write_range(m, offset, r->iov[k].iov_base, r->iov[k].iov_len);
        } else if (r->op == BLK_DISCARD || (r->op == BLK_WRITE_ZEROES)) {
            zero_range(m, offset, r->len);
        } else if (r->op == BLK_STATUS) {
            status(m, r);
        }
        blk_complete(queue, r, 0);
    }
}

static void mem_report(const struct blk *dev, void (*line)(void *arg, const char *text), void *arg)
{
    const struct mem *m = dev->priv;
    uint64_t pages = 0;
    char text[64];
    for (uint64_t i = 0; i < m->present_size / 8; i++)
        pages += (uint64_t)__builtin_popcountll(__atomic_load_n(&m->present[i], __ATOMIC_RELAXED));
    snprintf(text, sizeof(text), "mem: %llu KiB in use", (unsigned long long)pages * 4);
    line(arg, text);
}

static const struct blk_option mem_options[] = {
    {"block", BLK_OPT_SIZE, offsetof(struct mem, block), "512", "logical block size"},
    {0},
};

const struct blk_driver blk_mem = {
    .name = "mem",
    .argument = "SIZE",
    .summary = "a sparse disk in memory",
    .options = mem_options,
    .priv_size = sizeof(struct mem),
    .open = mem_open,
    .close = mem_close,
    .submit = mem_submit,
    .report = mem_report,
};
