/* linux/ublk/params.h: what a device tells of itself, in the kernel's words and in ours. */
#ifndef UBLK_PARAMS_H
#define UBLK_PARAMS_H

#include <ashlar/blk_driver.h>
#include <ashlar/ublk.h>

#include "linux/ublk/abi.h"

/* What a configuration comes to on this device: no zeroes left. -EINVAL with a message. */
int ublk_config_resolve(const struct blk *dev, struct ublk_config *config, struct blk_error *err);

/* The parameters of a device with these block and request sizes. */
void ublk_params_set(const struct blk *dev, const struct ublk_config *config,
                     struct ublk_params *p);

/* Whether dev can go on where a device with these parameters was left: -EINVAL with a message. */
int ublk_params_match(const struct blk *dev, const struct ublk_params *p, struct blk_error *err);

/* The flags of a mode and a recovery, and back. */
uint64_t ublk_mode_flags(enum ublk_mode mode, uint64_t offered);
uint64_t ublk_recovery_flags(enum ublk_recovery recovery);

/* All that the kernel tells of a device. p: NULL if its parameters are not known. */
void ublk_info_set(struct ublk_info *info, const struct ublksrv_ctrl_dev_info *d,
                   const struct ublk_params *p);

#endif
