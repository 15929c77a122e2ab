/* Options: from text to the fields of a driver's struct. */
#include "blk/core.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"

/* Digits of a decimal number; *end is what follows. -ERANGE if over 64 bits. */
static int parse_number(const char *text, const char **end, uint64_t *value)
{
    uint64_t n = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(n, 10u, &n) ||
            __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n))
            return -ERANGE;
    if (p == text)
        return -EINVAL;
    *end = p;
    *value = n;
    return 0;
}

int blk_parse_size(const char *text, uint64_t *value)
{
    static const char units[] = "KMGTPE";
    const char *end;
    int error = parse_number(text, &end, value);
    if (error < 0)
        return error;
    const char *unit = *end ? strchr(units, *end >= 'a' ? *end - 'a' + 'A' : *end) : NULL;
    if (unit) {
        unsigned shift = 10 * (unsigned)(unit - units + 1);
        if (*value > UINT64_MAX >> shift)
            return -ERANGE;
        *value <<= shift;
        end++;
        if (!strcmp(end, "iB"))
            end += 2;
    }
    return *end ? -EINVAL : 0;
}

int blk_parse_time(const char *text, uint64_t *ns)
{
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {{"ns", 1}, {"us", 1000}, {"ms", 1000000}, {"s", 1000000000}};
    const char *end;
    int error = parse_number(text, &end, ns);
    if (error < 0)
        return error;
    if (!*ns && !*end)
        return 0;
    for (unsigned i = 0; i < ARRAY_SIZE(units); i++)
        if (!strcmp(end, units[i].name))
            return __builtin_mul_overflow(*ns, units[i].ns, ns) ? -ERANGE : 0;
    return -EINVAL;
}

/* Digits beyond the ninth after the point (eleventh of a percentage) do not count. */
static int parse_fraction(const char *text, uint32_t *value)
{
    uint64_t whole = 0, unit = UINT64_C(100) * BLK_FRACTION_ONE;
    const char *p = text;
    int error = parse_number(p, &p, &whole);
    if (error < 0)
        return error;
    if (whole > 100)
        return -ERANGE;
    uint64_t sum = whole * unit;
    if (*p == '.') {
        if (p[1] < '0' || p[1] > '9')
            return -EINVAL;
        for (p++; *p >= '0' && *p <= '9'; p++) {
            unit /= 10;
            sum += (uint64_t)(*p - '0') * unit;
        }
    }
    if (*p == '%') {
        sum /= 100;
        p++;
    }
    if (*p)
        return -EINVAL;
    sum /= 100;
    *value = (uint32_t)min_u64(sum, BLK_FRACTION_ONE);
    return sum > BLK_FRACTION_ONE ? -ERANGE : 0;
}

static const char *type_help(enum blk_option_type type)
{
    static const char *const help[] = {
        [BLK_OPT_SIZE] = "a size such as 4096, 64K or 4G",    [BLK_OPT_COUNT] = "a number",
        [BLK_OPT_TIME] = "a time such as 10us, 1ms or 2s",    [BLK_OPT_BOOL] = "on or off",
        [BLK_OPT_FRACTION] = "a fraction such as 0.01 or 1%", [BLK_OPT_STRING] = "a text",
    };
    return help[type];
}

static int set_field(const struct blk_option *o, char *priv, const char *text)
{
    void *field = priv + o->offset;
    const char *end;
    switch (o->type) {
    case BLK_OPT_SIZE:
        return blk_parse_size(text, field);
    case BLK_OPT_TIME:
        return blk_parse_time(text, field);
    case BLK_OPT_FRACTION:
        return parse_fraction(text, field);
    case BLK_OPT_COUNT: {
        int error = parse_number(text, &end, field);
        return error < 0 ? error : *end ? -EINVAL : 0;
    }
    case BLK_OPT_BOOL:
        *(bool *)field = !strcmp(text, "on");
        return *(bool *)field || !strcmp(text, "off") ? 0 : -EINVAL;
    case BLK_OPT_STRING:
        *(const char **)field = text;
        return *text ? 0 : -EINVAL;
    }
    return -EINVAL;
}

static const struct blk_option *find_option(const struct blk_driver *d, const char *name)
{
    for (const struct blk_option *o = d->options; o && o->name; o++)
        if (!strcmp(o->name, name))
            return o;
    return NULL;
}

static int unknown_option(const struct blk_driver *d, const char *name, struct blk_error *err)
{
    char known[300] = "";
    size_t used = 0;
    for (const struct blk_option *o = d->options; o && o->name && used < sizeof(known); o++)
        used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s",
                                 o == d->options ? "" : ", ", o->name);
    if (!used)
        return blk_error_set(err, -EINVAL, "unknown option '%.64s': '%s' has no options", name,
                             d->name);
    return blk_error_set(err, -EINVAL, "unknown option '%.64s'; '%s' has: %s", name, d->name,
                         known);
}

int blk_options_apply(const struct blk_spec *spec, void *priv, struct blk_error *err)
{
    const struct blk_driver *d = spec->driver;
    for (const struct blk_option *o = d->options; o && o->name; o++)
        if (o->default_text && set_field(o, priv, o->default_text) < 0)
            return blk_error_set(err, -EINVAL, "driver '%s': bad default of option '%s'", d->name,
                                 o->name);
    for (unsigned i = 0; i < spec->option_count; i++) {
        const char *name = spec->option[i].name;
        const char *value = spec->option[i].value;
        const struct blk_option *o = find_option(d, name);
        if (!o)
            return unknown_option(d, name, err);
        for (unsigned k = 0; k < i; k++)
            if (!strcmp(spec->option[k].name, name))
                return blk_error_set(err, -EINVAL, "option '%s' is given twice", name);
        if (set_field(o, priv, value) < 0)
            return blk_error_set(err, -EINVAL, "option '%s' must be %s, not '%.64s'", name,
                                 type_help(o->type), value);
    }
    return 0;
}
