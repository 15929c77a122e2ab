/* Append a file to the zones of a device, from the first on: csd_fill DEVICE FILE */
#include <stdio.h>
#include <string.h>

#include <ashlar/blk.h>
#include <ashlar/zone.h>

enum { PART = 4096 };

static int fill(struct blk_queue *q, FILE *f)
{
    const struct blk_info *i = blk_info(blk_queue_device(q));
    static char data[PART];
    uint64_t at = 0, place;
    size_t n;
    while ((n = fread(data, 1, PART, f)) > 0) {
        int error = -BLK_ZONE_IS_FULL;
        memset(data + n, 0, PART - n);
        while (at < i->size && (error = blk_zone_append(q, at, data, PART, 0, &place)) < 0 &&
               (error == -BLK_ZONE_IS_FULL || error == -BLK_ZONE_BOUNDARY_ERROR))
            at += i->zone_size;
        if (error < 0)
            return error;
    }
    return blk_flush(q);
}

int main(int argc, char **argv)
{
    struct blk *dev;
    struct blk_queue *q;
    struct blk_error err;
    FILE *f = argc == 3 ? fopen(argv[2], "rb") : NULL;
    if (!f || blk_open(argv[1], 0, &dev, &err) < 0) {
        fprintf(stderr, "%s\n", f ? err.text : "usage: csd_fill DEVICE FILE");
        return 2;
    }
    int error = blk_queue_open(dev, 4, &q);
    if (error == 0) {
        error = fill(q, f);
        blk_queue_close(q);
    }
    if (error < 0)
        fprintf(stderr, "%s: error %d\n", argv[1], -error);
    fclose(f);
    blk_close(dev);
    return error < 0;
}
