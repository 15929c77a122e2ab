/*
 * Is what a program of programs/ returned the right answer? Plain C, over the same bytes.
 *
 *     csd_answer PROGRAM DATA RESULT [ARGUMENT...]
 *
 * DATA: what it read. RESULT: what it returned. Arguments: filter LIMIT, topk K, grep TEXT,
 * csv SUM [COLUMN VALUE], lz APPENDED (a file).
 */
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bytes {
    uint8_t *data;
    size_t size;
};

static struct bytes read_all(const char *path)
{
    struct bytes b = {NULL, 0};
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        exit(2);
    }
    fseek(f, 0, SEEK_END);
    b.size = (size_t)ftell(f);
    rewind(f);
    b.data = malloc(b.size + 8);
    if (!b.data || fread(b.data, 1, b.size, f) != b.size) {
        perror(path);
        exit(2);
    }
    b.data[b.size] = '\0';
    fclose(f);
    return b;
}

static int wrong(const char *what, double got, double expected)
{
    fprintf(stderr, "%s: %.6f, expected %.6f\n", what, got, expected);
    return 1;
}

static int32_t value_at(const struct bytes *b, size_t i)
{
    int32_t v;
    memcpy(&v, b->data + 4 * i, 4);
    return v;
}

static int64_t result_at(const struct bytes *r, size_t i)
{
    int64_t v = 0;
    if (r->size >= 8 * (i + 1))
        memcpy(&v, r->data + 8 * i, 8);
    return v;
}

/* The result is these numbers of 64 bits, and nothing else. */
static int compare(const struct bytes *r, const int64_t *expected, size_t n)
{
    if (r->size != 8 * n)
        return wrong("bytes", (double)r->size, 8.0 * (double)n);
    for (size_t i = 0; i < n; i++)
        if (result_at(r, i) != expected[i]) {
            fprintf(stderr, "number %zu: %" PRId64 ", expected %" PRId64 "\n", i, result_at(r, i),
                    expected[i]);
            return 1;
        }
    return 0;
}

static int filter(const struct bytes *b, const struct bytes *r, char **argv)
{
    const int32_t limit = argv[0] ? atoi(argv[0]) : 0x3fffffff;
    int64_t count = 0;
    for (size_t i = 0; i < b->size / 4; i++)
        count += value_at(b, i) > limit;
    return compare(r, &count, 1);
}

static int entropy(const struct bytes *b, const struct bytes *r, char **argv)
{
    int64_t bins[256] = {0};
    double bits = 0;
    (void)argv;
    for (size_t i = 0; i < b->size; i++)
        bins[b->data[i]]++;
    for (unsigned i = 0; i < 256; i++)
        if (bins[i]) {
            const double p = (double)bins[i] / (double)b->size;
            bits -= p * log2(p);
        }
    const struct bytes counts = {r->data, r->size < 2048 ? r->size : 2048};
    if (compare(&counts, bins, 256))
        return 1;
    const double got = (double)result_at(r, 256) / 65536;
    return r->size != 2056 || fabs(got - bits) > 4.0 / 65536 ? wrong("entropy", got, bits) : 0;
}

static int grep(const struct bytes *b, const struct bytes *r, char **argv)
{
    int64_t count = 0;
    for (size_t at = 0; at < b->size;) {
        const uint8_t *end = memchr(b->data + at, '\n', b->size - at);
        const size_t len = end ? (size_t)(end - b->data) - at : b->size - at;
        bool found = false;
        for (size_t i = 0; i + strlen(argv[0]) <= len; i++)
            found |= !memcmp(b->data + at + i, argv[0], strlen(argv[0]));
        count += found;
        at += len + 1;
    }
    return compare(r, &count, 1);
}

/* By fields, not by states: a row is cut into its columns first. */
static void csv_row(char *row, char **argv, int64_t answer[2])
{
    char *column[64];
    unsigned n = 0;
    bool quoted = false;
    char *to = row;
    column[n++] = row;
    for (const char *p = row;; p++) {
        const char c = *p; /* to may be p */
        if (c == '"') {
            quoted = !quoted;
        } else if ((c == ',' && !quoted) || !c) {
            *to++ = '\0';
            if (!c)
                break;
            if (n < 64)
                column[n++] = to;
        } else if (c != '\r') {
            *to++ = c;
        }
    }
    const unsigned sum = (unsigned)atoi(argv[0]), match = argv[1] ? (unsigned)atoi(argv[1]) : 0;
    if (sum > n || (match && (match > n || strcmp(column[match - 1], argv[2]))))
        return;
    char *end;
    const double value = strtod(column[sum - 1], &end);
    end += strspn(end, " ");
    if (end == column[sum - 1] || *end || strpbrk(column[sum - 1], "eExXnNiI+"))
        return;
    answer[0] += (int64_t)llround(value * 1e6);
    answer[1]++;
}

