/* Commands about disks: blkdevs, blkinfo, blktest, blkperf. */
#include <errno.h>
#include <string.h>

#include "ashlar/blk.h"
#include "ashlar/gguf.h"
#include "base/crc32c.h"
#include "base/util.h"
#include "os/os.h"
#include "os/shell/shell.h"
#include "os/virtio/disk.h"

enum { SECTOR = 512 };

int shell_open(const char *spec, unsigned flags, unsigned depth, struct blk **dev,
               struct blk_queue **queue)
{
    struct blk_error err;
    int r = blk_open(spec, flags, dev, &err);
    if (r < 0) {
        print("%s\n", err.text);
        return r;
    }
    r = blk_queue_open(*dev, depth, queue);
    if (r < 0) {
        print("%s: no queue can be opened: %d\n", spec, r);
        blk_close(*dev);
    }
    return r;
}

void shell_close(struct blk *dev, struct blk_queue *queue)
{
    blk_queue_close(queue);
    blk_close(dev);
}

static const char *device_of(unsigned argc, char **argv)
{
    return argc > 1 ? argv[1] : "vda";
}

static bool find(const char *name, struct disk_facts *facts)
{
    for (unsigned i = 0; disk_get(i, facts); i++)
        if (!strcmp(facts->name, name))
            return true;
    return false;
}

int shell_blkdevs(unsigned argc, char **argv)
{
    struct disk_facts d;
    (void)argc;
    (void)argv;
    unsigned i = 0;
    for (; disk_get(i, &d); i++)
        print("%s: %lu MB, %lu sectors, %u-byte blocks, %u queue%s, %s, at %s\n", d.name,
              d.sectors * SECTOR >> 20, d.sectors, d.sector_size, d.queues,
              d.queues == 1 ? "" : "s", d.read_only ? "read-only" : "read-write", d.where);
    if (!i)
        print("no block devices\n");
    return 0;
}

static void print_line(void *arg, const char *text)
{
    (void)arg;
    print("  %s\n", text);
}

int shell_blkinfo(unsigned argc, char **argv)
{
    const char *name = device_of(argc, argv);
    struct disk_facts d;
    struct blk *dev;
    struct blk_queue *q;
    if (shell_open(name, 0, 1, &dev, &q) < 0)
        return 1;
    const struct blk_info *i = blk_info(dev);
    print("Block device: %s\n", name);
    print("  Capacity: %lu sectors (%lu MB)\n", i->size / SECTOR, i->size >> 20);
    print("  Sector size: %u bytes\n", i->block_size);
    print("  Physical block size: %u bytes, optimal I/O: %u bytes\n", i->physical_block_size,
          i->optimal_io);
    print("  Read-only: %s\n", i->read_only ? "yes" : "no");
    print("  Volatile cache: %s, discard: %s, write zeroes: %s\n", i->volatile_cache ? "yes" : "no",
          i->discard_granularity ? "yes" : "no", i->write_zeroes ? "yes" : "no");
    if (find(name, &d)) {
        print("  Reads: %lu\n", d.reads);
        print("  Writes: %lu\n", d.writes);
    } else {
        blk_report(dev, print_line, NULL);
    }
    shell_close(dev, q);
    return 0;
}

static void print_whole_line(void *arg, const char *text)
{
    (void)arg;
    print("%s\n", text);
}

int shell_loadmodel(unsigned argc, char **argv)
{
    struct blk *dev;
    struct blk_error err;
    if (blk_open(device_of(argc, argv), BLK_OPEN_READ_ONLY, &dev, &err) < 0) {
        print("%s\n", err.text);
        return 1;
    }
    const int r = gguf_load(dev, 0, print_whole_line, NULL);
    blk_close(dev);
    return r < 0 ? 1 : 0;
}

/* ---- blktest ---------------------------------------------------------------------------- */

struct test {
    struct blk *dev;
    struct blk_queue *q;
    unsigned number;
    unsigned failed, skipped;
    uint64_t size;
    char *buffer, *saved; /* BUFFER bytes */
};
enum { BUFFER = 65536 };

static bool verdict(struct test *t, const char *what, int error)
{
    print("Test %u: %s... %s", ++t->number, what, error ? "FAIL" : "PASS");
    if (error)
        print(" (error %d)", error);
    t->failed += error != 0;
    return !error;
}

