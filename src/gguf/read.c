/* The parts of a GGUF file, read from a stream: see read.h. */
#include "gguf/read.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/platform.h"
#include "base/util.h"

/* ---- the stream ------------------------------------------------------------------------- */

int gguf_bad(struct gguf *g, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return blk_error_set(g->err, -EILSEQ, "byte %llu: %s", (unsigned long long)g->at, text);
}

static int fill(struct gguf *g)
{
    if (g->at >= g->limit)
        return gguf_bad(g, "the file ends here, but there must be more");
    const size_t n = min_u64(GGUF_WINDOW, g->limit - g->at);
    const int r = blk_read_bytes(g->queue, g->start + g->at, g->window, n);
    if (r < 0)
        return blk_error_set(g->err, r, "byte %llu: reading failed", (unsigned long long)g->at);
    g->window_at = g->at;
    g->window_size = n;
    return 0;
}

int gguf_bytes(struct gguf *g, void *data, size_t n)
{
    for (size_t done = 0; done < n;) {
        if (g->at < g->window_at || g->at >= g->window_at + g->window_size) {
            const int r = fill(g);
            if (r < 0)
                return r;
        }
        const size_t part = min_u64(n - done, g->window_at + g->window_size - g->at);
        memcpy((char *)data + done, g->window + (g->at - g->window_at), part);
        g->at += part;
        done += part;
    }
    return 0;
}

int gguf_u32(struct gguf *g, uint32_t *value)
{
    uint8_t b[4];
    const int r = gguf_bytes(g, b, sizeof(b));
    *value = r < 0 ? 0 : load_le32(b);
    return r;
}

int gguf_u64(struct gguf *g, uint64_t *value)
{
    uint8_t b[8];
    const int r = gguf_bytes(g, b, sizeof(b));
    *value = r < 0 ? 0 : load_le64(b);
    return r;
}

int gguf_skip(struct gguf *g, uint64_t n)
{
    if (n > g->limit - g->at)
        return gguf_bad(g, "%llu bytes are said to follow, more than there are",
                        (unsigned long long)n);
    g->at += n;
    return 0;
}

int gguf_text(struct gguf *g, char *text, size_t size, uint64_t *length)
{
    int r = gguf_u64(g, length);
    if (r < 0)
        return r;
    if (*length > g->limit - g->at)
        return gguf_bad(g, "a string of %llu bytes, more than there are",
                        (unsigned long long)*length);
    const size_t kept = min_u64(*length, size - 1);
    r = gguf_bytes(g, text, kept);
    text[r < 0 ? 0 : kept] = '\0';
    return r < 0 ? r : gguf_skip(g, *length - kept);
}

/* ---- metadata --------------------------------------------------------------------------- */

static const struct {
    const char *name;
    uint8_t bytes; /* 0: not of one size */
    bool is_signed;
} types[] = {
    [GGUF_UINT8] = {"uint8", 1, false},     [GGUF_INT8] = {"int8", 1, true},
    [GGUF_UINT16] = {"uint16", 2, false},   [GGUF_INT16] = {"int16", 2, true},
    [GGUF_UINT32] = {"uint32", 4, false},   [GGUF_INT32] = {"int32", 4, true},
    [GGUF_FLOAT32] = {"float32", 4, false}, [GGUF_BOOL] = {"bool", 1, false},
    [GGUF_STRING] = {"string", 0, false},   [GGUF_ARRAY] = {"array", 0, false},
    [GGUF_UINT64] = {"uint64", 8, false},   [GGUF_INT64] = {"int64", 8, true},
    [GGUF_FLOAT64] = {"float64", 8, false},
};

const char *gguf_type_name(enum gguf_type type)
{
    return type < ARRAY_SIZE(types) ? types[type].name : "unknown";
}

static int read_type(struct gguf *g, enum gguf_type *type)
{
    uint32_t number;
    const int r = gguf_u32(g, &number);
    if (r < 0)
        return r;
    if (number >= ARRAY_SIZE(types))
        return gguf_bad(g, "there is no value type %u", number);
    *type = (enum gguf_type)number;
    return 0;
}

int gguf_scalar(struct gguf *g, enum gguf_type type, struct gguf_value *value)
{
    uint8_t b[8] = {0};
    value->type = type;
    if (type == GGUF_STRING)
        return gguf_text(g, value->text, sizeof(value->text), &value->count);
    const unsigned n = types[type].bytes;
    const int r = gguf_bytes(g, b, n);
    if (r < 0)
        return r;
    if (type == GGUF_BOOL && b[0] > 1)
        return gguf_bad(g, "a bool that is %u", b[0]);
    if (types[type].is_signed && b[n - 1] & 0x80)
        memset(b + n, 0xff, sizeof(b) - n);
    value->bits = load_le64(b);
    return 0;
}

