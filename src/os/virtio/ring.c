/* Split rings: see virtio.h. */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "os/memory/memory.h"
#include "os/os.h"
#include "os/virtio/virtio.h"

enum {
    DESC_NEXT = 1,
    DESC_WRITE = 2,
    DESC_INDIRECT = 4,
    AVAIL_NO_INTERRUPT = 1,
    USED_NO_NOTIFY = 1,
    RING_ALIGN = 4096,
};

static inline void barrier(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void clear(struct virtqueue *q)
{
    memset(q->desc, 0, 16 * (size_t)q->size);
    for (uint16_t i = 0; i < q->size; i++) {
        q->desc[i].next = (uint16_t)(i + 1);
        q->cookies[i] = NULL;
    }
    memset((void *)(uintptr_t)q->avail, 0, 6 + 2 * (size_t)q->size);
    memset((void *)(uintptr_t)q->used, 0, 6 + 8 * (size_t)q->size);
    q->free_first = 0;
    q->free_count = q->size;
    q->avail_index = q->kicked = q->used_index = 0;
    q->broken = false;
    virtqueue_disarm(q);
}

struct virtqueue *virtqueue_make(struct virtio *v, unsigned index, uint16_t size,
                                 void (*interrupt)(void *arg), void *arg, uint32_t apic)
{
    const uint16_t offered = v->transport->queue_size(v, index);
    if (!offered || index >= VIRTIO_QUEUES_MAX)
        return NULL;
    if (v->legacy || offered < size)
        size = offered; /* a legacy device decides alone */
    if (!is_pow2(size))
        return NULL;
    struct virtqueue *q = base_alloc(sizeof(*q));
    const size_t head = round_up(16 * (size_t)size + 6 + 2 * (size_t)size, RING_ALIGN);
    const size_t bytes = head + 6 + 8 * (size_t)size;
    if (q) {
        q->memory = base_alloc_aligned(RING_ALIGN, bytes);
        q->cookies = base_alloc_array(size, sizeof(void *));
    }
    if (!q || !q->memory || !q->cookies) {
        virtqueue_free(q);
        return NULL;
    }
    q->device = v;
    q->index = index;
    q->size = size;
    q->indirect = virtio_has(v, VIRTIO_F_INDIRECT_DESC);
    q->event_index = virtio_has(v, VIRTIO_F_EVENT_IDX);
    q->desc = q->memory;
    q->avail = (volatile uint16_t *)(void *)((char *)q->memory + 16 * (size_t)size);
    q->used = (volatile uint16_t *)(void *)((char *)q->memory + head);
    q->interrupt = interrupt;
    q->interrupt_arg = arg;
    clear(q);
    if (interrupt)
        virtio_interrupt_connect(v, q, apic);
    if (!v->transport->queue_start(v, q)) {
        virtqueue_free(q);
        return NULL;
    }
    v->queues[index] = q;
    return q;
}

bool virtqueue_restart(struct virtqueue *q)
{
    clear(q);
    return q->device->transport->queue_start(q->device, q);
}

void virtqueue_free(struct virtqueue *q)
{
    if (!q)
        return;
    base_free(q->memory);
    base_free(q->cookies);
    base_free(q);
}

/* ---- adding ----------------------------------------------------------------------------- */

static void publish(struct virtqueue *q, uint16_t first, void *cookie)
{
    q->cookies[first] = cookie;
    q->avail[2 + (q->avail_index & (q->size - 1))] = first;
    __atomic_thread_fence(__ATOMIC_RELEASE);
    q->avail[1] = ++q->avail_index;
}

void virtqueue_add(struct virtqueue *q, const struct virtio_segment *segments, unsigned n,
                   void *cookie)
{
    const uint16_t first = q->free_first;
    uint16_t at = first;
    for (unsigned i = 0; i < n; i++) {
        struct virtq_desc *d = &q->desc[at];
        d->address = segments[i].phys;
        d->len = segments[i].len;
        d->flags =
            (uint16_t)((segments[i].device_writes ? DESC_WRITE : 0) | (i + 1 < n ? DESC_NEXT : 0));
        at = d->next;
    }
    q->free_first = at;
    q->free_count = (uint16_t)(q->free_count - n);
    publish(q, first, cookie);
}

void virtqueue_fill(struct virtq_desc *table, const struct virtio_segment *segments, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        table[i].address = segments[i].phys;
        table[i].len = segments[i].len;
        table[i].flags =
            (uint16_t)((segments[i].device_writes ? DESC_WRITE : 0) | (i + 1 < n ? DESC_NEXT : 0));
        table[i].next = (uint16_t)(i + 1);
    }
}

void virtqueue_add_indirect(struct virtqueue *q, const struct virtq_desc *table, unsigned n,
                            void *cookie)
{
    const uint16_t first = q->free_first;
    struct virtq_desc *d = &q->desc[first];
    q->free_first = d->next;
    q->free_count--;
    d->address = virt_to_phys(table);
    d->len = n * 16;
    d->flags = DESC_INDIRECT;
    publish(q, first, cookie);
}

void virtqueue_kick(struct virtqueue *q)
{
    if (q->kicked == q->avail_index)
        return;
    barrier();
    bool wanted;
    if (q->event_index) {
        const uint16_t event = q->used[2 + 4 * q->size];
        wanted = (uint16_t)(q->avail_index - event - 1) < (uint16_t)(q->avail_index - q->kicked);
    } else {
        wanted = !(q->used[0] & USED_NO_NOTIFY);
    }
    q->kicked = q->avail_index;
    if (!wanted)
        return;
    if (q->notify_wide)
        *(volatile uint32_t *)q->notify_at = q->index;
    else if (q->notify_at)
        *(volatile uint16_t *)q->notify_at = (uint16_t)q->index;
    else
        outw(q->notify_port, (uint16_t)q->index);
}

/* ---- taking ----------------------------------------------------------------------------- */

static void free_chain(struct virtqueue *q, uint16_t first)
{
    uint16_t last = first, n = 1;
    while (!(q->desc[last].flags & DESC_INDIRECT) && q->desc[last].flags & DESC_NEXT) {
        last = q->desc[last].next;
        n++;
    }
    q->desc[last].next = q->free_first;
    q->free_first = first;
    q->free_count = (uint16_t)(q->free_count + n);
}

void *virtqueue_take(struct virtqueue *q, uint32_t *written)
{
    if (!virtqueue_pending(q) || q->broken)
        return NULL;
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    const volatile uint32_t *entry =
        (const volatile uint32_t *)(const volatile void *)(q->used + 2) +
        2 * (q->used_index & (q->size - 1));
    const uint32_t id = entry[0];
    if (written)
        *written = entry[1];
    if (id >= q->size || !q->cookies[id]) {
        q->broken = true;
        base_log(BASE_LOG_ERROR, "virtio at %s: queue %u: a completion of nothing (%u)",
                 q->device->where, q->index, id);
        return NULL;
    }
    void *cookie = q->cookies[id];
    q->cookies[id] = NULL;
    q->used_index++;
    free_chain(q, (uint16_t)id);
    return cookie;
}

bool virtqueue_arm(struct virtqueue *q)
{
    if (q->event_index)
        q->avail[2 + q->size] = q->used_index;
    else
        q->avail[0] = 0;
    barrier();
    return !virtqueue_pending(q);
}

void virtqueue_disarm(struct virtqueue *q)
{
    if (q->event_index)
        q->avail[2 + q->size] = (uint16_t)(q->used_index - 1); /* 65535 completions away */
    else
        q->avail[0] = AVAIL_NO_INTERRUPT;
}