static int csv(const struct bytes *b, const struct bytes *r, char **argv)
{
    int64_t answer[2] = {0, 0};
    bool quoted = false;
    size_t start = 0;
    for (size_t i = 0; i <= b->size; i++) {
        if (i < b->size && b->data[i] == '"')
            quoted = !quoted;
        if (i < b->size && (b->data[i] != '\n' || quoted))
            continue;
        b->data[i] = '\0';
        csv_row((char *)b->data + start, argv, answer);
        start = i + 1;
    }
    return compare(r, answer, 2);
}

static int crc32c(const struct bytes *b, const struct bytes *r, char **argv)
{
    uint32_t crc = 0xffffffff, got = 0;
    (void)argv;
    for (size_t i = 0; i < b->size; i++) {
        crc ^= b->data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0x82f63b78u & -(crc & 1));
    }
    if (r->size == 4)
        memcpy(&got, r->data, 4);
    return r->size == 4 && got == ~crc ? 0 : wrong("crc", got, ~crc);
}

static int minmax(const struct bytes *b, const struct bytes *r, char **argv)
{
    const int64_t n = (int64_t)(b->size / 4);
    int64_t e[5] = {INT32_MAX, INT32_MIN, 0, n, 0};
    (void)argv;
    for (size_t i = 0; i < (size_t)n; i++) {
        const int32_t v = value_at(b, i);
        e[0] = v < e[0] ? v : e[0];
        e[1] = v > e[1] ? v : e[1];
        e[2] += v;
    }
    if (n)
        e[4] = e[2] / n;
    else
        e[0] = e[1] = 0;
    return compare(r, e, 5);
}

static const struct bytes *sorted; /* for by_value() alone */

static int by_value(const void *x, const void *y)
{
    const size_t a = *(const size_t *)x, b = *(const size_t *)y;
    const int32_t v = value_at(sorted, a), w = value_at(sorted, b);
    return v != w ? (v < w ? 1 : -1) : a < b ? -1 : a > b;
}

static int topk(const struct bytes *b, const struct bytes *r, char **argv)
{
    const size_t n = b->size / 4;
    size_t k = argv[0] ? (size_t)atoi(argv[0]) : 10;
    size_t *index = calloc(n + 1, sizeof(*index));
    int64_t expected[128];
    for (size_t i = 0; i < n; i++)
        index[i] = i;
    sorted = b;
    qsort(index, n, sizeof(*index), by_value);
    k = k < n ? k : n;
    for (size_t i = 0; i < k; i++) {
        expected[2 * i] = value_at(b, index[i]);
        expected[2 * i + 1] = (int64_t)index[i];
    }
    free(index);
    return compare(r, expected, 2 * k);
}

static uint32_t le32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* One block of the format that programs/lz.c describes. False: malformed. */
static bool unpack(const uint8_t *in, size_t size, uint8_t *out, size_t before)
{
    size_t at = 0, used = 0;
    if (size == before) {
        memcpy(out, in, size);
        return true;
    }
    while (at < size) {
        const uint8_t n = in[at++];
        const size_t len = n < 128 ? n + 1u : n - 124u;
        if (len > before - used || (n < 128 ? len : 2) > size - at)
            return false;
        if (n < 128) {
            memcpy(out + used, in + at, len);
            at += len;
        } else {
            const size_t distance = (in[at] | (size_t)in[at + 1] << 8) + 1;
            if (distance > used)
                return false;
            for (size_t i = 0; i < len; i++)
                out[used + i] = out[used + i - distance];
            at += 2;
        }
        used += len;
    }
    return used == before;
}

static int lz(const struct bytes *b, const struct bytes *r, char **argv)
{
    const struct bytes packed = read_all(argv[0]);
    uint8_t *out = malloc(b->size + 1);
    size_t at = 0, used = 0;
    for (;;) {
        if (packed.size - at < 8)
            return wrong("a block's header is missing at", (double)at, 0);
        const size_t before = le32(packed.data + at), after = le32(packed.data + at + 4);
        at += 8;
        if (!before)
            break;
        if (before > b->size - used || after > packed.size - at ||
            !unpack(packed.data + at, after, out + used, before))
            return wrong("a block is malformed at", (double)at, 0);
        at += after;
        used += before;
    }
    const int64_t expected[2] = {(int64_t)b->size, (int64_t)at};
    if (used != b->size || memcmp(out, b->data, used))
        return wrong("unpacked bytes", (double)used, (double)b->size);
    free(out);
    free(packed.data);
    return compare(r, expected, 2);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*check)(const struct bytes *data, const struct bytes *result, char **argv);
    } programs[] = {
        {"filter", filter}, {"zone_count", filter}, {"entropy", entropy},
        {"grep", grep},     {"csv", csv},           {"crc32c", crc32c},
        {"minmax", minmax}, {"topk", topk},         {"lz", lz},
    };
    for (size_t i = 0; argc >= 4 && i < sizeof(programs) / sizeof(programs[0]); i++) {
        if (strcmp(argv[1], programs[i].name))
            continue;
        struct bytes data = read_all(argv[2]), result = read_all(argv[3]);
        const int code = programs[i].check(&data, &result, argv + 4);
        free(data.data);
        free(result.data);
        return code;
    }
    fprintf(stderr, "usage: csd_answer PROGRAM DATA RESULT [ARGUMENT...]\n");
    return 2;
}
