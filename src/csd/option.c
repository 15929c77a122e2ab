/* Ranges, zones and arguments as text. */
#include "csd/option.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <ashlar/blk_driver.h>

#include "base/util.h"

/* The number in front of `end`, which is the length of it. */
static int parse_part(const char *text, size_t len, uint64_t *value)
{
    char part[32];
    if (!len || len >= sizeof(part))
        return -EINVAL;
    memcpy(part, text, len);
    part[len] = '\0';
    return blk_parse_size(part, value);
}

int csd_option_range(const struct blk *dev, const char *text, struct csd_range *range,
                     struct blk_error *err)
{
    const uint64_t size = blk_info(dev)->size;
    const size_t len = strcspn(text, ":");
    struct csd_range r = {0};
    const char *end = text + len + 1;
    if (parse_part(text, len, &r.offset) < 0 || text[len] != ':' ||
        (*end && blk_parse_size(end, &r.len) < 0))
        return blk_error_set(err, -EINVAL, "a range must be like 1M:64K, not '%.64s'", text);
    if (!*end && r.offset <= size)
        r.len = size - r.offset;
    if (!range_ok(r.offset, r.len, size))
        return blk_error_set(err, -ERANGE, "%.64s: %.200s has %llu bytes", text, blk_spec(dev),
                             (unsigned long long)size);
    *range = r;
    return 0;
}

int csd_option_zones(const struct blk *dev, uint64_t zone_size, const char *text,
                     struct csd_range *range, struct blk_error *err)
{
    const struct blk_info *i = blk_info(dev);
    const uint64_t zone = i->zoned ? i->zone_size : zone_size;
    const size_t len = strcspn(text, "-");
    uint64_t first, last;
    if (!zone)
        return blk_error_set(err, -EINVAL, "%.200s has no zones: give the zone size, or a range",
                             blk_spec(dev));
    if (parse_part(text, len, &first) < 0 ||
        (text[len] && blk_parse_size(text + len + 1, &last) < 0))
        return blk_error_set(err, -EINVAL, "zones must be like 3 or 0-7, not '%.64s'", text);
    if (!text[len])
        last = first;
    if (last < first)
        return blk_error_set(err, -EINVAL, "zones must be like 3 or 0-7, not '%.64s'", text);
    if (last >= i->size / zone)
        return blk_error_set(err, -ERANGE, "%.64s: %.200s has %llu zones", text, blk_spec(dev),
                             (unsigned long long)(i->size / zone));
    *range = (struct csd_range){first * zone, (last - first + 1) * zone};
    return 0;
}

static int put_bytes(const void *bytes, size_t len, uint8_t *arg, uint64_t *size,
                     struct blk_error *err)
{
    if (len > CSD_MAX_ARG - *size)
        return blk_error_set(err, -EINVAL, "an argument has at most %d bytes", CSD_MAX_ARG);
    memcpy(arg + *size, bytes, len);
    *size += len;
    return 0;
}

/* A number of so many bytes, little-endian. */
static int put_number(const char *text, unsigned bytes, bool sign, uint8_t *arg, uint64_t *size,
                      struct blk_error *err)
{
    const bool negative = sign && *text == '-';
    const uint64_t most = (UINT64_MAX >> (64 - 8 * bytes) >> sign) + negative;
    uint64_t value;
    if (blk_parse_size(text + negative, &value) < 0 || value > most)
        return blk_error_set(err, -EINVAL, "'%.32s' is no number of %u bytes", text, bytes);
    uint8_t le[8];
    store_le64(le, negative ? 0 - value : value);
    return put_bytes(le, bytes, arg, size, err);
}

int csd_option_arg(const char *text, uint8_t *arg, uint64_t *size, struct blk_error *err)
{
    static const struct {
        char name[6];
        uint8_t bytes; /* 0: text */
    } kinds[] = {{"u8:", 1},  {"u16:", 2}, {"u32:", 4}, {"u64:", 8},
                 {"i32:", 4}, {"i64:", 8}, {"text:", 0}};
    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
        const size_t len = strnlen(kinds[i].name, sizeof(kinds[i].name));
        if (strncmp(text, kinds[i].name, len) != 0)
            continue;
        text += len;
        if (kinds[i].bytes)
            return put_number(text, kinds[i].bytes, kinds[i].name[0] == 'i', arg, size, err);
        break;
    }
    return put_bytes(text, strlen(text), arg, size, err);
}
