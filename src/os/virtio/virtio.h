/*
 * virtio/virtio.h: virtio devices (OASIS "Virtual I/O Device" 1.2) by three transports: PCI modern
 * (4.1), PCI legacy at an I/O port (4.1.4.8 of 1.0), and MMIO of both versions (4.2).
 *
 * A driver sees a struct virtio: it negotiates features, makes its queues, reads its configuration.
 */
#ifndef OS_VIRTIO_H
#define OS_VIRTIO_H

#include <stdbool.h>
#include <stdint.h>

#include "os/virtio/pci.h"

enum {
    VIRTIO_DEVICE_BLOCK = 2,
    VIRTIO_DEVICE_9P = 9,
};
enum {
    VIRTIO_F_INDIRECT_DESC = 28,
    VIRTIO_F_EVENT_IDX = 29,
    VIRTIO_F_VERSION_1 = 32,
};
enum { VIRTIO_QUEUES_MAX = 16 };

struct virtqueue;
struct virtio;

struct virtio_transport {
    uint64_t (*features)(struct virtio *v);
    void (*accept)(struct virtio *v, uint64_t features);
    uint8_t (*status)(struct virtio *v);
    void (*set_status)(struct virtio *v, uint8_t status);
    /* Entries that the device offers for a queue; 0: there is none. */
    uint16_t (*queue_size)(struct virtio *v, unsigned index);
    /* Tell where the rings are; false if the device refuses. */
    bool (*queue_start)(struct virtio *v, struct virtqueue *q);
    uint8_t (*config8)(struct virtio *v, unsigned offset);
};

struct virtio {
    const struct virtio_transport *transport;
    unsigned type; /* VIRTIO_DEVICE_... */
    bool legacy;
    uint64_t features; /* those accepted */
    char where[48];    /* "I/O port 0xc000", "BAR 4", "MMIO 0xfeb00000" */

    struct pci_device pci;
    uint16_t port;               /* PCI legacy */
    volatile uint8_t *registers; /* PCI modern: common configuration; MMIO: all */
    volatile uint8_t *config;    /* PCI modern, MMIO: of the device */
    volatile uint8_t *notify;    /* PCI modern */
    uint32_t notify_multiplier;  /* PCI modern */
    uint32_t line;               /* MMIO: of the I/O APIC */
    unsigned line_vector;        /* MMIO */
    struct virtqueue *queues[VIRTIO_QUEUES_MAX];
};

static inline bool virtio_has(const struct virtio *v, unsigned feature)
{
    return v->features >> feature & 1;
}

/* Reset and negotiate: what both want of `wanted`. 0 or a negative errno. */
int virtio_start(struct virtio *v, uint64_t wanted);
/* Queues are there: the device may run. */
void virtio_run(struct virtio *v);
/* Stop it at once: it forgets all and touches no memory any more. */
void virtio_reset(struct virtio *v);
/* Give up on a device that cannot be driven. */
void virtio_fail(struct virtio *v);
/* Little-endian fields of the device's configuration; stable against changes meanwhile. */
uint64_t virtio_config(struct virtio *v, unsigned offset, unsigned bytes);

/* Look for devices on all transports and give them to their drivers. */
void virtio_setup(void);

/* ---- queues: ring.c --------------------------------------------------------------------- */

struct virtio_segment {
    uint64_t phys;
    uint32_t len;
    bool device_writes;
};

struct virtq_desc {
    uint64_t address;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
};

/*
 * A split ring (2.7). Of the three parts the driver writes desc and avail, the device writes used;
 * all in one run of pages. Guarded by its owner.
 */
struct virtqueue {
    struct virtio *device;
    unsigned index;
    uint16_t size;
    bool indirect, event_index;
    struct virtq_desc *desc;
    volatile uint16_t *avail; /* flags, idx, ring[size], used_event */
    volatile uint16_t *used;  /* flags, idx, struct { u32 id, len } ring[size], avail_event */
    void *memory;
    uint16_t free_first, free_count; /* descriptors, linked by next */
    uint16_t avail_index;            /* what avail->idx holds */
    uint16_t kicked;                 /* avail_index when the device was last told, or looked at */
    uint16_t used_index;             /* the next used entry to take */
    bool broken;                     /* the device wrote nonsense */
    void **cookies;                  /* by first descriptor; NULL: not in flight */
    uint16_t notify_port;            /* PCI legacy */
    volatile void *notify_at;        /* else; 16 bits PCI, 32 bits MMIO */
    bool notify_wide;
    unsigned vector; /* 0: it has no interrupt */
    void (*interrupt)(void *arg);
    void *interrupt_arg;
};

/* Make queue `index` with at most `size` entries and, if interrupt is not NULL, an interrupt to a
 * processor. NULL if the device has none, or there is no memory. */
struct virtqueue *virtqueue_make(struct virtio *v, unsigned index, uint16_t size,
                                 void (*interrupt)(void *arg), void *arg, uint32_t apic_id);
/* After a reset: the rings are empty again, the device is told of them again. What was in flight is
 * forgotten. */
bool virtqueue_restart(struct virtqueue *q);
void virtqueue_free(struct virtqueue *q);

/* Put n segments (n <= virtqueue_room()) into the ring; readable ones first. */
void virtqueue_add(struct virtqueue *q, const struct virtio_segment *segments, unsigned n,
                   void *cookie);
/* Put a table of n descriptors, filled by virtqueue_fill(), into the ring: one entry. */
void virtqueue_add_indirect(struct virtqueue *q, const struct virtq_desc *table, unsigned n,
                            void *cookie);
void virtqueue_fill(struct virtq_desc *table, const struct virtio_segment *segments, unsigned n);
static inline unsigned virtqueue_room(const struct virtqueue *q)
{
    return q->free_count;
}
/* Tell the device of what was added, if it wants to be told. */
void virtqueue_kick(struct virtqueue *q);
/* Take a completion: its cookie and how many bytes the device wrote; NULL if there is none. */
void *virtqueue_take(struct virtqueue *q, uint32_t *written);
static inline bool virtqueue_pending(const struct virtqueue *q)
{
    return q->used[1] != q->used_index;
}
/* Ask for an interrupt at the next completion. False: there is one already. */
bool virtqueue_arm(struct virtqueue *q);
/* No interrupts, please (it may send some). */
void virtqueue_disarm(struct virtqueue *q);

/* ---- transports and drivers ------------------------------------------------------------- */

void virtio_pci_found(const struct pci_device *device);
void virtio_mmio_scan(void);
void virtio_interrupt_connect(struct virtio *v, struct virtqueue *q, uint32_t apic_id);

/* The drivers: true if they took the device. */
bool virtio_blk_start(struct virtio *v);
bool virtio_9p_start(struct virtio *v);
/* Give a device that was found to its driver. */
void virtio_found(struct virtio *v);

#endif
