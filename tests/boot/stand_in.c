/*
 * A guest that stands in for the unikernel, to test what starts it. It prints its command line on
 * COM1, then does what words in it say; "microvm" among them tells it the machine:
 *
 *     do=status:N   ends with status N
 *     do=poweroff   ends by ACPI, as pc and q35 with SeaBIOS and microvm have it
 *     do=reset      a triple fault
 *     do=hang       never ends
 *     do=initrd     prints the initramfs, then powers off
 *     do=disks      prints the virtio devices it finds, then powers off
 *     do=shell      a prompt that knows: say TEXT, fail (and go on), status N, quit
 *
 * For i386 without paging, started as PVH says (xen/include/public/arch-x86/hvm/start_info.h).
 *
 *     cc -m32 -ffreestanding -fno-pie -fno-stack-protector -nostdlib -static -Wl,--build-id=none \
 *         -Wl,-Ttext-segment=0x100000 -o stand_in.elf stand_in.c
 */
#include <stdbool.h>
#include <stdint.h>

__asm__(".pushsection .note.pvh, \"a\", @note\n"
        ".long 4, 4, 18\n"
        ".asciz \"Xen\"\n"
        ".long start\n"
        ".popsection\n"
        ".globl start\n"
        "start: mov $stack_top, %esp\n"
        "push %ebx\n"
        "call guest\n"
        ".bss\n"
        ".align 16\n"
        ".skip 16384\n"
        "stack_top:\n"
        ".text\n");

enum { COM1 = 0x3f8, DEBUG_EXIT = 0xf4, PM1A_CONTROL = 0x604, GED_SLEEP = 0xfea00200 };

struct start_info {
    uint32_t magic, version, flags, modules;
    uint64_t module_list, cmdline, rsdp;
};
struct module {
    uint64_t address, size, cmdline, reserved;
};

void guest(const struct start_info *info);

static void out8(uint16_t port, uint8_t v)
{
    __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}

static void out16(uint16_t port, uint16_t v)
{
    __asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port));
}

static void out32(uint16_t port, uint32_t v)
{
    __asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port));
}

static uint8_t in8(uint16_t port)
{
    uint8_t v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static uint32_t in32(uint16_t port)
{
    uint32_t v;
    __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static void put(char c)
{
    while (!(in8(COM1 + 5) & 0x20))
        ;
    out8(COM1, (uint8_t)c);
}

static void say(const char *text)
{
    for (; *text; text++)
        put(*text);
}

static void say_hex(uint32_t n)
{
    for (int shift = 28; shift >= 0; shift -= 4)
        put("0123456789abcdef"[n >> shift & 15]);
}

static char get(void)
{
    while (!(in8(COM1 + 5) & 1))
        ;
    return (char)in8(COM1);
}

/* What follows start in text, or NULL: "5" for "status:5" and "status:". */
static const char *after(const char *text, const char *start)
{
    while (*start)
        if (*text++ != *start++)
            return 0;
    return text;
}

static const char *find(const char *text, const char *what)
{
    for (; *text; text++) {
        const char *rest = after(text, what);
        if (rest)
            return rest;
    }
    return 0;
}

static void end(const char *number)
{
    unsigned n = 0;
    while (*number >= '0' && *number <= '9')
        n = n * 10 + (unsigned)(*number++ - '0');
    out8(DEBUG_EXIT, (uint8_t)n);
}

static void power_off(const char *cmdline)
{
    if (find(cmdline, "microvm"))
        *(volatile uint8_t *)GED_SLEEP = 5 << 2 | 1 << 5;
    else
        out16(PM1A_CONTROL, 1 << 13);
}

static void show_initrd(const struct start_info *info)
{
    const struct module *m = (const struct module *)(uintptr_t)info->module_list;
    const char *bytes = (const char *)(uintptr_t)m->address;
    for (uint32_t i = 0; info->modules && i < m->size; i++)
        put(bytes[i]);
}

/* "virtio pci 00:02.0 1001" and its subsystem; "virtio mmio 0 2" and its device number. */
static void show_disks(bool microvm)
{
    for (uint32_t slot = 0; !microvm && slot < 32; slot++) {
        out32(0xcf8, 0x80000000u | slot << 11);
        uint32_t id = in32(0xcfc);
        if ((id & 0xffff) != 0x1af4)
            continue;
        say("virtio pci ");
        say_hex(slot);
        put(' ');
        say_hex(id >> 16);
        put('\n');
    }
    for (uint32_t i = 0; microvm && i < 24; i++) {
        volatile uint32_t *device = (volatile uint32_t *)(uintptr_t)(0xfeb00000u + i * 512);
        if (device[0] != 0x74726976 || !device[2])
            continue;
        say("virtio mmio ");
        say_hex(i);
        put(' ');
        say_hex(device[2]);
        say(" version ");
        say_hex(device[1]);
        put('\n');
    }
}

static void read_line(char *line, unsigned size)
{
    unsigned len = 0;
    for (char c; (c = get()) != '\n' && c != '\r';) {
        put(c);
        if (len + 1 < size)
            line[len++] = c;
    }
    line[len] = '\0';
    say("\r\n");
}

static void shell(void)
{
    char line[128];
    const char *rest;
    for (;;) {
        say("ASHLAR> ");
        read_line(line, sizeof(line));
        if (after(line, "quit"))
            return;
        if ((rest = after(line, "say ")))
            say(rest), say("\r\n");
        else if ((rest = after(line, "status ")))
            end(rest);
        else
            say("unknown command\r\n");
    }
}

static void triple_fault(void)
{
    static const struct {
        uint16_t limit;
        uint32_t base;
    } __attribute__((packed)) none = {0, 0};
    __asm__ volatile("lidt %0; int3" : : "m"(none));
}

void guest(const struct start_info *info)
{
    const char *cmdline = (const char *)(uintptr_t)info->cmdline;
    const char *what = find(cmdline, "do=");
    say("cmdline: ");
    say(cmdline);
    put('\n');
    if (!what || after(what, "hang"))
        for (;;)
            __asm__ volatile("hlt");
    if (after(what, "status:"))
        end(after(what, "status:"));
    if (after(what, "reset"))
        triple_fault();
    if (after(what, "initrd"))
        show_initrd(info);
    if (after(what, "disks"))
        show_disks(find(cmdline, "microvm"));
    if (after(what, "shell"))
        shell();
    power_off(cmdline);
    for (;;)
        __asm__ volatile("hlt");
}
