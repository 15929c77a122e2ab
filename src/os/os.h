/* os/os.h: what all rooms of the library OS use: panic, the console, the clock, the command line.
 */
#ifndef OS_OS_H
#define OS_OS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/platform.h"
#include "os/cpu/cpu.h"

/* ---- the end (panic.c, power.c) --------------------------------------------------------- */

enum { EXIT_PANIC = 101 };

/* Print the message, registers and the calls that led here, stop all processors, and leave the
 * machine with status EXIT_PANIC. */
__attribute__((noreturn, format(printf, 1, 2))) void panic(const char *format, ...);
__attribute__((noreturn)) void panic_at(const struct interrupt_frame *frame, const char *why);
/* "page_alloc+0x1c" for an address in the image; "" if it is not. */
const char *symbol_name(uint64_t address, uint64_t *offset);

void power_setup(void);
/* Turn the machine off. A status other than 0 reaches QEMU's exit code through isa-debug-exit, if
 * that is there: (status << 1) | 1. */
__attribute__((noreturn)) void power_off(unsigned status);
__attribute__((noreturn)) void power_reboot(void);

/* ---- console (console.c) ---------------------------------------------------------------- */

void console_setup(void);
void console_setup_interrupt(void);
void console_write(const char *text, size_t n);
__attribute__((format(printf, 1, 2))) void print(const char *format, ...);
/* Wait for input; at most n bytes, at least 1. */
size_t console_read(char *text, size_t n);
void console_drain(void);       /* wait until all output has left */
bool console_interrupted(void); /* Ctrl-C came since the last call */
/* A panic breaks the lock, so that its message comes out. */
void console_break_lock(void);

/* ---- time (clock.c) --------------------------------------------------------------------- */

void clock_setup(void);
uint64_t clock_of_tsc(uint64_t tsc); /* nanoseconds of base_now_ns() */
uint64_t clock_tsc_hz(void);
const char *clock_source(void);
/* Turn a time of base_now_ns() into the counter's value. */
uint64_t clock_to_tsc(uint64_t ns);

/* ---- interrupt controllers (apic.c) ----------------------------------------------------- */

void apic_setup(void); /* first processor */
void apic_setup_cpu(void);
void apic_send(uint32_t apic_id, unsigned vector);
void apic_send_init(uint32_t apic_id);
void apic_send_startup(uint32_t apic_id, unsigned page);
void apic_end(void);
uint32_t apic_id(void);
void apic_calibrate(uint64_t elapsed_ns, uint32_t counted);
uint32_t apic_timer_count(void);
void apic_timer_count_start(void);
/* An interrupt to this processor at that time; UINT64_MAX: none. */
void apic_timer_set(uint64_t when_ns);
/* Connect a line of the I/O APICs; false if there is none that has it. */
bool apic_route(uint32_t line, unsigned vector, bool level);

/* ---- ACPI (acpi.c) ---------------------------------------------------------------------- */

struct acpi {
    uint32_t apic_ids[CPU_MAX];
    unsigned cpus;
    uint64_t local_apic;
    struct {
        uint64_t address;
        uint32_t first_line;
    } io_apics[4];
    unsigned io_apic_count;
    struct {
        uint8_t irq;
        uint32_t line;
    } overrides[16];
    unsigned override_count;
    /* virtio devices that are neither on PCI nor on the command line. */
    struct {
        uint32_t address, line;
    } mmio[32];
    unsigned mmio_count;
    uint64_t ecam;
    uint8_t ecam_first, ecam_last;
    /* Ways to turn off: a port that takes sleep type and enable bit, or registers. */
    uint32_t pm1a_port, pm_timer_port;
    uint8_t sleep_type;
    uint64_t sleep_register;
    uint64_t reset_register;
    uint8_t reset_space, reset_value;
};
extern struct acpi acpi;
void acpi_setup(uint64_t rsdp);

/* ---- other processors (smp.c) ----------------------------------------------------------- */

void smp_setup(void);
void smp_stop_others(void);

/* ---- random (random.c) ------------------------------------------------------------------ */

void random_setup(void);
void random_bytes(void *buffer, size_t n);
const char *random_source(void);

/* ---- command line and image (start.c) --------------------------------------------------- */

extern const char *boot_command_line;
extern const void *boot_initrd;
extern size_t boot_initrd_size;
extern uint64_t boot_ns; /* from the first instruction to the prompt */

/* ---- files (files.c) -------------------------------------------------------------------- */

/* The root with the initramfs in it, /dev, and what vfs.fstab= names. */
void files_setup(void);

#endif
