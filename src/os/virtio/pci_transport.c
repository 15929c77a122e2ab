/* virtio over PCI: modern devices have capabilities that tell where their registers are, legacy
 * ones have them at an I/O port. A transitional device has both; the modern way is taken. */
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "os/memory/memory.h"
#include "os/os.h"
#include "os/virtio/virtio.h"

enum {
    VENDOR = 0x1af4,
    CAP_VENDOR = 0x09,
    CFG_COMMON = 1,
    CFG_NOTIFY = 2,
    CFG_DEVICE = 4,
    NO_VECTOR = 0xffff,
};

/* ---- interrupts ------------------------------------------------------------------------- */

/* Message i + 1 is of queue i; message 0, of configuration changes, is not used. */
static void connect_msix(struct virtio *v, struct virtqueue *q, uint32_t apic)
{
    if (!v->pci.msix || q->index + 1 >= v->pci.msix_count)
        return;
    q->vector = interrupt_alloc(q->interrupt, q->interrupt_arg);
    if (q->vector)
        pci_msix_set(&v->pci, q->index + 1, apic, q->vector);
}

static void line_interrupt(void *arg)
{
    struct virtio *v = arg;
    volatile uint32_t *registers = (volatile uint32_t *)(volatile void *)v->registers;
    registers[0x64 / 4] = registers[0x60 / 4]; /* acknowledge */
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
        if (v->queues[i] && v->queues[i]->interrupt)
            v->queues[i]->interrupt(v->queues[i]->interrupt_arg);
}

void virtio_interrupt_connect(struct virtio *v, struct virtqueue *q, uint32_t apic)
{
    if (!v->line) {
        connect_msix(v, q, apic);
        return;
    }
    if (!v->line_vector) {
        v->line_vector = interrupt_alloc(line_interrupt, v);
        if (v->line_vector && !apic_route(v->line, v->line_vector, false)) {
            interrupt_free(v->line_vector);
            v->line_vector = 0;
        }
    }
    q->vector = v->line_vector;
}

/* ---- modern: virtio_pci_common_cfg (4.1.4.3) -------------------------------------------- */

enum {
    COMMON_DEVICE_FEATURE_SELECT = 0,
    COMMON_DEVICE_FEATURE = 4,
    COMMON_DRIVER_FEATURE_SELECT = 8,
    COMMON_DRIVER_FEATURE = 12,
    COMMON_STATUS = 20,
    COMMON_QUEUE_SELECT = 22,
    COMMON_QUEUE_SIZE = 24,
    COMMON_QUEUE_VECTOR = 26,
    COMMON_QUEUE_ENABLE = 28,
    COMMON_QUEUE_NOTIFY_OFF = 30,
    COMMON_QUEUE_DESC = 32,
    COMMON_QUEUE_AVAIL = 40,
    COMMON_QUEUE_USED = 48,
};

static volatile uint32_t *reg32(struct virtio *v, unsigned offset)
{
    return (volatile uint32_t *)(volatile void *)(v->registers + offset);
}
static volatile uint16_t *reg16(struct virtio *v, unsigned offset)
{
    return (volatile uint16_t *)(volatile void *)(v->registers + offset);
}

static uint64_t modern_features(struct virtio *v)
{
    *reg32(v, COMMON_DEVICE_FEATURE_SELECT) = 0;
    const uint64_t low = *reg32(v, COMMON_DEVICE_FEATURE);
    *reg32(v, COMMON_DEVICE_FEATURE_SELECT) = 1;
    return low | (uint64_t)*reg32(v, COMMON_DEVICE_FEATURE) << 32;
}

static void modern_accept(struct virtio *v, uint64_t features)
{
    *reg32(v, COMMON_DRIVER_FEATURE_SELECT) = 0;
    *reg32(v, COMMON_DRIVER_FEATURE) = (uint32_t)features;
    *reg32(v, COMMON_DRIVER_FEATURE_SELECT) = 1;
    *reg32(v, COMMON_DRIVER_FEATURE) = (uint32_t)(features >> 32);
}

static uint8_t modern_status(struct virtio *v)
{
    return v->registers[COMMON_STATUS];
}

static void modern_set_status(struct virtio *v, uint8_t status)
{
    v->registers[COMMON_STATUS] = status;
}

static uint16_t modern_queue_size(struct virtio *v, unsigned index)
{
    *reg16(v, COMMON_QUEUE_SELECT) = (uint16_t)index;
    return *reg16(v, COMMON_QUEUE_SELECT) == index ? *reg16(v, COMMON_QUEUE_SIZE) : 0;
}

static void set64(struct virtio *v, unsigned offset, uint64_t value)
{
    *reg32(v, offset) = (uint32_t)value;
    *reg32(v, offset + 4) = (uint32_t)(value >> 32);
}

static bool modern_queue_start(struct virtio *v, struct virtqueue *q)
{
    *reg16(v, COMMON_QUEUE_SELECT) = (uint16_t)q->index;
    *reg16(v, COMMON_QUEUE_SIZE) = q->size;
    const uint16_t message = q->vector ? (uint16_t)(q->index + 1) : NO_VECTOR;
    *reg16(v, COMMON_QUEUE_VECTOR) = message;
    if (*reg16(v, COMMON_QUEUE_VECTOR) != message)
        return false;
    set64(v, COMMON_QUEUE_DESC, virt_to_phys(q->desc));
    set64(v, COMMON_QUEUE_AVAIL, virt_to_phys((void *)(uintptr_t)q->avail));
    set64(v, COMMON_QUEUE_USED, virt_to_phys((void *)(uintptr_t)q->used));
    q->notify_at = v->notify + *reg16(v, COMMON_QUEUE_NOTIFY_OFF) * (uint64_t)v->notify_multiplier;
    *reg16(v, COMMON_QUEUE_ENABLE) = 1;
    return true;
}

