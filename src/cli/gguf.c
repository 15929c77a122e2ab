/* ashlar gguf info|verify FILE */
#include <ashlar/gguf.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static int open_model(const struct cli *cli, struct blk **dev)
{
    return cli_open_path(cli, cli->operand[0], BLK_OPEN_READ_ONLY, dev);
}

/* ---- info ------------------------------------------------------------------------------- */

static double float_of(const struct gguf_value *v)
{
    if (v->type == GGUF_FLOAT32) {
        float f;
        const uint32_t bits = (uint32_t)v->bits;
        memcpy(&f, &bits, sizeof(f));
        return f;
    }
    double d;
    memcpy(&d, &v->bits, sizeof(d));
    return d;
}

static bool is_float(const struct gguf_value *v)
{
    return v->type == GGUF_FLOAT32 || v->type == GGUF_FLOAT64;
}

static bool is_signed(const struct gguf_value *v)
{
    return v->type == GGUF_INT8 || v->type == GGUF_INT16 || v->type == GGUF_INT32 ||
           v->type == GGUF_INT64;
}

/* Bytes that a terminal would act on become dots. */
static void print_text(const char *text)
{
    for (; *text; text++)
        putchar((unsigned char)*text < ' ' || *text == 127 ? '.' : *text);
}

static int print_value(void *arg, const struct gguf_value *v)
{
    (void)arg;
    printf("  ");
    print_text(v->key);
    printf(" (%s) = ", gguf_type_name(v->type));
    if (v->type == GGUF_STRING)
        print_text(v->text);
    else if (v->type == GGUF_ARRAY)
        printf("%" PRIu64 " of %s", v->count, gguf_type_name(v->element));
    else if (v->type == GGUF_BOOL)
        printf("%s", v->bits ? "true" : "false");
    else if (is_float(v))
        printf("%g", float_of(v));
    else if (is_signed(v))
        printf("%" PRId64, (int64_t)v->bits);
    else
        printf("%" PRIu64, v->bits);
    printf("%s\n", v->type == GGUF_STRING && v->count >= sizeof(v->text) ? "..." : "");
    return 0;
}

static int print_tensor(void *arg, const struct gguf_tensor *t)
{
    (void)arg;
    printf("  ");
    print_text(t->name);
    printf(" %s [", t->type);
    for (uint32_t i = 0; i < t->dimensions; i++)
        printf("%s%" PRIu64, i ? ", " : "", t->dimension[i]);
    printf("] at %" PRIu64 ", %" PRIu64 " bytes\n", t->offset, t->bytes);
    return 0;
}

static int print_info(const struct cli *cli, struct gguf *g, struct blk_error *err)
{
    const struct gguf_info *i = gguf_info(g);
    char size[16];
    printf("%-14s %u\n", "version", i->version);
    printf("%-14s %" PRIu64 "\n", "tensors", i->tensors);
    printf("%-14s %" PRIu64 "\n", "parameters", i->parameters);
    printf("%-14s %" PRIu64 " (%s)\n", "file size", i->size, cli_format_size(i->size, size));
    printf("%-14s %" PRIu64 "\n", "data at", i->data);
    printf("%-14s %u\n", "alignment", i->alignment);
    printf("%-14s %" PRIu64 "\n", "vocabulary", i->vocabulary);
    printf("metadata:\n");
    int r = gguf_each_value(g, print_value, NULL, err);
    if (r == 0 && cli_flag(cli, "tensors")) {
        printf("tensors:\n");
        r = gguf_each_tensor(g, print_tensor, NULL, err);
    }
    return r;
}

/* A text that is not UTF-8 has no place in JSON. */
static json_t *json_text(const char *text)
{
    json_t *t = json_string(text);
    return t ? t : json_null();
}

static int json_value(void *arg, const struct gguf_value *v)
{
    json_t *o = json_pack("{s:o, s:s}", "key", json_text(v->key), "type", gguf_type_name(v->type));
    if (v->type == GGUF_STRING)
        json_object_set_new(o, "value", json_text(v->text));
    else if (v->type == GGUF_ARRAY)
        json_object_set_new(o, "count", json_integer((json_int_t)v->count));
    else if (v->type == GGUF_BOOL)
        json_object_set_new(o, "value", json_boolean(v->bits));
    else if (is_float(v))
        json_object_set_new(o, "value", json_real(float_of(v)));
    else
        json_object_set_new(o, "value", json_integer((json_int_t)v->bits));
    return json_array_append_new(arg, o) ? -ENOMEM : 0;
}

