/* The shell: which command a line means, and what runs at start. */
#include "os/shell/shell.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "os/app/app.h"
#include "os/cmdline.h"
#include "os/memory/memory.h"
#include "os/os.h"
#include "os/vfs/vfs.h"

enum { WORDS_MAX = 64 };

const struct shell_command shell_commands[] = {
    {"help", "", "this list", shell_help},
    {"blkdevs", "", "the disks that were found", shell_blkdevs},
    {"blkinfo", "[DEVICE]", "size, blocks and counts of a disk", shell_blkinfo},
    {"blktest", "[DEVICE]", "read and write a disk here and there, and put it back as it was",
     shell_blktest},
    {"blkperf", "[DEVICE] [MB]", "read so much (50) in requests of 1 MiB", shell_blkperf},
    {"loadmodel", "[DEVICE]", "read a GGUF model from the start of a disk, all of it",
     shell_loadmodel},
    {"bench", "DEVICE [--rw ...] [--json]", "measure a device: the options of `ashlar bench`",
     shell_bench},
    {"csd", "run PROGRAM.o DEVICE [OPTION]...",
     "run an eBPF program beside the data: options of `ashlar csd run`", shell_csd},
    {"ls", "[-l] [PATH]", "the names in a directory", shell_ls},
    {"cat", "PATH...", "what is in files", shell_cat},
    {"mount", "[SOURCE PATH TYPE [OPTIONS]]", "what is mounted, or mount more", shell_mount},
    {"umount", "PATH", "unmount it", shell_umount},
    {"run", "PROGRAM [ARGUMENT]...", "run a static Linux program", shell_run_program},
    {"mem", "", "how much memory there is and is left", shell_mem},
    {"cpus", "", "the processors", shell_cpus},
    {"panic", "[fault|stack|write|execute]", "see what a panic looks like", shell_panic},
    {"reboot", "", "start anew", shell_reboot},
    {"poweroff", "[STATUS]", "turn off; a status other than 0 reaches QEMU's exit code",
     shell_poweroff},
    {0},
};

__attribute__((noreturn)) static void finish(unsigned status)
{
    vfs_fini();
    power_off(status);
}

/* After exec= or app=: `interactive` on the command line goes on with the prompt. */
static void finish_unless_interactive(unsigned status)
{
    if (!cmdline_has(boot_command_line, "interactive"))
        finish(status);
}

int shell_help(unsigned argc, char **argv)
{
    (void)argc;
    (void)argv;
    for (const struct shell_command *c = shell_commands; c->name; c++) {
        const int used = (int)(strlen(c->name) + strlen(c->arguments));
        print("  %s %s%*s %s\n", c->name, c->arguments, used < 35 ? 35 - used : 0, "", c->help);
    }
    return 0;
}

static int run_command(char *command)
{
    char *words[WORDS_MAX];
    const int n = cmdline_words(command, words, WORDS_MAX);
    if (n < 0) {
        print("%s\n", n == -ENOSPC ? "too many words" : "a quote is open");
        return 2;
    }
    if (n == 0)
        return 0;
    for (const struct shell_command *c = shell_commands; c->name; c++)
        if (!strcmp(c->name, words[0]))
            return c->run((unsigned)n, words);
    print("%s: there is no such command; see help\n", words[0]);
    return 127;
}

int shell_run(char *line)
{
    int status = 0;
    for (char *command; (command = cmdline_command(&line));) {
        const int r = run_command(command);
        if (!status)
            status = r;
    }
    return status;
}

void shell_main(void)
{
    static char line[CMDLINE_MAX];
    if (cmdline_get(boot_command_line, "exec", line, sizeof(line)) >= 0)
        finish_unless_interactive((unsigned)shell_run(line));
    if (cmdline_get(boot_command_line, "app", line, sizeof(line)) >= 0) {
        char *words[WORDS_MAX];
        const int n = cmdline_words(line, words, WORDS_MAX);
        if (n <= 0)
            print("app=: which program?\n");
        finish_unless_interactive(n > 0 ? (unsigned)app_run((unsigned)n, words) : 2);
    }
    boot_ns = base_now_ns();
    print("Ready after %lu.%02lu ms; `help` lists the commands.\n", boot_ns / 1000000,
          boot_ns / 10000 % 100);
    for (;;) {
        print("ASHLAR> ");
        if (shell_read_line(line, sizeof(line)))
            shell_run(line);
    }
}

int shell_run_program(unsigned argc, char **argv)
{
    if (argc < 2) {
        print("run PROGRAM [ARGUMENT]...\n");
        return 2;
    }
    const int status = app_run(argc - 1, argv + 1);
    if (status)
        print("%s: status %d\n", argv[1], status);
    return status;
}

/* ---- the machine ------------------------------------------------------------------------ */

int shell_mem(unsigned argc, char **argv)
{
    (void)argc;
    (void)argv;
    struct memory_stats s;
    memory_stats_get(&s);
    print("total %lu KiB, free %lu KiB, used %lu KiB\n", s.total >> 10, s.free >> 10,
          (s.total - s.free) >> 10);
    return 0;
}

int shell_cpus(unsigned argc, char **argv)
{
    (void)argc;
    (void)argv;
    const struct cpu_features *f = &cpu_features;
    print("%s%s%s, clock %lu MHz (%s), up %lu ms\n", f->brand[0] ? f->brand : f->vendor,
          f->hypervisor[0] ? " under " : "", f->hypervisor, clock_tsc_hz() / 1000000,
          clock_source(), base_now_ns() / 1000000);
    for (unsigned i = 0; i < CPU_MAX; i++)
        if (cpus[i])
            print("cpu %u: APIC id %u, %lu switches\n", i, cpus[i]->apic_id, cpus[i]->switches);
    return 0;
}

int shell_poweroff(unsigned argc, char **argv)
{
    unsigned status = 0;
    for (const char *p = argc > 1 ? argv[1] : ""; *p >= '0' && *p <= '9'; p++)
        status = status * 10 + (unsigned)(*p - '0');
    finish((unsigned)min_u64(status, 127));
}

/* Use up the stack: its guard page ends it. */
static unsigned use_stack(unsigned depth)
{
    volatile char part[512];
    part[0] = (char)depth;
    return depth ? use_stack(depth + 1) + (unsigned)part[0] : 0;
}

int shell_panic(unsigned argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "";
    if (!strcmp(how, "fault"))
        *(volatile char *)(uintptr_t)(REGION_END - 1) = 1;
    else if (!strcmp(how, "stack"))
        print("%u\n", use_stack(1));
    else if (!strcmp(how, "write")) /* code is not writable */
        *(volatile char *)(uintptr_t)shell_panic = 1;
    else if (!strcmp(how, "execute")) /* data is not executable */
        ((void (*)(void))(uintptr_t)boot_command_line)();
    panic("as asked");
}

int shell_reboot(unsigned argc, char **argv)
{
    (void)argc;
    (void)argv;
    power_reboot();
}
