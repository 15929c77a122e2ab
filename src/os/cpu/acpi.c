/*
 * ACPI tables (ACPI specification 6.4, chapter 5): processors and interrupt controllers (MADT), PCI
 * configuration space (MCFG), how to turn off (FADT). The DSDT is a program; what is needed of it
 * is found by the bytes that its objects begin with, without running it. Everything is checked
 * against the length of its table.
 */
#include <string.h>

#include "base/util.h"
#include "os/memory/memory.h"
#include "os/os.h"

struct acpi acpi = {.local_apic = 0xfee00000};

/* Firmware's tables may lie in memory that is not RAM, above what is mapped. */
static uint64_t reach;

static const uint8_t *at(uint64_t phys, uint64_t size)
{
    return phys && range_ok(phys, size, reach) ? phys_to_virt(phys) : NULL;
}

/* A table by its physical address; NULL if its length or checksum is wrong. */
static const uint8_t *table_at(uint64_t phys, uint32_t *length)
{
    const uint8_t *t = at(phys, 36);
    if (!t)
        return NULL;
    *length = load_le32(t + 4);
    if (*length < 36 || !at(phys, *length))
        return NULL;
    uint8_t sum = 0;
    for (uint32_t i = 0; i < *length; i++)
        sum = (uint8_t)(sum + t[i]);
    return sum ? NULL : t;
}

static void read_madt(const uint8_t *t, uint32_t length)
{
    if (length < 44)
        return;
    acpi.local_apic = load_le32(t + 36);
    for (uint32_t i = 44; i + 2 <= length && t[i + 1] >= 2 && i + t[i + 1] <= length;
         i += t[i + 1]) {
        const uint8_t *e = t + i;
        if (e[0] == 0 && e[1] >= 8 && load_le32(e + 4) & 3 && acpi.cpus < CPU_MAX)
            acpi.apic_ids[acpi.cpus++] = e[3];
        else if (e[0] == 9 && e[1] >= 16 && load_le32(e + 8) & 3 && acpi.cpus < CPU_MAX)
            acpi.apic_ids[acpi.cpus++] = load_le32(e + 4);
        else if (e[0] == 1 && e[1] >= 12 && acpi.io_apic_count < ARRAY_SIZE(acpi.io_apics)) {
            acpi.io_apics[acpi.io_apic_count].address = load_le32(e + 4);
            acpi.io_apics[acpi.io_apic_count++].first_line = load_le32(e + 8);
        } else if (e[0] == 2 && e[1] >= 10 && acpi.override_count < ARRAY_SIZE(acpi.overrides)) {
            acpi.overrides[acpi.override_count].irq = e[3];
            acpi.overrides[acpi.override_count++].line = load_le32(e + 4);
        } else if (e[0] == 5 && e[1] >= 12) {
            acpi.local_apic = load_le64(e + 4);
        }
    }
}

static void read_mcfg(const uint8_t *t, uint32_t length)
{
    if (length < 60)
        return;
    acpi.ecam = load_le64(t + 44);
    acpi.ecam_first = t[54];
    acpi.ecam_last = t[55];
}

/* The first element of the package \_S5: "_S5_" PackageOp, length, count, element. */
static void read_sleep_type(const uint8_t *t, uint32_t length, uint32_t i)
{
    uint32_t value = i + 5 + (t[i + 5] >> 6) + 1 + 1;
    if (value + 1 < length && t[value] == 0x0a)
        value++; /* BytePrefix */
    if (value < length)
        acpi.sleep_type = t[value] & 7;
}

/* Resources of a device of virtio over MMIO (its _HID is LNRO0005): 32-bit fixed memory (6.4.3.4)
 * and an extended interrupt (6.4.3.6), within the bytes that follow. */
static void read_mmio(const uint8_t *t, uint32_t length, uint32_t i)
{
    static const uint8_t memory[3] = {0x86, 9, 0}, interrupt[3] = {0x89, 6, 0};
    uint32_t address = 0, line = 0;
    const uint32_t end = length < i + 128 ? length : i + 128;
    for (; i + 12 <= end && !line; i++)
        if (!memcmp(t + i, memory, 3))
            address = load_le32(t + i + 4);
        else if (address && !memcmp(t + i, interrupt, 3) && t[i + 4] == 1)
            line = load_le32(t + i + 5);
    if (line && acpi.mmio_count < ARRAY_SIZE(acpi.mmio)) {
        acpi.mmio[acpi.mmio_count].address = address;
        acpi.mmio[acpi.mmio_count++].line = line;
    }
}

static void read_dsdt(uint64_t phys)
{
    uint32_t length;
    const uint8_t *t = table_at(phys, &length);
    for (uint32_t i = 36; t && i + 12 <= length; i++)
        if (!memcmp(t + i, "_S5_", 4) && t[i + 4] == 0x12)
            read_sleep_type(t, length, i);
        else if (!memcmp(t + i, "LNRO0005", 8))
            read_mmio(t, length, i + 8);
}

static void read_fadt(const uint8_t *t, uint32_t length)
{
    if (length < 116)
        return;
    acpi.pm1a_port = load_le32(t + 64);
    acpi.pm_timer_port = load_le32(t + 76);
    if (length >= 129 && load_le32(t + 112) & 1u << 10) {
        acpi.reset_space = t[116];
        acpi.reset_register = load_le64(t + 120);
        acpi.reset_value = t[128];
    }
    if (length >= 256)
        acpi.sleep_register = load_le64(t + 248);
    uint64_t dsdt = length >= 148 ? load_le64(t + 140) : 0;
    read_dsdt(dsdt ? dsdt : load_le32(t + 40));
}

static void read_table(uint64_t phys)
{
    uint32_t length;
    const uint8_t *t = table_at(phys, &length);
    if (!t)
        return;
    if (!memcmp(t, "APIC", 4))
        read_madt(t, length);
    else if (!memcmp(t, "MCFG", 4))
        read_mcfg(t, length);
    else if (!memcmp(t, "FACP", 4))
        read_fadt(t, length);
}

static const uint8_t *find_rsdp(void)
{
    for (uint64_t phys = 0xe0000; phys < 0x100000; phys += 16)
        if (!memcmp(phys_to_virt(phys), "RSD PTR ", 8))
            return phys_to_virt(phys);
    return NULL;
}

void acpi_setup(uint64_t rsdp_phys)
{
    reach = UINT64_C(4) << 30; /* boot's tables */
    const uint8_t *rsdp = at(rsdp_phys, 36);
    if (!rsdp || memcmp(rsdp, "RSD PTR ", 8))
        rsdp = find_rsdp();
    if (!rsdp)
        return;
    const bool wide = rsdp[15] >= 2 && load_le64(rsdp + 24);
    uint32_t length;
    const uint8_t *root = table_at(wide ? load_le64(rsdp + 24) : load_le32(rsdp + 16), &length);
    const unsigned size = wide ? 8 : 4;
    for (uint32_t i = 36; root && i + size <= length; i += size)
        read_table(wide ? load_le64(root + i) : load_le32(root + i));
}
