/* All of a model, told line by line. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <ashlar/gguf.h>

#include "base/platform.h"
#include "base/util.h"

struct loading {
    void (*line)(void *arg, const char *text);
    void *arg;
    uint64_t tokens, token_bytes;
};

__attribute__((format(printf, 2, 3))) static void tell(const struct loading *l, const char *format,
                                                       ...)
{
    char text[320];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    l->line(l->arg, text);
}

static int tell_value(void *arg, const struct gguf_value *v)
{
    const struct loading *l = arg;
    if (v->type == GGUF_STRING &&
        (!strcmp(v->key, "general.architecture") || !strcmp(v->key, "general.name") ||
         !strcmp(v->key, "tokenizer.ggml.model")))
        tell(l, "%s: %s", v->key, v->text);
    return 0;
}

static int count_tensor(void *arg, const struct gguf_tensor *tensor)
{
    (void)arg;
    (void)tensor;
    return 0;
}

static int count_token(void *arg, const struct gguf_value *token)
{
    struct loading *l = arg;
    l->tokens++;
    l->token_bytes += token->count;
    return 0;
}

static int load_data(const struct loading *l, struct gguf *g, struct blk_error *err)
{
    uint32_t crc;
    uint64_t bytes;
    const uint64_t start = base_now_ns();
    const int r = gguf_read_data(g, &crc, &bytes, NULL, NULL, err);
    const uint64_t ns = max_u64(base_now_ns() - start, 1);
    if (r == 0)
        tell(l, "Tensor data: %llu bytes, CRC-32C %08x, %llu MB/s", (unsigned long long)bytes, crc,
             (unsigned long long)(bytes / (ns / 1000 + 1))); /* bytes a microsecond */
    return r;
}

static int load(struct loading *l, struct gguf *g, struct blk_error *err)
{
    const struct gguf_info *i = gguf_info(g);
    tell(l, "GGUF version: %u", i->version);
    tell(l, "Metadata: %llu pairs", (unsigned long long)i->metadata);
    int r = gguf_each_value(g, tell_value, l, err);
    if (r == 0) {
        tell(l, "Tensors: %llu", (unsigned long long)i->tensors);
        tell(l, "Parameters: %llu", (unsigned long long)i->parameters);
        r = gguf_each_tensor(g, count_tensor, NULL, err);
    }
    if (r == 0)
        r = load_data(l, g, err);
    if (r == 0)
        r = gguf_each_element(g, "tokenizer.ggml.tokens", count_token, l, err);
    if (r == 0)
        tell(l, "Tokenizer: %llu tokens, %llu bytes", (unsigned long long)l->tokens,
             (unsigned long long)l->token_bytes);
    return r;
}

int gguf_load(struct blk *dev, uint64_t offset, void (*line)(void *arg, const char *text),
              void *arg)
{
    struct loading l = {.line = line, .arg = arg};
    struct blk_error err = {0};
    struct gguf *g;
    int r = gguf_open(dev, offset, &g, &err);
    if (r == 0)
        r = load(&l, g, &err);
    if (r < 0)
        tell(&l, "%s", err.text);
    gguf_close(g);
    return r;
}
