/* virtio over MMIO (4.2): devices that ACPI tells of, or the command line,
 * virtio_mmio.device=SIZE@ADDRESS:LINE.
 * Version 1 is the legacy interface (4.2.4), version 2 the modern one. */
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "os/memory/memory.h"
#include "os/os.h"
#include "os/virtio/virtio.h"

enum {
    MAGIC_VALUE = 0x74726976, /* "virt" */
    REG_MAGIC = 0x00,
    REG_VERSION = 0x04,
    REG_DEVICE = 0x08,
    REG_DEVICE_FEATURES = 0x10,
    REG_DEVICE_FEATURES_SELECT = 0x14,
    REG_DRIVER_FEATURES = 0x20,
    REG_DRIVER_FEATURES_SELECT = 0x24,
    REG_PAGE_SIZE = 0x28, /* version 1 */
    REG_QUEUE_SELECT = 0x30,
    REG_QUEUE_SIZE_MAX = 0x34,
    REG_QUEUE_SIZE = 0x38,
    REG_QUEUE_ALIGN = 0x3c, /* version 1 */
    REG_QUEUE_PAGE = 0x40,  /* version 1 */
    REG_QUEUE_READY = 0x44,
    REG_NOTIFY = 0x50,
    REG_STATUS = 0x70,
    REG_QUEUE_DESC = 0x80,
    REG_QUEUE_AVAIL = 0x90,
    REG_QUEUE_USED = 0xa0,
    REG_CONFIG = 0x100,
    REGISTERS_SIZE = 0x200,
};

static volatile uint32_t *reg(struct virtio *v, unsigned offset)
{
    return (volatile uint32_t *)(volatile void *)(v->registers + offset);
}

static uint64_t mmio_features(struct virtio *v)
{
    *reg(v, REG_DEVICE_FEATURES_SELECT) = 0;
    uint64_t features = *reg(v, REG_DEVICE_FEATURES);
    if (!v->legacy) {
        *reg(v, REG_DEVICE_FEATURES_SELECT) = 1;
        features |= (uint64_t)*reg(v, REG_DEVICE_FEATURES) << 32;
    }
    return features;
}

static void mmio_accept(struct virtio *v, uint64_t features)
{
    *reg(v, REG_DRIVER_FEATURES_SELECT) = 0;
    *reg(v, REG_DRIVER_FEATURES) = (uint32_t)features;
    if (v->legacy) {
        *reg(v, REG_PAGE_SIZE) = 4096;
        return;
    }
    *reg(v, REG_DRIVER_FEATURES_SELECT) = 1;
    *reg(v, REG_DRIVER_FEATURES) = (uint32_t)(features >> 32);
}

static uint8_t mmio_status(struct virtio *v)
{
    return (uint8_t)*reg(v, REG_STATUS);
}

static void mmio_set_status(struct virtio *v, uint8_t status)
{
    *reg(v, REG_STATUS) = status;
}

static uint16_t mmio_queue_size(struct virtio *v, unsigned index)
{
    *reg(v, REG_QUEUE_SELECT) = index;
    return (uint16_t)min_u64(*reg(v, REG_QUEUE_SIZE_MAX), 32768);
}

static void set64(struct virtio *v, unsigned offset, uint64_t value)
{
    *reg(v, offset) = (uint32_t)value;
    *reg(v, offset + 4) = (uint32_t)(value >> 32);
}

static bool mmio_queue_start(struct virtio *v, struct virtqueue *q)
{
    *reg(v, REG_QUEUE_SELECT) = q->index;
    *reg(v, REG_QUEUE_SIZE) = q->size;
    q->notify_at = reg(v, REG_NOTIFY);
    q->notify_wide = true;
    if (v->legacy) {
        const uint64_t page = virt_to_phys(q->memory) / 4096;
        *reg(v, REG_QUEUE_ALIGN) = 4096;
        *reg(v, REG_QUEUE_PAGE) = (uint32_t)page;
        return page <= UINT32_MAX;
    }
    set64(v, REG_QUEUE_DESC, virt_to_phys(q->desc));
    set64(v, REG_QUEUE_AVAIL, virt_to_phys((void *)(uintptr_t)q->avail));
    set64(v, REG_QUEUE_USED, virt_to_phys((void *)(uintptr_t)q->used));
    *reg(v, REG_QUEUE_READY) = 1;
    return true;
}

static uint8_t mmio_config8(struct virtio *v, unsigned offset)
{
    return v->registers[REG_CONFIG + offset];
}

static const struct virtio_transport mmio = {
    mmio_features,   mmio_accept,      mmio_status,  mmio_set_status,
    mmio_queue_size, mmio_queue_start, mmio_config8,
};

static void found(uint64_t address, uint32_t line)
{
    struct virtio *v = base_alloc(sizeof(*v));
    if (!v)
        return;
    v->registers = region_device(address, REGISTERS_SIZE);
    v->transport = &mmio;
    v->line = line;
    snprintf(v->where, sizeof(v->where), "MMIO 0x%lx", address);
    if (!v->registers || *reg(v, REG_MAGIC) != MAGIC_VALUE || *reg(v, REG_VERSION) < 1 ||
        *reg(v, REG_VERSION) > 2) {
        base_log(BASE_LOG_ERROR, "no virtio device at %s", v->where);
        base_free(v);
        return;
    }
    v->legacy = *reg(v, REG_VERSION) == 1;
    v->type = *reg(v, REG_DEVICE);
    if (v->type)
        virtio_found(v);
    else
        base_free(v);
}

static const char *parse(const char *text, uint64_t *value)
{
    unsigned base = 10;
    const char *start = text;
    *value = 0;
    if (text[0] == '0' && text[1] == 'x') {
        base = 16;
        start = text += 2;
    }
    for (;; text++) {
        const char c = *text;
        const unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                               : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                                                      : 99;
        if (digit >= base || *value > UINT64_MAX / 16)
            return text > start ? text : NULL;
        *value = *value * base + digit;
    }
}

void virtio_mmio_scan(void)
{
    for (unsigned i = 0; i < acpi.mmio_count; i++)
        found(acpi.mmio[i].address, acpi.mmio[i].line);
    static const char key[] = "virtio_mmio.device=";
    for (const char *at = boot_command_line; (at = strstr(at, key));) {
        uint64_t size, address = 0, line = 0;
        at += sizeof(key) - 1;
        const char *p = parse(at, &size);
        if (p && (*p == 'K' || *p == 'k'))
            p++;
        p = p && *p == '@' ? parse(p + 1, &address) : NULL;
        p = p && *p == ':' ? parse(p + 1, &line) : NULL;
        if (!p || !address || address % 4 || line > 1023)
            base_log(BASE_LOG_ERROR, "virtio_mmio.device=: not SIZE@ADDRESS:LINE");
        else
            found(address, (uint32_t)line);
    }
}
