/*
 * snprintf and vsnprintf of C17 (7.21.6.1) without floating point, which the kernel does not use:
 * flags - 0 + space #, width, precision, lengths hh h l ll z j t, conversions d i u x X o c s p %.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct out {
    char *at;
    size_t room;
    size_t count;
};

struct spec {
    bool left, zero, plus, space, alternate;
    int width;
    int precision; /* -1: none */
};

static void put(struct out *o, char c)
{
    if (o->count < o->room)
        o->at[o->count] = c;
    o->count++;
}

static void pad(struct out *o, char c, int n)
{
    while (n-- > 0)
        put(o, c);
}

static void put_text(struct out *o, const struct spec *s, const char *text)
{
    if (!text)
        text = "(null)";
    int len = 0;
    while ((s->precision < 0 || len < s->precision) && text[len])
        len++;
    if (!s->left)
        pad(o, ' ', s->width - len);
    for (int i = 0; i < len; i++)
        put(o, text[i]);
    if (s->left)
        pad(o, ' ', s->width - len);
}

static void put_number(struct out *o, const struct spec *s, uint64_t value, unsigned base,
                       bool upper, const char *prefix)
{
    char digits[24];
    int n = 0;
    for (; value; value /= base)
        digits[n++] = (upper ? "0123456789ABCDEF" : "0123456789abcdef")[value % base];
    if (!n && s->precision)
        digits[n++] = '0';
    const int zeroes = s->precision > n ? s->precision - n : 0;
    int fill = s->width - n - zeroes - (int)strlen(prefix);
    const bool zero = s->zero && !s->left && s->precision < 0;
    if (!s->left && !zero)
        pad(o, ' ', fill);
    while (*prefix)
        put(o, *prefix++);
    if (zero)
        pad(o, '0', fill);
    pad(o, '0', zeroes);
    while (n)
        put(o, digits[--n]);
    if (s->left)
        pad(o, ' ', fill);
}

static int number(const char **format, va_list *args)
{
    int value = 0;
    if (**format == '*') {
        (*format)++;
        return va_arg(*args, int);
    }
    while (**format >= '0' && **format <= '9')
        value = value * 10 + *(*format)++ - '0';
    return value;
}

static const char *read_spec(const char *f, struct spec *s, va_list *args)
{
    *s = (struct spec){.precision = -1};
    for (;; f++) {
        if (*f == '-')
            s->left = true;
        else if (*f == '0')
            s->zero = true;
        else if (*f == '+')
            s->plus = true;
        else if (*f == ' ')
            s->space = true;
        else if (*f == '#')
            s->alternate = true;
        else
            break;
    }
    s->width = number(&f, args);
    if (s->width < 0) {
        s->left = true;
        s->width = -s->width;
    }
    if (*f == '.') {
        f++;
        s->precision = number(&f, args);
    }
    return f;
}

/* Lengths in bytes, by the letters before the conversion. */
static const char *read_length(const char *f, unsigned *bytes)
{
    *bytes = sizeof(int);
    for (;; f++) {
        if (*f == 'h')
            *bytes /= 2;
        else if (*f == 'l' || *f == 'z' || *f == 'j' || *f == 't')
            *bytes = 8;
        else
            return f;
    }
}

static uint64_t unsigned_arg(va_list *args, unsigned bytes)
{
    if (bytes == 8)
        return va_arg(*args, uint64_t);
    uint32_t value = va_arg(*args, uint32_t);
    return bytes == 1 ? (uint8_t)value : bytes == 2 ? (uint16_t)value : value;
}

static int64_t signed_arg(va_list *args, unsigned bytes)
{
    if (bytes == 8)
        return va_arg(*args, int64_t);
    int32_t value = va_arg(*args, int32_t);
    return bytes == 1 ? (int8_t)value : bytes == 2 ? (int16_t)value : value;
}

static void put_signed(struct out *o, const struct spec *s, int64_t value)
{
    const char *sign = value < 0 ? "-" : s->plus ? "+" : s->space ? " " : "";
    put_number(o, s, value < 0 ? -(uint64_t)value : (uint64_t)value, 10, false, sign);
}

static void convert(struct out *o, struct spec *s, char conversion, unsigned bytes, va_list *args)
{
    switch (conversion) {
    case 'd':
    case 'i':
        put_signed(o, s, signed_arg(args, bytes));
        break;
    case 'u':
        put_number(o, s, unsigned_arg(args, bytes), 10, false, "");
        break;
    case 'o':
        put_number(o, s, unsigned_arg(args, bytes), 8, false, s->alternate ? "0" : "");
        break;
    case 'x':
    case 'X': {
        uint64_t value = unsigned_arg(args, bytes);
        const char *prefix = conversion == 'x' ? "0x" : "0X";
        put_number(o, s, value, 16, conversion == 'X', s->alternate && value ? prefix : "");
        break;
    }
    case 'p':
        put_number(o, s, (uint64_t)(uintptr_t)va_arg(*args, void *), 16, false, "0x");
        break;
    case 'c': {
        char text[2] = {(char)va_arg(*args, int), '\0'};
        s->precision = -1;
        put_text(o, s, text);
        break;
    }
    case 's':
        put_text(o, s, va_arg(*args, const char *));
        break;
    default: /* %% and what is not supported shows itself */
        put(o, '%');
        if (conversion != '%')
            put(o, conversion);
    }
}

int vsnprintf(char *restrict text, size_t size, const char *restrict format, va_list given)
{
    struct out o = {text, size, 0};
    va_list args;
    va_copy(args, given);
    for (const char *f = format; *f; f++) {
        if (*f != '%') {
            put(&o, *f);
            continue;
        }
        struct spec s;
        unsigned bytes;
        f = read_length(read_spec(f + 1, &s, &args), &bytes);
        if (!*f)
            break;
        convert(&o, &s, *f, bytes, &args);
    }
    va_end(args);
    if (size)
        text[o.count < size ? o.count : size - 1] = '\0';
    return (int)o.count;
}

int snprintf(char *restrict text, size_t size, const char *restrict format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, size, format, args);
    va_end(args);
    return n;
}
