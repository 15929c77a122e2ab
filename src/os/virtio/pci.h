/* virtio/pci.h: PCI functions: configuration space, regions, MSI-X (PCI Local Bus 3.0, 6.8.2). */
#ifndef OS_PCI_H
#define OS_PCI_H

#include <stdbool.h>
#include <stdint.h>

struct pci_device {
    uint8_t bus, slot, function;
    uint16_t vendor, device;
    uint16_t subsystem;
    volatile uint32_t *msix; /* NULL: it has none, or is not enabled */
    unsigned msix_count;
};

/* Call found() for each function of each bus. */
void pci_scan(void (*found)(const struct pci_device *device));

uint8_t pci_read8(const struct pci_device *d, unsigned offset);
uint16_t pci_read16(const struct pci_device *d, unsigned offset);
uint32_t pci_read32(const struct pci_device *d, unsigned offset);
void pci_write16(const struct pci_device *d, unsigned offset, uint16_t value);
void pci_write32(const struct pci_device *d, unsigned offset, uint32_t value);

struct pci_region {
    bool io;
    uint64_t base; /* a port, or a physical address; 0: there is none */
};
struct pci_region pci_region(const struct pci_device *d, unsigned bar);
/* Let it decode its regions and write to memory. */
void pci_enable(const struct pci_device *d);
/* The capability with this id after the one at `after` (0: the first); 0 if there is none. */
unsigned pci_capability(const struct pci_device *d, unsigned id, unsigned after);

/* Find and switch on MSI-X, all vectors masked. False: polling is all there is. */
bool pci_msix_enable(struct pci_device *d);
/* Message `entry` is vector `vector` of a processor. */
void pci_msix_set(const struct pci_device *d, unsigned entry, uint32_t apic_id, unsigned vector);

#endif
