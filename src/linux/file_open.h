/* linux/file_open.h: opening a file or block device for a driver, and finding out what it is. */
#ifndef LINUX_FILE_OPEN_H
#define LINUX_FILE_OPEN_H

#include <ashlar/blk_driver.h>

struct file_open {
    bool direct;     /* O_DIRECT */
    uint64_t create; /* make the file, of this size, if there is none; 0: it must be there */
    uint64_t block;  /* logical block size; 0: the smallest that suits */
};

/* Open dev->argument and set dev->info (size, block sizes, alignment, ...). Returns the descriptor,
 * which the caller closes, or a negative errno with a message. */
int file_open(struct blk *dev, const struct file_open *how, struct blk_error *err);

#endif
