/* The serial console: COM1, a 16550A. Output waits for its FIFO; input arrives by interrupt. */
#include <stdio.h>
#include <string.h>

#include "os/os.h"
#include "os/thread/thread.h"

enum {
    COM1 = 0x3f8,
    COM1_LINE = 4,
    REG_DATA = COM1,
    REG_INTERRUPTS = COM1 + 1,
    REG_FIFO = COM1 + 2,
    REG_LINE = COM1 + 3,
    REG_MODEM = COM1 + 4,
    REG_STATUS = COM1 + 5,
    STATUS_READY = 0x01,
    STATUS_EMPTY = 0x20,
    STATUS_SENT = 0x40,
    FIFO_SIZE = 16,
    INPUT_SIZE = 4096, /* a power of two */
};

static struct spinlock output_lock;

/* Input that nobody has read. head and tail only grow; guarded by waiters.lock. */
static struct {
    struct wait_queue waiters;
    uint64_t head, tail;
    bool interrupted;
    bool polled; /* there is no interrupt */
    char text[INPUT_SIZE];
} input;

void console_setup(void)
{
    outb(REG_INTERRUPTS, 0);
    outb(REG_LINE, 0x80); /* the divisor: 115200 baud */
    outb(REG_DATA, 1);
    outb(REG_INTERRUPTS, 0);
    outb(REG_LINE, 0x03); /* 8 bits, no parity, 1 stop bit */
    outb(REG_FIFO, 0xc7);
    outb(REG_MODEM, 0x0b);
}

static void take_input(void)
{
    bool irq = spin_lock_irq(&input.waiters.lock);
    while (inb(REG_STATUS) & STATUS_READY) {
        const char c = (char)inb(REG_DATA);
        if (c == 3)
            input.interrupted = true;
        if (input.head - input.tail < INPUT_SIZE)
            input.text[input.head++ % INPUT_SIZE] = c;
    }
    wait_wake_locked(&input.waiters, UINT32_MAX);
    spin_unlock_irq(&input.waiters.lock, irq);
}

static void input_interrupt(void *arg)
{
    (void)arg;
    take_input();
}

void console_setup_interrupt(void)
{
    unsigned vector = interrupt_alloc(input_interrupt, NULL);
    input.polled = !vector || !apic_route(COM1_LINE, vector, false);
    outb(REG_INTERRUPTS, input.polled ? 0 : 1);
    take_input();
}

static void put_all(const char *text, size_t n)
{
    size_t room = 0;
    for (size_t i = 0; i < n; i++) {
        while (!room)
            room = inb(REG_STATUS) & STATUS_EMPTY ? FIFO_SIZE : 0;
        room--;
        outb(REG_DATA, (uint8_t)text[i]);
    }
}

void console_write(const char *text, size_t n)
{
    bool irq = spin_lock_irq(&output_lock);
    while (n) {
        const char *line = memchr(text, '\n', n);
        const size_t len = line ? (size_t)(line - text) : n;
        put_all(text, len);
        if (line)
            put_all("\r\n", 2);
        text += len + (line != NULL);
        n -= len + (line != NULL);
    }
    spin_unlock_irq(&output_lock, irq);
}

void console_drain(void)
{
    for (unsigned i = 0; i < 1000000 && !(inb(REG_STATUS) & STATUS_SENT); i++)
        cpu_pause();
}

void console_break_lock(void)
{
    spin_unlock(&output_lock);
}

void print(const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    console_write(text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

size_t console_read(char *text, size_t n)
{
    bool irq = spin_lock_irq(&input.waiters.lock);
    while (input.head == input.tail) {
        wait_sleep(&input.waiters, input.polled ? base_now_ns() + 10000000 : UINT64_MAX, irq);
        if (input.polled)
            take_input();
        irq = spin_lock_irq(&input.waiters.lock);
    }
    size_t got = 0;
    while (got < n && input.tail != input.head)
        text[got++] = input.text[input.tail++ % INPUT_SIZE];
    spin_unlock_irq(&input.waiters.lock, irq);
    return got;
}

bool console_interrupted(void)
{
    bool irq = spin_lock_irq(&input.waiters.lock);
    const bool was = input.interrupted;
    input.interrupted = false;
    spin_unlock_irq(&input.waiters.lock, irq);
    return was;
}