int gguf_pair(struct gguf *g, struct gguf_value *value)
{
    uint64_t length;
    enum gguf_type type = GGUF_UINT8;
    int r = gguf_text(g, value->key, sizeof(value->key), &length);
    if (r == 0 && (!length || length > UINT16_MAX))
        return gguf_bad(g, "a key of %llu bytes", (unsigned long long)length);
    if (r == 0)
        r = read_type(g, &type);
    if (r < 0 || type != GGUF_ARRAY)
        return r < 0 ? r : gguf_scalar(g, type, value);
    value->type = GGUF_ARRAY;
    r = read_type(g, &value->element);
    if (r == 0)
        r = gguf_u64(g, &value->count);
    if (r < 0)
        return r;
    if (value->element == GGUF_ARRAY)
        return gguf_bad(g, "%s: an array of arrays", value->key);
    const unsigned least = value->element == GGUF_STRING ? 8 : types[value->element].bytes;
    if (value->count > (g->limit - g->at) / least)
        return gguf_bad(g, "%s: an array of %llu elements, more than there are", value->key,
                        (unsigned long long)value->count);
    return 0;
}

int gguf_skip_rest(struct gguf *g, const struct gguf_value *value)
{
    if (value->type != GGUF_ARRAY)
        return 0;
    if (value->element != GGUF_STRING)
        return gguf_skip(g, value->count * types[value->element].bytes);
    int r = 0;
    for (uint64_t i = 0; r == 0 && i < value->count; i++) {
        uint64_t length;
        r = gguf_u64(g, &length);
        if (r == 0)
            r = gguf_skip(g, length);
    }
    return r;
}

/* ---- tensors ---------------------------------------------------------------------------- */

/* ggml's types: elements of a block, and its bytes. */
static const struct {
    const char *name;
    uint16_t elements, bytes;
} tensor_types[] = {
    [0] = {"F32", 1, 4},         [1] = {"F16", 1, 2},         [2] = {"Q4_0", 32, 18},
    [3] = {"Q4_1", 32, 20},      [6] = {"Q5_0", 32, 22},      [7] = {"Q5_1", 32, 24},
    [8] = {"Q8_0", 32, 34},      [9] = {"Q8_1", 32, 36},      [10] = {"Q2_K", 256, 84},
    [11] = {"Q3_K", 256, 110},   [12] = {"Q4_K", 256, 144},   [13] = {"Q5_K", 256, 176},
    [14] = {"Q6_K", 256, 210},   [15] = {"Q8_K", 256, 292},   [16] = {"IQ2_XXS", 256, 66},
    [17] = {"IQ2_XS", 256, 74},  [18] = {"IQ3_XXS", 256, 98}, [19] = {"IQ1_S", 256, 50},
    [20] = {"IQ4_NL", 32, 18},   [21] = {"IQ3_S", 256, 110},  [22] = {"IQ2_S", 256, 82},
    [23] = {"IQ4_XS", 256, 136}, [24] = {"I8", 1, 1},         [25] = {"I16", 1, 2},
    [26] = {"I32", 1, 4},        [27] = {"I64", 1, 8},        [28] = {"F64", 1, 8},
    [29] = {"IQ1_M", 256, 56},   [30] = {"BF16", 1, 2},       [34] = {"TQ1_0", 256, 54},
    [35] = {"TQ2_0", 256, 66},   [39] = {"MXFP4", 32, 17},
};

static int read_dimensions(struct gguf *g, struct gguf_tensor *t, uint64_t *elements)
{
    int r = gguf_u32(g, &t->dimensions);
    if (r == 0 && t->dimensions > 4)
        return gguf_bad(g, "%s: %u dimensions", t->name, t->dimensions);
    *elements = 1;
    for (uint32_t i = 0; r == 0 && i < 4; i++) {
        t->dimension[i] = 1;
        if (i < t->dimensions)
            r = gguf_u64(g, &t->dimension[i]);
        if (r == 0 &&
            (__builtin_mul_overflow(*elements, t->dimension[i], elements) || *elements > INT64_MAX))
            return gguf_bad(g, "%s: too many elements", t->name);
    }
    return r;
}

int gguf_line(struct gguf *g, struct gguf_tensor *t, uint64_t *elements)
{
    uint64_t length;
    uint32_t type = 0;
    int r = gguf_text(g, t->name, sizeof(t->name), &length);
    if (r == 0 && (!length || length >= sizeof(t->name)))
        return gguf_bad(g, "a tensor's name has %llu bytes, not 1 to %u",
                        (unsigned long long)length, GGUF_NAME_MAX - 1);
    if (r == 0)
        r = read_dimensions(g, t, elements);
    if (r == 0)
        r = gguf_u32(g, &type);
    if (r == 0)
        r = gguf_u64(g, &t->offset);
    if (r < 0)
        return r;
    if (type >= ARRAY_SIZE(tensor_types) || !tensor_types[type].name)
        return gguf_bad(g, "%s: there is no tensor type %u", t->name, type);
    t->type = tensor_types[type].name;
    const uint64_t block = tensor_types[type].elements;
    if (t->dimension[0] % block)
        return gguf_bad(g, "%s: rows of %llu elements are no whole blocks of %llu", t->name,
                        (unsigned long long)t->dimension[0], (unsigned long long)block);
    if (__builtin_mul_overflow(*elements / block, (uint64_t)tensor_types[type].bytes, &t->bytes))
        return gguf_bad(g, "%s: too many elements", t->name);
    return 0;
}
