/* csd/option.h: what a run may do, as text: the options of `ashlar csd run` and of the shell's. */
#ifndef CSD_OPTION_H
#define CSD_OPTION_H

#include <ashlar/csd.h>

/* "OFF:LEN" in bytes, or "OFF:" to the device's end. Errors: -EINVAL, -ERANGE with a message. */
int csd_option_range(const struct blk *dev, const char *text, struct csd_range *range,
                     struct blk_error *err);

/* "A" or "A-B": zones of the device, or of zone_size bytes (0: unknown) if it has none. */
int csd_option_zones(const struct blk *dev, uint64_t zone_size, const char *text,
                     struct csd_range *range, struct blk_error *err);

/* Append a value to an argument, of CSD_MAX_ARG bytes at the most: text, or a number with u8:,
 * u16:, u32:, u64:, i32: or i64: before it; text: before it makes anything a text. */
int csd_option_arg(const char *text, uint8_t *arg, uint64_t *size, struct blk_error *err);

#endif