static void test_reads(struct test *t)
{
    if (verdict(t, "Read sector 0", blk_read_bytes(t->q, 0, t->buffer, SECTOR))) {
        print("\n  Data:");
        for (unsigned i = 0; i < 16; i++)
            print(" %02x", (unsigned char)t->buffer[i]);
    }
    print("\n");
    const size_t n = min_u64(8 * SECTOR, t->size);
    if (verdict(t, "Read 8 sectors", blk_read_bytes(t->q, 0, t->buffer, n)))
        print(" (read %lu bytes)", n);
    print("\n");
    const uint64_t far = t->size > 101 * SECTOR ? 100 * SECTOR : t->size - SECTOR;
    verdict(t, "Read sector 100", blk_read_bytes(t->q, far, t->buffer, SECTOR));
    print("\n");
}

static void pattern(char *to, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (char)random_next(&seed);
}

static void test_sector(struct test *t, uint64_t at)
{
    char written[SECTOR];
    pattern(written, SECTOR, base_now_ns());
    verdict(t, "Write sector 1000", blk_write_bytes(t->q, at, written, SECTOR, 0));
    print("\n");
    int r = blk_read_bytes(t->q, at, t->buffer, SECTOR);
    if (!r && memcmp(t->buffer, written, SECTOR) != 0)
        r = -EILSEQ;
    verdict(t, "Verify write", r);
    print("\n");
}

/* Bytes across the edges of sectors: what is around them must stay. */
static void test_bytes(struct test *t, uint64_t at)
{
    static const struct {
        unsigned offset, len;
    } pieces[] = {{1, 1}, {500, 24}, {511, 2}, {100, 3000}, {1023, 1026}, {7, 4089}};
    char *expected = t->saved + BUFFER / 2, *data = t->buffer + BUFFER / 2;
    memcpy(expected, t->saved, 16 * SECTOR);
    int r = blk_write_bytes(t->q, at, t->saved, 16 * SECTOR, 0);
    for (unsigned i = 0; !r && i < ARRAY_SIZE(pieces); i++) {
        pattern(data, pieces[i].len, i + 1);
        memcpy(expected + pieces[i].offset, data, pieces[i].len);
        r = blk_write_bytes(t->q, at + pieces[i].offset, data, pieces[i].len, 0);
    }
    verdict(t, "Write bytes across sectors", r);
    print("\n");
    r = blk_read_bytes(t->q, at, t->buffer, 16 * SECTOR);
    if (!r && memcmp(t->buffer, expected, 16 * SECTOR) != 0)
        r = -EILSEQ;
    verdict(t, "Verify bytes and what is around them", r);
    print("\n");
    r = 0;
    for (unsigned i = 0; !r && i < ARRAY_SIZE(pieces); i++) {
        r = blk_read_bytes(t->q, at + pieces[i].offset, data, pieces[i].len);
        if (!r && memcmp(data, expected + pieces[i].offset, pieces[i].len) != 0)
            r = -EILSEQ;
    }
    verdict(t, "Read bytes across sectors", r);
    print("\n");
    verdict(t, "Flush", blk_flush(t->q));
    print("\n");
}

static void test_zeroes(struct test *t, uint64_t at)
{
    const struct blk_info *i = blk_info(t->dev);
    const size_t len = round_down(16 * SECTOR, i->block_size);
    if ((at | len) % i->block_size)
        return;
    int r = blk_write_zeroes(t->q, at, len, 0);
    if (!r)
        r = blk_read_bytes(t->q, at, t->buffer, len);
    for (size_t n = 0; !r && n < len; n++)
        r = t->buffer[n] ? -EILSEQ : 0;
    verdict(t, "Write zeroes", r);
    print("\n");
    if (!i->discard_granularity || (at | len) % i->discard_granularity)
        return;
    verdict(t, "Discard", blk_discard(t->q, at, len));
    print("\n");
}

