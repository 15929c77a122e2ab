/* CSV: lines of three decimal columns; the sum of the third where the second is above 500. */
#include "question.h"

uint64_t question(const uint8_t *data, uint64_t size)
{
    uint64_t sum = 0, value = 0, second = 0;
    unsigned column = 0;
    for (uint64_t i = 0; i < size; i++) {
        uint8_t c = data[i];
        if (c >= '0' && c <= '9') {
            value = value * 10 + (c - '0');
        } else if (c == ',') {
            if (column == 1)
                second = value;
            column++;
            value = 0;
        } else if (c == '\n') {
            if (column == 2 && second > 500)
                sum += value;
            column = 0;
            value = 0;
        }
    }
    return sum;
}
