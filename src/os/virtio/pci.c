/* PCI: configuration space through ECAM if ACPI tells of it, else through I/O ports. */
#include "os/virtio/pci.h"

#include "base/util.h"
#include "os/memory/memory.h"
#include "os/os.h"

enum {
    PORT_ADDRESS = 0xcf8,
    PORT_DATA = 0xcfc,
    REG_COMMAND = 0x04,
    REG_STATUS = 0x06,
    REG_HEADER = 0x0e,
    REG_BAR0 = 0x10,
    REG_SECONDARY_BUS = 0x19,
    REG_SUBSYSTEM = 0x2e,
    REG_CAPABILITIES = 0x34,
    CAP_MSIX = 0x11,
};

static volatile uint32_t *buses[256]; /* ECAM, mapped when a bus is first looked at */
static struct spinlock port_lock;     /* guards the pair of ports */

static volatile uint32_t *ecam_address(const struct pci_device *d, unsigned offset)
{
    if (!acpi.ecam || d->bus < acpi.ecam_first || d->bus > acpi.ecam_last)
        return NULL;
    if (!buses[d->bus])
        buses[d->bus] =
            region_device(acpi.ecam + ((uint64_t)(d->bus - acpi.ecam_first) << 20), 1 << 20);
    if (!buses[d->bus])
        return NULL;
    return buses[d->bus] + ((uint32_t)d->slot << 15 | (uint32_t)d->function << 12 | offset) / 4;
}

static uint32_t port_address(const struct pci_device *d, unsigned offset)
{
    return 1u << 31 | (uint32_t)d->bus << 16 | (uint32_t)d->slot << 11 |
           (uint32_t)d->function << 8 | (offset & 0xfc);
}

uint32_t pci_read32(const struct pci_device *d, unsigned offset)
{
    const volatile uint32_t *at = ecam_address(d, offset);
    if (at)
        return *at;
    bool irq = spin_lock_irq(&port_lock);
    outl(PORT_ADDRESS, port_address(d, offset));
    const uint32_t value = inl(PORT_DATA);
    spin_unlock_irq(&port_lock, irq);
    return value;
}

uint16_t pci_read16(const struct pci_device *d, unsigned offset)
{
    return (uint16_t)(pci_read32(d, offset & ~3u) >> 8 * (offset & 2));
}

uint8_t pci_read8(const struct pci_device *d, unsigned offset)
{
    return (uint8_t)(pci_read32(d, offset & ~3u) >> 8 * (offset & 3));
}

void pci_write32(const struct pci_device *d, unsigned offset, uint32_t value)
{
    volatile uint32_t *at = ecam_address(d, offset);
    if (at) {
        *at = value;
        return;
    }
    bool irq = spin_lock_irq(&port_lock);
    outl(PORT_ADDRESS, port_address(d, offset));
    outl(PORT_DATA, value);
    spin_unlock_irq(&port_lock, irq);
}

void pci_write16(const struct pci_device *d, unsigned offset, uint16_t value)
{
    volatile uint32_t *at = ecam_address(d, offset & ~3u);
    if (at) {
        ((volatile uint16_t *)at)[(offset & 2) / 2] = value;
        return;
    }
    bool irq = spin_lock_irq(&port_lock);
    outl(PORT_ADDRESS, port_address(d, offset));
    outw((uint16_t)(PORT_DATA + (offset & 2)), value);
    spin_unlock_irq(&port_lock, irq);
}

struct pci_region pci_region(const struct pci_device *d, unsigned bar)
{
    const uint32_t low = pci_read32(d, REG_BAR0 + 4 * bar);
    struct pci_region r = {low & 1, 0};
    if (r.io)
        r.base = low & ~3u;
    else if ((low & 6) == 4 && bar < 5)
        r.base = (low & ~15u) | (uint64_t)pci_read32(d, REG_BAR0 + 4 * bar + 4) << 32;
    else
        r.base = low & ~15u;
    return r;
}

void pci_enable(const struct pci_device *d)
{
    pci_write16(d, REG_COMMAND, pci_read16(d, REG_COMMAND) | 7);
}

unsigned pci_capability(const struct pci_device *d, unsigned id, unsigned after)
{
    if (!(pci_read16(d, REG_STATUS) & 0x10))
        return 0;
    unsigned at = pci_read8(d, after ? after + 1 : REG_CAPABILITIES) & 0xfc;
    for (unsigned i = 0; at >= 0x40 && i < 48; i++) { /* a ring of capabilities ends here */
        if (pci_read8(d, at) == id)
            return at;
        at = pci_read8(d, at + 1) & 0xfc;
    }
    return 0;
}

/* ---- MSI-X ------------------------------------------------------------------------------ */

bool pci_msix_enable(struct pci_device *d)
{
    const unsigned at = pci_capability(d, CAP_MSIX, 0);
    if (!at)
        return false;
    const uint16_t control = pci_read16(d, at + 2);
    const uint32_t table = pci_read32(d, at + 4);
    const struct pci_region region = pci_region(d, table & 7);
    if ((table & 7) > 5 || region.io || !region.base)
        return false;
    const unsigned count = (control & 0x7ff) + 1u;
    volatile void *registers = region_device(region.base + (table & ~7u), count * UINT64_C(16));
    if (!registers)
        return false;
    d->msix = registers;
    d->msix_count = count;
    for (unsigned i = 0; i < count; i++)
        d->msix[4 * i + 3] = 1; /* masked */
    pci_write16(d, at + 2, (uint16_t)((control & 0x3fff) | 0x8000));
    return true;
}

void pci_msix_set(const struct pci_device *d, unsigned entry, uint32_t apic, unsigned vector)
{
    volatile uint32_t *e = d->msix + 4 * entry;
    e[3] = 1;
    e[0] = 0xfee00000 | apic << 12;
    e[1] = 0;
    e[2] = vector;
    e[3] = 0;
}

/* ---- scanning --------------------------------------------------------------------------- */

static void scan_bus(unsigned bus, void (*found)(const struct pci_device *device), unsigned depth);

static bool scan_function(struct pci_device *d, void (*found)(const struct pci_device *),
                          unsigned depth)
{
    const uint32_t id = pci_read32(d, 0);
    if ((id & 0xffff) == 0xffff)
        return false;
    d->vendor = (uint16_t)id;
    d->device = (uint16_t)(id >> 16);
    const uint8_t header = pci_read8(d, REG_HEADER) & 0x7f;
    if (header == 1) { /* a bridge; a loop of them ends with depth */
        const uint8_t below = pci_read8(d, REG_SECONDARY_BUS);
        if (below > d->bus && depth < 8)
            scan_bus(below, found, depth + 1);
    } else if (header == 0) {
        d->subsystem = pci_read16(d, REG_SUBSYSTEM);
        found(d);
    }
    return true;
}

static void scan_bus(unsigned bus, void (*found)(const struct pci_device *device), unsigned depth)
{
    for (unsigned slot = 0; slot < 32; slot++) {
        struct pci_device d = {.bus = (uint8_t)bus, .slot = (uint8_t)slot};
        if (!scan_function(&d, found, depth) || !(pci_read8(&d, REG_HEADER) & 0x80))
            continue;
        for (unsigned f = 1; f < 8; f++) {
            d = (struct pci_device){.bus = (uint8_t)bus, .slot = (uint8_t)slot};
            d.function = (uint8_t)f;
            scan_function(&d, found, depth);
        }
    }
}

void pci_scan(void (*found)(const struct pci_device *device))
{
    scan_bus(0, found, 0);
}