static void test_writes(struct test *t)
{
    /* Sector 1000, or on a smaller disk what there is. */
    const uint64_t len = 16 * SECTOR;
    const uint64_t at = t->size >= 1000 * SECTOR + len ? 1000 * SECTOR : t->size - len;
    int r = blk_read_bytes(t->q, at, t->saved, len);
    if (r) {
        verdict(t, "Save what is there", r);
        print("\n");
        return;
    }
    const uint32_t before = crc32c(0, t->saved, len);
    test_sector(t, at);
    test_bytes(t, at);
    test_zeroes(t, at);
    r = blk_write_bytes(t->q, at, t->saved, len, 0);
    if (!r)
        r = blk_flush(t->q);
    if (!r)
        r = blk_read_bytes(t->q, at, t->buffer, len);
    if (!r && crc32c(0, t->buffer, len) != before)
        r = -EILSEQ;
    verdict(t, "Put back what was there", r);
    print("\n");
}

int shell_blktest(unsigned argc, char **argv)
{
    struct test t = {0};
    if (shell_open(device_of(argc, argv), 0, 4, &t.dev, &t.q) < 0)
        return 1;
    t.size = blk_info(t.dev)->size;
    t.buffer = base_alloc(BUFFER);
    t.saved = base_alloc(BUFFER);
    print("\n=== VirtIO Block Tests ===\n");
    if (!t.buffer || !t.saved || t.size < 32 * SECTOR) {
        print("%s\n", t.size < 32 * SECTOR ? "the disk is too small" : "out of memory");
        t.failed = 1;
    } else {
        test_reads(&t);
        if (blk_info(t.dev)->read_only)
            print("The disk is read-only: no test writes\n");
        else
            test_writes(&t);
    }
    if (t.failed)
        print("%u of %u tests failed\n", t.failed, t.number);
    else
        print("All tests passed!\n");
    base_free(t.buffer);
    base_free(t.saved);
    shell_close(t.dev, t.q);
    return t.failed ? 1 : 0;
}

/* ---- blkperf ---------------------------------------------------------------------------- */

enum { PERF_MB = 50, PERF_WANTED = 100, STEP = 1 << 20 };

static int read_all(struct blk_queue *q, uint64_t size, uint64_t total, void *buffer)
{
    for (uint64_t done = 0; done < total; done += STEP) {
        const uint64_t at = done % (size - size % STEP ? size - size % STEP : size);
        const size_t n = min_u64(STEP, size - at);
        const int r = blk_read(q, at, buffer, n);
        if (r < 0) {
            print("reading at %lu failed: error %d\n", at, r);
            return r;
        }
        if ((done + STEP) % (10u << 20) == 0)
            print("  %lu MB read\n", (done + STEP) >> 20);
    }
    return 0;
}

int shell_blkperf(unsigned argc, char **argv)
{
    uint64_t mb = 0;
    struct blk *dev;
    struct blk_queue *q;
    for (const char *p = argc > 2 ? argv[2] : "50"; *p >= '0' && *p <= '9' && mb < 1 << 30; p++)
        mb = mb * 10 + (uint64_t)(*p - '0');
    if (!mb) {
        print("blkperf [DEVICE] [MB]: how much?\n");
        return 2;
    }
    if (shell_open(device_of(argc, argv), 0, 1, &dev, &q) < 0)
        return 1;
    int r = -ENOMEM;
    void *buffer = blk_buf_alloc(q, STEP);
    print("Reading %lu MB from %s in requests of 1 MiB\n", mb, device_of(argc, argv));
    const uint64_t start = base_now_ns();
    if (buffer)
        r = read_all(q, blk_info(dev)->size, mb << 20, buffer);
    const uint64_t ns = base_now_ns() - start;
    if (!r) {
        const uint64_t rate = (mb << 20) * 1000 / max_u64(ns, 1); /* 10^6 bytes a second */
        print("Elapsed time: %lu.%03lu s\n", ns / 1000000000, ns / 1000000 % 1000);
        print("Throughput: %lu MB/s\n", rate);
        print("%s: %s %u MB/s\n", rate >= PERF_WANTED ? "PASS" : "FAIL",
              rate >= PERF_WANTED ? "at least" : "below", PERF_WANTED);
        r = rate >= PERF_WANTED ? 0 : -1;
    }
    blk_buf_free(q, buffer);
    shell_close(dev, q);
    return r ? 1 : 0;
}
