/* The drivers by name: those of the home, and those that were registered. */
#include "blk/core.h"

#include <errno.h>
#include <string.h>

#define MAX_REGISTERED 64

/* Grows only; a slot is written before count says that it is there. */
static const struct blk_driver *registered[MAX_REGISTERED];
static unsigned registered_count;

const struct blk_driver *blk_driver_next(const struct blk_driver *driver)
{
    unsigned n = __atomic_load_n(&registered_count, __ATOMIC_ACQUIRE);
    bool take = !driver;
    for (unsigned i = 0; blk_drivers[i]; i++) {
        if (take)
            return blk_drivers[i];
        take = blk_drivers[i] == driver;
    }
    for (unsigned i = 0; i < n; i++) {
        if (take)
            return registered[i];
        take = registered[i] == driver;
    }
    return NULL;
}

const struct blk_driver *blk_driver_find(const char *name, size_t len)
{
    const struct blk_driver *d = NULL;
    while ((d = blk_driver_next(d)))
        if (strlen(d->name) == len && !memcmp(d->name, name, len))
            return d;
    return NULL;
}

int blk_driver_register(const struct blk_driver *driver)
{
    if (blk_driver_find(driver->name, strlen(driver->name)))
        return -EEXIST;
    if (registered_count == MAX_REGISTERED)
        return -ENOSPC;
    registered[registered_count] = driver;
    __atomic_store_n(&registered_count, registered_count + 1, __ATOMIC_RELEASE);
    return 0;
}
