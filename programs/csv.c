/*
 * The sum of a column of a CSV file, over the rows in which another column has a value.
 *
 * Argument: "SUM COLUMN VALUE": numbers of columns, from 1, and up to 31 bytes; "SUM" alone: all
 * rows. Returns two int64: the sum in millionths, and the number of rows that were added. Rows
 * where the number is missing or none (a header) are left out. In quotes, commas and line feeds
 * are text; the quotes themselves are ignored.
 */
#include "csd.h"

enum { VALUE_MAX = 31, EINVAL = 22, FRACTION = 6, NO_MATCH = 255 };

static struct {
    uint32_t sum_column, match_column; /* 0: none */
    uint32_t len;
    uint8_t value[VALUE_MAX + 1];
} query;

static struct {
    int64_t sum, rows;
} answer;

static uint32_t read_number(const uint8_t *text, uint32_t *at)
{
    uint32_t number = 0;
    for (uint32_t i = 0; i < 4; i++) {
        const uint32_t digit = text[*at & 63] - '0';
        if (digit > 9)
            break;
        number = number * 10 + digit;
        ++*at;
    }
    return number;
}

static int read_query(void)
{
    const void *arg;
    uint32_t at = 0;
    if (csd_arg(&arg) > 48)
        return -EINVAL;
    const uint8_t *text = arg; /* zeroes follow it */
    query.sum_column = read_number(text, &at);
    if (text[at & 63] == ' ') {
        at++;
        query.match_column = read_number(text, &at);
        if (!query.match_column || text[at & 63] != ' ')
            return -EINVAL;
        at++;
        for (uint32_t i = 0; i < VALUE_MAX && text[(at + i) & 63]; i++) {
            query.value[i] = text[(at + i) & 63];
            query.len = i + 1;
        }
        at += query.len;
    }
    return query.sum_column && !text[at & 63] ? 0 : -EINVAL;
}

/* Where in a row we are. */
static uint32_t column, quoted;
static uint32_t matched; /* bytes of the value; NO_MATCH */
static uint32_t digits, decimals, in_fraction, negative, bad;
static uint64_t number;

static void end_row(void)
{
    const uint32_t match = !query.match_column || matched == query.len;
    if (match && digits && !bad) {
        for (uint32_t i = 0; i < FRACTION; i++)
            if (i >= decimals)
                number *= 10;
        answer.sum += negative ? -(int64_t)number : (int64_t)number;
        answer.rows++;
    }
    column = 1;
    matched = digits = decimals = in_fraction = negative = bad = 0;
    number = 0;
}

static void add_digit(uint8_t byte)
{
    const uint32_t digit = byte - '0';
    if (digit <= 9) {
        if (in_fraction && decimals == FRACTION)
            return; /* finer than we count */
        number = number * 10 + digit;
        digits++;
        decimals += in_fraction;
    } else if (byte == '.' && !in_fraction) {
        in_fraction = 1;
    } else if (byte == '-' && !digits && !negative) {
        negative = 1;
    } else if (byte != ' ' && byte != '\r') {
        bad = 1;
    }
}

static void match_byte(uint8_t byte)
{
    if (byte == '\r')
        return;
    matched =
        matched < query.len && query.value[matched & VALUE_MAX] == byte ? matched + 1 : NO_MATCH;
}

static void take(uint8_t byte)
{
    if (byte == '"')
        quoted ^= 1;
    else if (byte == '\n' && !quoted)
        end_row();
    else if (byte == ',' && !quoted)
        column++;
    else {
        if (column == query.sum_column)
            add_digit(byte);
        if (column == query.match_column)
            match_byte(byte);
    }
}

int main(void)
{
    const void *data;
    int64_t n;
    const int error = read_query();
    if (error)
        return error;
    column = 1;
    while ((n = csd_next(&data, CSD_CHUNK)) > 0)
        for (uint32_t i = 0; i < (uint32_t)n; i++)
            take(((const uint8_t *)data)[i]);
    end_row(); /* the last may have no line feed */
    bpf_return_data(&answer, sizeof(answer));
    return (int)n;
}
