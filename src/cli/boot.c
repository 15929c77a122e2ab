/* ashlar boot */
#include "cli/boot.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"

#define MIB            (UINT64_C(1) << 20)
#define DEFAULT_MEMORY (256 * MIB)
#define LEAST_MEMORY   (8 * MIB)

/* ---- words and files ------------------------------------------------------------------- */

void boot_word(struct boot *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (b->words == BOOT_MAX_WORDS || vasprintf(&b->word[b->words], format, args) < 0)
        b->no_memory = true;
    else
        b->words++;
    va_end(args);
}

void boot_device_name(const struct boot *b, const char *name, char *out, size_t size)
{
    /* Without a place, microvm's transports would be filled from the last one on. */
    if (b->microvm)
        snprintf(out, size, "%s-device,bus=virtio-mmio-bus.%u", name, 23 - (b->disks + b->shares));
    else
        snprintf(out, size, "%s-pci", name);
}

int boot_make_folder(struct boot *b)
{
    const char *parent = getenv("TMPDIR");
    if (b->folder_made)
        return CLI_OK;
    int len = snprintf(b->folder, sizeof(b->folder), "%s/ashlar-boot-XXXXXX",
                       parent && *parent ? parent : "/tmp");
    if (b->print)
        return CLI_OK;
    if (len >= (int)sizeof(b->folder) || !mkdtemp(b->folder))
        return cli_failed(b->cli, "%s: %s", b->folder, strerror(errno));
    b->folder_made = true;
    return CLI_OK;
}

static void remove_files(struct boot *b)
{
    if (b->initrd_made)
        unlink(b->initrd);
    if (b->folder_made)
        rmdir(b->folder);
}

/* ---- the image ------------------------------------------------------------------------- */

static bool is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, R_OK) == 0;
}

static int given_image(struct boot *b, const char *path, const char *by, char *out, size_t size)
{
    if (!is_file(path))
        return cli_failed(b->cli, "no unikernel image at %s, which %s names", path, by);
    snprintf(out, size, "%s", path);
    return CLI_OK;
}

static int find_image(struct boot *b, char *out, size_t size)
{
    static const char *const places[] = {"ashlar.elf", "../lib/ashlar/ashlar.elf"};
    char self[PATH_MAX];
    const char *path = cli_text(b->cli, "image", NULL);
    if (path)
        return given_image(b, path, "--image", out, size);
    path = getenv("ASHLAR_IMAGE");
    if (path && *path)
        return given_image(b, path, "ASHLAR_IMAGE", out, size);
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    self[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(self, '/');
    if (slash)
        slash[1] = '\0';
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        snprintf(out, size, "%s%s", self, places[i]);
        if (is_file(out))
            return CLI_OK;
    }
    return cli_failed(b->cli,
                      "no unikernel image: neither %s%s nor %s%s is there; name one with "
                      "--image or ASHLAR_IMAGE",
                      self, places[0], self, places[1]);
}

/* ---- the kernel command line ----------------------------------------------------------- */

/* --app and the operands behind it, as one command. */
static int app_command(struct boot *b, char *out, size_t size)
{
    const char *program = cli_text(b->cli, "app", "");
    char name[PATH_MAX];
    const char *slash = strrchr(program, '/');
    bool inside = cli_text(b->cli, "initrd", NULL);
    snprintf(name, sizeof(name), "%s%s", inside ? "" : "/bin/",
             inside || !slash ? program : slash + 1);
    int error = cmdline_add_word(out, size, name);
    for (unsigned i = 0; error == 0 && i < b->cli->operand_count; i++)
        error = cmdline_add_word(out, size, b->cli->operand[i]);
    return error;
}

static int make_line(struct boot *b)
{
    const char *exec = cli_text(b->cli, "exec", NULL);
    const char *append = cli_text(b->cli, "append", "");
    char app[CMDLINE_MAX] = "";
    int error = cmdline_add(b->line, sizeof(b->line), "console", "ttyS0");
    if (!error && *b->fstab)
        error = cmdline_add_list(b->line, sizeof(b->line), "vfs.fstab", b->fstab);
    if (!error && exec)
        error = cmdline_add(b->line, sizeof(b->line), "exec", exec);
    if (!error && cli_text(b->cli, "app", NULL)) {
        error = app_command(b, app, sizeof(app));
        error = error ? error : cmdline_add(b->line, sizeof(b->line), "app", app);
    }
    if (!error && cli_flag(b->cli, "interactive"))
        error = cmdline_add(b->line, sizeof(b->line), "interactive", NULL);
    size_t len = strlen(b->line);
    if (!error && len + 1 + strlen(append) >= sizeof(b->line))
        error = -ENOSPC;
    if (error)
        return cli_usage(b->cli, "the kernel command line is over %d bytes", CMDLINE_MAX - 1);
    if (cmdline_check(append) < 0)
        return cli_usage(b->cli,
                         "--append: a quote or bracket does not end, or is followed by "
                         "something else than a blank: %s",
                         append);
    if (*append)
        snprintf(b->line + len, sizeof(b->line) - len, " %s", append);
    return CLI_OK;
}