static uint8_t modern_config8(struct virtio *v, unsigned offset)
{
    return v->config ? v->config[offset] : 0;
}

static const struct virtio_transport modern = {
    modern_features,   modern_accept,      modern_status,  modern_set_status,
    modern_queue_size, modern_queue_start, modern_config8,
};

/* The region that a capability describes (4.1.4), mapped; NULL if it makes no sense. */
static volatile uint8_t *map_capability(struct virtio *v, unsigned at)
{
    const unsigned bar = pci_read8(&v->pci, at + 4);
    const uint32_t offset = pci_read32(&v->pci, at + 8);
    const uint32_t length = pci_read32(&v->pci, at + 12);
    if (bar > 5 || !length || length > 1u << 24)
        return NULL;
    const struct pci_region r = pci_region(&v->pci, bar);
    if (r.io || !r.base)
        return NULL;
    if (pci_read8(&v->pci, at + 3) == CFG_COMMON)
        snprintf(v->where, sizeof(v->where), "BAR %u", bar);
    return region_device(r.base + offset, length);
}

static bool find_modern(struct virtio *v)
{
    for (unsigned at = pci_capability(&v->pci, CAP_VENDOR, 0); at;
         at = pci_capability(&v->pci, CAP_VENDOR, at)) {
        const unsigned kind = pci_read8(&v->pci, at + 3);
        if (kind == CFG_COMMON && !v->registers)
            v->registers = map_capability(v, at);
        else if (kind == CFG_DEVICE && !v->config)
            v->config = map_capability(v, at);
        else if (kind == CFG_NOTIFY && !v->notify) {
            v->notify = map_capability(v, at);
            v->notify_multiplier = pci_read32(&v->pci, at + 16);
        }
    }
    v->transport = &modern;
    return v->registers && v->notify;
}

/* ---- legacy ----------------------------------------------------------------------------- */

enum {
    LEGACY_DEVICE_FEATURES = 0,
    LEGACY_DRIVER_FEATURES = 4,
    LEGACY_QUEUE_ADDRESS = 8,
    LEGACY_QUEUE_SIZE = 12,
    LEGACY_QUEUE_SELECT = 14,
    LEGACY_QUEUE_NOTIFY = 16,
    LEGACY_STATUS = 18,
    LEGACY_QUEUE_VECTOR = 22, /* with MSI-X on */
    LEGACY_CONFIG = 20,       /* 24 with MSI-X on */
};

static uint16_t port(const struct virtio *v, unsigned offset)
{
    return (uint16_t)(v->port + offset);
}

static uint64_t legacy_features(struct virtio *v)
{
    return inl(port(v, LEGACY_DEVICE_FEATURES));
}

static void legacy_accept(struct virtio *v, uint64_t features)
{
    outl(port(v, LEGACY_DRIVER_FEATURES), (uint32_t)features);
}

static uint8_t legacy_status(struct virtio *v)
{
    return inb(port(v, LEGACY_STATUS));
}

static void legacy_set_status(struct virtio *v, uint8_t status)
{
    outb(port(v, LEGACY_STATUS), status);
}

static uint16_t legacy_queue_size(struct virtio *v, unsigned index)
{
    outw(port(v, LEGACY_QUEUE_SELECT), (uint16_t)index);
    return inw(port(v, LEGACY_QUEUE_SIZE));
}

static bool legacy_queue_start(struct virtio *v, struct virtqueue *q)
{
    outw(port(v, LEGACY_QUEUE_SELECT), (uint16_t)q->index);
    if (v->pci.msix) {
        const uint16_t message = q->vector ? (uint16_t)(q->index + 1) : NO_VECTOR;
        outw(port(v, LEGACY_QUEUE_VECTOR), message);
        if (inw(port(v, LEGACY_QUEUE_VECTOR)) != message)
            return false;
    }
    q->notify_port = port(v, LEGACY_QUEUE_NOTIFY);
    const uint64_t page = virt_to_phys(q->memory) / 4096;
    outl(port(v, LEGACY_QUEUE_ADDRESS), (uint32_t)page);
    return page <= UINT32_MAX;
}

static uint8_t legacy_config8(struct virtio *v, unsigned offset)
{
    return inb(port(v, LEGACY_CONFIG + (v->pci.msix ? 4 : 0) + offset));
}

static const struct virtio_transport legacy = {
    legacy_features,   legacy_accept,      legacy_status,  legacy_set_status,
    legacy_queue_size, legacy_queue_start, legacy_config8,
};

static bool find_legacy(struct virtio *v)
{
    const struct pci_region r = pci_region(&v->pci, 0);
    if (!r.io || !r.base)
        return false;
    v->legacy = true;
    v->port = (uint16_t)r.base;
    v->transport = &legacy;
    snprintf(v->where, sizeof(v->where), "I/O port 0x%x", v->port);
    return true;
}

/* ---- finding ---------------------------------------------------------------------------- */

void virtio_pci_found(const struct pci_device *d)
{
    if (d->vendor != VENDOR || d->device < 0x1000 || d->device > 0x107f)
        return;
    struct virtio *v = base_alloc(sizeof(*v));
    if (!v)
        return;
    v->pci = *d;
    v->type = d->device >= 0x1040 ? d->device - 0x1040u : d->subsystem;
    pci_enable(d);
    if (!find_modern(v) && (d->device >= 0x1040 || !find_legacy(v))) {
        base_log(BASE_LOG_ERROR, "virtio device at PCI %02x:%02x.%x: no registers", d->bus, d->slot,
                 d->function);
        base_free(v);
        return;
    }
    pci_msix_enable(&v->pci);
    virtio_found(v);
}
