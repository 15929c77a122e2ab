/*
 * Specs: the text that names a device. The grammar (docs/spec.md):
 *
 *     spec    = driver [":" argument] ["?" options]
 *             | filter ["?" options] "," spec
 *             | filter ":" spec ["?" options]        options after the last "?" are the filter's
 *     options = name "=" value *("&" name "=" value)
 *
 * "%XX" in an argument or value stands for the byte XX.
 */
#include "blk/core.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int blk_error_set(struct blk_error *err, int error, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof(err->text), format, args);
        va_end(args);
    }
    return error;
}

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '_';
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Replace each %XX; the text gets shorter in place. A '%' at the very end is itself: "1%". */
static int decode(char *text, struct blk_error *err)
{
    char *out = text;
    for (const char *in = text; *in; in++) {
        if (*in != '%' || !in[1]) {
            *out++ = *in;
            continue;
        }
        int high = hex_digit(in[1]);
        int low = high < 0 ? -1 : hex_digit(in[2]);
        if (low < 0 || !(high | low))
            return blk_error_set(err, -EINVAL,
                                 "'%%' must be followed by two hexadecimal digits, not 00 (a "
                                 "plain '%%' is written %%25)");
        *out++ = (char)(high << 4 | low);
        in += 2;
    }
    *out = '\0';
    return 0;
}

static int parse_options(char *text, struct blk_spec *spec, struct blk_error *err)
{
    while (*text) {
        char *end = text + strcspn(text, "&");
        bool last = !*end;
        *end = '\0';
        char *value = strchr(text, '=');
        if (!value || value == text)
            return blk_error_set(err, -EINVAL, "option '%.64s' must be of the form name=value",
                                 text);
        *value++ = '\0';
        if (spec->option_count == BLK_SPEC_OPTIONS)
            return blk_error_set(err, -EINVAL, "more than %d options", BLK_SPEC_OPTIONS);
        int error = decode(value, err);
        if (error < 0)
            return error;
        spec->option[spec->option_count].name = text;
        spec->option[spec->option_count].value = value;
        spec->option_count++;
        if (last)
            break;
        text = end + 1;
    }
    return 0;
}

/* Cut text at the option mark; *options is "" if there is none. */
static void cut_options(char *mark, char **options)
{
    if (mark) {
        *mark = '\0';
        *options = mark + 1;
    }
}

static int parse_filter(char *rest, struct blk_spec *spec, char **options, struct blk_error *err)
{
    char *inner = NULL;
    if (*rest == ':') {
        inner = rest + 1;
        cut_options(strrchr(inner, '?'), options);
    } else if (*rest) {
        char *comma = strchr(rest, ',');
        if (comma) {
            *comma = '\0';
            inner = comma + 1;
        }
        if (*rest == '?')
            *options = rest + 1;
    }
    if (!inner || !*inner)
        return blk_error_set(err, -EINVAL, "'%s' is a filter and needs a device: %s,DEVICE",
                             spec->driver->name, spec->driver->name);
    spec->inner = inner;
    spec->argument = spec->text + strlen(spec->text);
    return 0;
}

static int parse_device(char *rest, struct blk_spec *spec, char **options, struct blk_error *err)
{
    if (*rest == ',')
        return blk_error_set(err, -EINVAL, "'%s' is not a filter, so no device can follow it",
                             spec->driver->name);
    if (spec->driver->flags & BLK_DRIVER_URI) {
        spec->argument = spec->text;
        return 0;
    }
    if (*rest == '?')
        *options = rest + 1;
    spec->argument = *rest == ':' ? rest + 1 : rest + strlen(rest);
    if (*rest == ':')
        cut_options(strchr(rest, '?'), options);
    else
        *rest = '\0';
    return decode(spec->argument, err);
}

static int parse(const char *text, struct blk_spec *spec, struct blk_error *err)
{
    size_t len = strlen(text);
    size_t name = 0;
    while (is_name_char(text[name]))
        name++;
    if (!len)
        return blk_error_set(err, -EINVAL, "the device is empty; give one such as mem:1G");
    if (len > BLK_SPEC_MAX)
        return blk_error_set(err, -EINVAL, "the device's spec is over %d bytes", BLK_SPEC_MAX);
    if (!name || (text[name] && !strchr(":?,", text[name])))
        return blk_error_set(err, -EINVAL,
                             "no scheme before the first ':'; a file is written file:%.200s", text);
    spec->driver = blk_driver_find(text, name);
    if (!spec->driver && !text[name])
        return blk_error_set(
            err, -EINVAL, "no device or scheme '%.64s'; a file is written file:%.64s", text, text);
    if (!spec->driver)
        return blk_error_set(err, -EINVAL,
                             "unknown scheme '%.*s' ('ashlar help devices' lists "
                             "them)",
                             (int)(name < 64 ? name : 64), text);
    spec->text = base_alloc(len + 1);
    if (!spec->text)
        return blk_error_set(err, -ENOMEM, "out of memory");
    memcpy(spec->text, text, len + 1);

    char *rest = spec->text + name;
    char *options = spec->text + len; /* "" */
    int error = spec->driver->flags & BLK_DRIVER_FILTER ? parse_filter(rest, spec, &options, err)
                                                        : parse_device(rest, spec, &options, err);
    if (error < 0)
        return error;
    return parse_options(options, spec, err);
}

int blk_spec_parse(const char *text, struct blk_spec *spec, struct blk_error *err)
{
    memset(spec, 0, sizeof(*spec));
    int error = parse(text, spec, err);
    if (error < 0) {
        base_free(spec->text);
        spec->text = NULL;
    }
    return error;
}