/* ---- QEMU's command line --------------------------------------------------------------- */

static int add_machine(struct boot *b)
{
    uint64_t memory = cli_number(b->cli, "memory", DEFAULT_MEMORY);
    const char *machine = cli_text(b->cli, "machine", "q35");
    if (memory < LEAST_MEMORY || memory > UINT64_C(1) << 46)
        return cli_usage(b->cli, "--memory must be from 8M to 64T");
    b->microvm = !strcmp(machine, "microvm");
    boot_word(b, "qemu-system-x86_64");
    boot_word(b, "-nodefaults");
    boot_word(b, "-no-user-config");
    boot_word(b, "-machine");
    boot_word(b, "%s", machine);
    int code = boot_choose_accel(b);
    boot_word(b, "-m");
    boot_word(b, memory % MIB ? "%" PRIu64 "K" : "%" PRIu64 "M",
              round_up(memory, 4096) / (memory % MIB ? 1024 : MIB));
    boot_word(b, "-smp");
    boot_word(b, "%u", b->cpus);
    boot_word(b, "-display");
    boot_word(b, "none");
    boot_word(b, "-no-reboot");
    boot_word(b, "-device");
    boot_word(b, "isa-debug-exit,iobase=0xf4,iosize=4");
    boot_word(b, "-serial");
    if (isatty(STDIN_FILENO)) {
        boot_word(b, "mon:stdio"); /* raw, with Ctrl-A X to end it */
    } else {
        boot_word(b, "stdio");
        boot_word(b, "-monitor");
        boot_word(b, "none");
    }
    if (b->microvm) {
        boot_word(b, "-global");
        boot_word(b, "virtio-mmio.force-legacy=false");
    }
    return code;
}

static int add_devices(struct boot *b)
{
    const char *value;
    int code = CLI_OK;
    for (unsigned at = 0; code == CLI_OK && (value = cli_next(b->cli, "device", &at));)
        code = boot_add_disk(b, value);
    for (unsigned at = 0; code == CLI_OK && (value = cli_next(b->cli, "share", &at));)
        code = boot_add_share(b, value);
    return code;
}

/* Where the initramfs is, or will be: given, or made for --app. */
static int add_initrd(struct boot *b)
{
    const char *program = cli_text(b->cli, "app", NULL);
    const char *given = cli_text(b->cli, "initrd", NULL);
    if (!program && !given)
        return CLI_OK;
    if (given) {
        if (!is_file(given))
            return cli_failed(b->cli, "--initrd %s: no such file, or it cannot be read", given);
        snprintf(b->initrd, sizeof(b->initrd), "%s", given);
        return CLI_OK;
    }
    int code = boot_check_program(b->cli, program);
    if (code == CLI_OK)
        code = boot_make_folder(b);
    if (code != CLI_OK)
        return code;
    snprintf(b->initrd, sizeof(b->initrd), "%s/initrd.cpio", b->folder);
    if (b->print) {
        printf("# %s: a cpio archive (newc) with %s in its folder bin\n", b->initrd, program);
        return CLI_OK;
    }
    b->initrd_made = true;
    return boot_pack_program(b->cli, program, b->initrd);
}

static int add_kernel(struct boot *b)
{
    char image[PATH_MAX * 2];
    int code = find_image(b, image, sizeof(image));
    if (code == CLI_OK)
        code = add_initrd(b);
    if (code == CLI_OK)
        code = make_line(b);
    boot_word(b, "-kernel");
    boot_word(b, "%s", image);
    if (*b->initrd) {
        boot_word(b, "-initrd");
        boot_word(b, "%s", b->initrd);
    }
    boot_word(b, "-append");
    boot_word(b, "%s", b->line);
    return code;
}

/* As a shell takes it, an option a line. */
static void print_words(const struct boot *b)
{
    for (unsigned i = 0; i < b->words; i++) {
        const char *word = b->word[i];
        bool plain = *word && !word[strspn(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvw"
                                                 "xyz0123456789._-+/,:=@%")];
        if (i)
            fputs(word[0] == '-' ? " \\\n    " : " ", stdout);
        if (!plain)
            putchar('\'');
        for (; *word; word++)
            if (*word == '\'')
                fputs("'\\''", stdout);
            else
                putchar(*word);
        if (!plain)
            putchar('\'');
    }
    putchar('\n');
}

/* ---- all of it ------------------------------------------------------------------------- */

static int check(struct boot *b)
{
    struct cli *cli = b->cli;
    bool app = cli_text(cli, "app", NULL);
    uint64_t cpus = cli_number(cli, "cpus", 1);
    if (cli->operand_count && !app)
        return cli_usage(cli, "unexpected '%s': a device is given with --device", cli->operand[0]);
    if (app && cli_text(cli, "exec", NULL))
        return cli_usage(cli, "either --app or --exec, not both");
    if (cpus < 1 || cpus > BOOT_MAX_CPUS)
        return cli_usage(cli, "--cpus must be from 1 to %d", BOOT_MAX_CPUS);
    b->cpus = (unsigned)cpus;
    return CLI_OK;
}

