/*
 * virtio-9p: one queue that carries 9P messages: a chain is a message and room for its answer. The
 * mount tag is in the configuration. Answers are looked for briefly, then waited for.
 */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "os/memory/memory.h"
#include "os/os.h"
#include "os/thread/thread.h"
#include "os/vfs/p9.h"
#include "os/virtio/virtio.h"

enum {
    F_MOUNT_TAG = 0,
    CONFIG_TAG_LENGTH = 0,
    CONFIG_TAG = 2,
    RING_SIZE = 128,
    SEGMENTS_MAX = 126,
    MESSAGE_MAX = 480 << 10, /* 120 pages, which may lie apart */
    SPIN_NS = 100000,
};

struct device {
    struct p9_transport transport;
    struct virtio *virtio;
    struct virtqueue *vq;
    char tag[64];
    struct base_mutex lock; /* guards vq */
    struct wait_queue waiters;
};

struct call {
    bool done; /* atomic */
    uint32_t written;
};

static void device_interrupt(void *arg)
{
    struct device *d = arg;
    wait_wake(&d->waiters, UINT32_MAX);
}

/* Pieces of physical memory; how many, or -E2BIG. */
static int add_segments(struct virtio_segment *segments, unsigned n, const struct iovec *iov,
                        unsigned niov, bool device_writes)
{
    for (unsigned i = 0; i < niov; i++)
        for (size_t at = 0; at < iov[i].iov_len;) {
            const char *data = (const char *)iov[i].iov_base + at;
            const uint64_t phys = virt_to_phys(data);
            const size_t len =
                min_u64(iov[i].iov_len - at, PAGE_SIZE - (uint64_t)(uintptr_t)data % PAGE_SIZE);
            at += len;
            struct virtio_segment *last = n ? &segments[n - 1] : NULL;
            if (last && last->device_writes == device_writes && last->phys + last->len == phys) {
                last->len += (uint32_t)len;
                continue;
            }
            if (n == SEGMENTS_MAX)
                return -E2BIG;
            segments[n++] = (struct virtio_segment){phys, (uint32_t)len, device_writes};
        }
    return (int)n;
}

static void collect(struct device *d)
{
    struct call *c;
    uint32_t written;
    bool any = false;
    while ((c = virtqueue_take(d->vq, &written))) {
        c->written = written;
        __atomic_store_n(&c->done, true, __ATOMIC_RELEASE);
        any = true;
    }
    if (any)
        wait_wake(&d->waiters, UINT32_MAX);
}

static void sleep_once(struct device *d, const struct call *c)
{
    bool irq = spin_lock_irq(&d->waiters.lock);
    if (__atomic_load_n(&c->done, __ATOMIC_ACQUIRE) || !virtqueue_arm(d->vq)) {
        spin_unlock_irq(&d->waiters.lock, irq);
        return;
    }
    /* Without an interrupt, or if it went to another who has not looked yet: look again soon. */
    wait_sleep(&d->waiters, base_now_ns() + (d->vq->vector ? 10000000 : 100000), irq);
}

static void wait_for(struct device *d, const struct call *c)
{
    const uint64_t start = base_now_ns();
    while (!__atomic_load_n(&c->done, __ATOMIC_ACQUIRE)) {
        if (virtqueue_pending(d->vq)) {
            base_mutex_lock(&d->lock);
            collect(d);
            base_mutex_unlock(&d->lock);
        } else if (base_now_ns() - start > SPIN_NS) {
            sleep_once(d, c);
        } else if (thread_others_wait()) {
            thread_yield();
        } else {
            cpu_pause();
        }
        if (d->vq->broken)
            panic("virtio-9p at %s: it answered with nonsense", d->virtio->where);
    }
}

static int call(struct p9_transport *t, const struct iovec *out, unsigned nout,
                const struct iovec *in, unsigned nin, uint32_t *got)
{
    struct device *d = container_of(t, struct device, transport);
    struct virtio_segment segments[SEGMENTS_MAX];
    struct call c = {0};
    int n = add_segments(segments, 0, out, nout, false);
    if (n >= 0)
        n = add_segments(segments, (unsigned)n, in, nin, true);
    if (n < 0)
        return n;
    for (;;) {
        base_mutex_lock(&d->lock);
        collect(d);
        if (virtqueue_room(d->vq) >= (unsigned)n)
            break;
        base_mutex_unlock(&d->lock);
        base_sleep_until_ns(base_now_ns() + 100000);
    }
    virtqueue_add(d->vq, segments, (unsigned)n, &c);
    virtqueue_kick(d->vq);
    base_mutex_unlock(&d->lock);
    wait_for(d, &c);
    *got = c.written;
    return 0;
}

bool virtio_9p_start(struct virtio *v)
{
    struct device *d = base_alloc(sizeof(*d));
    if (!d || virtio_start(v, 1 << F_MOUNT_TAG) < 0)
        goto failed;
    const unsigned length = (unsigned)virtio_config(v, CONFIG_TAG_LENGTH, 2);
    if (!length || length >= sizeof(d->tag)) {
        base_log(BASE_LOG_ERROR, "virtio-9p at %s: a mount tag of %u bytes", v->where, length);
        goto failed;
    }
    for (unsigned i = 0; i < length; i++)
        d->tag[i] = (char)v->transport->config8(v, CONFIG_TAG + i);
    d->virtio = v;
    base_mutex_init(&d->lock);
    d->vq = virtqueue_make(v, 0, RING_SIZE, device_interrupt, d, cpus[0]->apic_id);
    if (!d->vq)
        goto failed;
    virtio_run(v);
    d->transport = (struct p9_transport){.tag = d->tag, .max_message = MESSAGE_MAX, .call = call};
    p9_transport_register(&d->transport);
    print("VirtIO 9p share at %s: %s\n", v->where, d->tag);
    return true;
failed:
    virtio_fail(v);
    base_free(d);
    return false;
}