static int json_tensor(void *arg, const struct gguf_tensor *t)
{
    json_t *shape = json_array();
    for (uint32_t i = 0; i < t->dimensions; i++)
        json_array_append_new(shape, json_integer((json_int_t)t->dimension[i]));
    json_t *o =
        json_pack("{s:o, s:s, s:o, s:I, s:I}", "name", json_text(t->name), "type", t->type, "shape",
                  shape, "offset", (json_int_t)t->offset, "bytes", (json_int_t)t->bytes);
    return json_array_append_new(arg, o) ? -ENOMEM : 0;
}

static int print_json(struct gguf *g, struct blk_error *err)
{
    const struct gguf_info *i = gguf_info(g);
    json_t *values = json_array(), *tensors = json_array();
    int r = gguf_each_value(g, json_value, values, err);
    if (r == 0)
        r = gguf_each_tensor(g, json_tensor, tensors, err);
    json_t *o = json_pack("{s:i, s:I, s:I, s:I, s:i, s:I, s:o, s:o}", "version", (int)i->version,
                          "parameters", (json_int_t)i->parameters, "size", (json_int_t)i->size,
                          "data", (json_int_t)i->data, "alignment", (int)i->alignment, "vocabulary",
                          (json_int_t)i->vocabulary, "metadata", values, "tensors", tensors);
    if (r == 0)
        json_dumpf(o, stdout, JSON_INDENT(1));
    printf("\n");
    json_decref(o);
    return r;
}

static int run_info(struct cli *cli)
{
    struct blk *dev;
    struct blk_error err = {0};
    struct gguf *g;
    int code = open_model(cli, &dev);
    if (code != CLI_OK)
        return code;
    int r = gguf_open(dev, cli_number(cli, "offset", 0), &g, &err);
    if (r == 0)
        r = cli_flag(cli, "json") ? print_json(g, &err) : print_info(cli, g, &err);
    if (r < 0)
        code = cli_failed(cli, "%s: %s", cli->operand[0], err.text);
    gguf_close(g);
    blk_close(dev);
    return code;
}

/* ---- verify ----------------------------------------------------------------------------- */

static void print_line(void *arg, const char *text)
{
    (void)arg;
    print_text(text);
    printf("\n");
}

static int run_verify(struct cli *cli)
{
    struct blk *dev;
    int code = open_model(cli, &dev);
    if (code != CLI_OK)
        return code;
    if (gguf_load(dev, cli_number(cli, "offset", 0), print_line, NULL) < 0)
        code = cli_failed(cli, "%s: not a sound model", cli->operand[0]);
    blk_close(dev);
    return code;
}

/* ---- tables ----------------------------------------------------------------------------- */

#define OFFSET                                                                                     \
    {                                                                                              \
        "offset", CLI_SIZE, "SIZE", "where the model begins on the device; 0 by default"           \
    }

static const struct cli_option info_options[] = {
    OFFSET,
    {"tensors", CLI_FLAG, NULL, "list the tensors too"},
    {"json", CLI_FLAG, NULL, "all of it as JSON"},
    {0},
};

static const struct cli_option verify_options[] = {
    OFFSET,
    {0},
};

static const struct cli_example info_examples[] = {
    {"ashlar gguf info model.gguf --tensors", "what a model consists of"},
    {"ashlar gguf info 'nbd://host/model' --json", "the same of a model on a device"},
    {0},
};

static const struct cli_example verify_examples[] = {
    {"ashlar gguf verify model.gguf", "read all of it and print a checksum of its data"},
    {0},
};

const struct cli_command cli_gguf_info = {
    .name = "gguf info",
    .operands = "FILE",
    .min_operands = 1,
    .max_operands = 1,
    .summary = "show what a GGUF model consists of",
    .description = "FILE is a file or any device. Reads the header, metadata and the table of "
                   "tensors (GGUF versions 2 and 3) and checks them.",
    .options = info_options,
    .examples = info_examples,
    .run = run_info,
};

const struct cli_command cli_gguf_verify = {
    .name = "gguf verify",
    .operands = "FILE",
    .min_operands = 1,
    .max_operands = 1,
    .summary = "read all of a GGUF model and check it",
    .description =
        "FILE is a file or any device. Goes through header, metadata, tensors, all tensor "
        "data and the vocabulary, as the unikernel's loadmodel does. A truncated or "
        "malformed model ends with 1 and the reason.",
    .options = verify_options,
    .examples = verify_examples,
    .run = run_verify,
};