/* Signals wait from here on, in every thread; boot_run() takes them. */
static void block_signals(sigset_t *before)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigprocmask(SIG_BLOCK, &signals, before);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL); /* ignored, it would hide how QEMU ended */
}

static int boot(struct boot *b)
{
    int code = check(b);
    if (code == CLI_OK)
        code = add_machine(b);
    if (code == CLI_OK)
        code = add_devices(b);
    if (code == CLI_OK)
        code = add_kernel(b);
    if (code == CLI_OK && b->no_memory)
        code = cli_failed(b->cli, "out of memory, or over %d words for QEMU", BOOT_MAX_WORDS);
    if (code == CLI_OK && b->print) {
        print_words(b);
        return CLI_OK;
    }
    if (code == CLI_OK)
        code = boot_start_server(b);
    return code == CLI_OK ? boot_run(b) : code;
}

static int run(struct cli *cli)
{
    sigset_t before;
    struct boot *b = calloc(1, sizeof(*b));
    if (!b)
        return cli_failed(cli, "out of memory");
    b->cli = cli;
    b->print = cli_flag(cli, "print");
    block_signals(&before);
    int code = boot(b);
    int stopped = boot_stop_server(b);
    remove_files(b);
    for (unsigned i = 0; i < b->words; i++)
        free(b->word[i]);
    free(b);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return code == CLI_OK ? stopped : code;
}

static const char *const accels[] = {"auto", "kvm", "tcg", NULL};
static const char *const machines[] = {"q35", "pc", "microvm", NULL};

static const struct cli_option options[] = {
    {"device", CLI_TEXT, "DEVICE",
     "a disk: a file, qcow2:FILE, or any device; the first is vda, the next vdb", true, NULL},
    {"share", CLI_TEXT, "DIR[:/MOUNT][:ro]",
     "a folder of this machine, mounted by 9P; the first at /share, then /share1", true, NULL},
    {"app", CLI_TEXT, "ELF",
     "run this static Linux program (x86-64) and end with its exit status; all that follows are "
     "its "
     "arguments",
     false, NULL, true},
    {"exec", CLI_TEXT, "COMMANDS",
     "run these commands of the shell, with ';' between them, and end with the status of the last",
     false, NULL},
    {"initrd", CLI_TEXT, "FILE",
     "the initramfs, a cpio archive (newc); --app is then a path inside it", false, NULL},
    {"append", CLI_TEXT, "TEXT", "more for the kernel command line", false, NULL},
    {"memory", CLI_SIZE, "SIZE", "memory of the machine (default: 256M)", false, NULL},
    {"cpus", CLI_COUNT, "N", "its processors (default: 1)", false, NULL},
    {"accel", CLI_TEXT, "NAME", "kvm, tcg, or auto: KVM if a guest really runs (default: auto)",
     false, accels},
    {"machine", CLI_TEXT, "NAME", "q35, pc or microvm (default: q35)", false, machines},
    {"image", CLI_TEXT, "FILE",
     "the unikernel (default: $ASHLAR_IMAGE, or ashlar.elf beside this command or in "
     "../lib/ashlar)",
     false, NULL},
    {"interactive", CLI_FLAG, NULL,
     "show the shell's prompt when --exec or --app is done (default without them)", false, NULL},
    {"print", CLI_FLAG, NULL, "print QEMU's command line and do nothing more", false, NULL},
    {0},
};

static const struct cli_example examples[] = {
    {"ashlar boot --device disk.img", "a shell with a disk; 'poweroff' or Ctrl-A X ends it"},
    {"ashlar boot --device null:1G --exec 'blktest vda; blkperf vda'",
     "run two commands, for a script"},
    {"ashlar boot --share data --app ./prog --verbose /share/input", "run a program"},
    {"ashlar boot --device 'stats,fault?every=1000&errno=EIO,mem:1G'",
     "a disk that fails, and counts"},
    {0},
};

const struct cli_command cli_boot = {
    .name = "boot",
    .operands = "[--app ELF [ARG]...]",
    .min_operands = 0,
    .max_operands = CLI_MAX_WORDS,
    .summary = "boot the unikernel in QEMU, with disks, folders and a program",
    .description =
        "Starts the unikernel in QEMU with its console here, and ends with its status: 0 when it "
        "was powered off, else what it ended with, up to 127; 101 is a panic of the kernel. When "
        "the machine cannot be started, or QEMU fails, the exit code is 1, with a message; when a "
        "signal ends it, 128 and the signal's number. On a terminal every key but Ctrl-A goes to "
        "the machine: Ctrl-A X ends it, Ctrl-A C changes to QEMU's monitor.\n\n"
        "A disk is a file (a QCOW2 image is recognised), file:FILE, qcow2:FILE or null:SIZE, which "
        "QEMU opens, or any other device, which this process opens and serves to it. 'readonly,' "
        "before it makes it a disk that cannot be written.",
    .options = options,
    .examples = examples,
    .run = run,
};
