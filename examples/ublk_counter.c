/*
 * A block device of one's own as a disk of Linux: each 8-byte word holds its own offset.
 *
 *     cc ublk_counter.c $(pkg-config --cflags --libs ashlar) -o ublk_counter
 *     ./ublk_counter &
 *     hexdump -C -n 64 /dev/ublkb0
 */
#include <ashlar/blk_driver.h>
#include <ashlar/ublk.h>
#include <stdio.h>

static int counter_open(struct blk *dev, struct blk_error *err)
{
    (void)err;
    dev->info.size = UINT64_C(1) << 40;
    dev->info.block_size = 512;
    dev->info.read_only = true;
    return 0;
}

static void counter_submit(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        uint64_t offset = reqs[i]->offset;
        for (unsigned v = 0; v < reqs[i]->niov && reqs[i]->op == BLK_READ; v++) {
            uint64_t *word = reqs[i]->iov[v].iov_base;
            for (size_t k = 0; k < reqs[i]->iov[v].iov_len / 8; k++, offset += 8)
                word[k] = offset;
        }
        blk_complete(queue, reqs[i], 0);
    }
}

static const struct blk_driver counter = {
    .name = "counter",
    .summary = "each word holds its own offset",
    .open = counter_open,
    .submit = counter_submit,
};

int main(void)
{
    struct ublk_config config = UBLK_CONFIG_DEFAULT;
    struct blk *dev;
    struct ublk *u;
    struct blk_error err;
    blk_driver_register(&counter);
    if (blk_open("counter", 0, &dev, &err) < 0 || ublk_start(dev, &config, &u, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    puts(ublk_path(u));
    fflush(stdout);
    int error = ublk_serve(u, &err); /* until SIGTERM, SIGINT, or 'ashlar ublk del' */
    blk_close(dev);
    return error < 0;
}
