/* Finding virtio devices, and the steps of their start (3.1). */
#include "os/virtio/virtio.h"

#include <errno.h>

#include "os/os.h"

enum {
    STATUS_ACKNOWLEDGE = 1,
    STATUS_DRIVER = 2,
    STATUS_DRIVER_OK = 4,
    STATUS_FEATURES_OK = 8,
    STATUS_FAILED = 128,
};

static void add_status(struct virtio *v, uint8_t bit)
{
    v->transport->set_status(v, v->transport->status(v) | bit);
}

void virtio_reset(struct virtio *v)
{
    v->transport->set_status(v, 0);
    /* The device has stopped when it reads back as 0 (4.1.4.3.1). */
    const uint64_t end = base_now_ns() + 5000000000;
    while (v->transport->status(v) != 0 && base_now_ns() < end)
        cpu_pause();
}

int virtio_start(struct virtio *v, uint64_t wanted)
{
    virtio_reset(v);
    add_status(v, STATUS_ACKNOWLEDGE);
    add_status(v, STATUS_DRIVER);
    wanted |= UINT64_C(1) << VIRTIO_F_INDIRECT_DESC | UINT64_C(1) << VIRTIO_F_EVENT_IDX |
              UINT64_C(1) << VIRTIO_F_VERSION_1;
    v->features = v->transport->features(v) & wanted;
    if (v->legacy)
        v->features &= UINT32_MAX;
    else if (!virtio_has(v, VIRTIO_F_VERSION_1))
        return -ENODEV;
    v->transport->accept(v, v->features);
    if (v->legacy)
        return 0;
    add_status(v, STATUS_FEATURES_OK);
    return v->transport->status(v) & STATUS_FEATURES_OK ? 0 : -ENODEV;
}

void virtio_run(struct virtio *v)
{
    add_status(v, STATUS_DRIVER_OK);
}

void virtio_fail(struct virtio *v)
{
    add_status(v, STATUS_FAILED);
}

uint64_t virtio_config(struct virtio *v, unsigned offset, unsigned bytes)
{
    uint64_t value = 0, again;
    do {
        again = value;
        value = 0;
        for (unsigned i = 0; i < bytes; i++)
            value |= (uint64_t)v->transport->config8(v, offset + i) << 8 * i;
    } while (value != again && again != 0);
    return value;
}

void virtio_found(struct virtio *v)
{
    bool taken = false;
    if (v->type == VIRTIO_DEVICE_BLOCK)
        taken = virtio_blk_start(v);
    else if (v->type == VIRTIO_DEVICE_9P)
        taken = virtio_9p_start(v);
    if (!taken)
        base_free(v);
}

void virtio_setup(void)
{
    print("Scanning PCI bus...\n");
    pci_scan(virtio_pci_found);
    virtio_mmio_scan();
}
