/* ashlar boot: QEMU as a child process, the acceleration it gets, and what its end means. */
#include "cli/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/platform.h"

#define QEMU "qemu-system-x86_64"

/* The exit codes of QEMU's isa-debug-exit are odd: the byte written, twice, and one. */
enum { PROBE_VALUE = 16, PROBE_CODE = PROBE_VALUE << 1 | 1, PROBE_SECONDS = 5, GRACE_SECONDS = 5 };

/* ---- a child --------------------------------------------------------------------------- */

struct child {
    char *const *words;
    int output; /* for standard output and error; -1: ours */
    int keep;   /* a descriptor that stays open in it; -1: none */
    pid_t pid;
    int status;       /* of waitpid() */
    int signal;       /* that we were sent while we waited; 0: none */
    bool late;        /* it did not end in time, so it was killed */
    sigset_t watched; /* signals that wait() takes */
    sigset_t before;  /* our mask before */
};

static void watch_signals(struct child *c)
{
    static const int numbers[] = {SIGCHLD, SIGINT, SIGTERM, SIGHUP};
    sigemptyset(&c->watched);
    for (unsigned i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        sigaddset(&c->watched, numbers[i]);
    sigprocmask(SIG_BLOCK, &c->watched, &c->before);
}

/* In the child, after fork: nothing but system calls. */
static void become(const struct child *c, pid_t parent, int report)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(127);
    if (c->output >= 0) {
        int null = open("/dev/null", O_RDONLY);
        dup2(null, STDIN_FILENO);
        dup2(c->output, STDOUT_FILENO);
        dup2(c->output, STDERR_FILENO);
    }
    if (c->keep >= 0)
        fcntl(c->keep, F_SETFD, 0);
    execvp(c->words[0], c->words);
    int error = errno;
    ssize_t written = write(report, &error, sizeof(error));
    _exit(written < 0 ? 126 : 127);
}

/* 0, or a negative errno: why it could not be executed. */
static int start(struct child *c)
{
    int report[2];
    int error = 0;
    if (pipe2(report, O_CLOEXEC) < 0)
        return -errno;
    fflush(NULL);
    pid_t parent = getpid();
    c->pid = fork();
    if (c->pid == 0)
        become(c, parent, report[1]);
    if (c->pid < 0)
        error = errno;
    close(report[1]);
    if (c->pid > 0 && read(report[0], &error, sizeof(error)) == sizeof(error))
        waitpid(c->pid, NULL, 0);
    close(report[0]);
    return -error;
}

/* Wait until it ends; a signal to us goes on to it, and it is killed if it is still there some
 * seconds later. seconds < 0: it has all the time. */
static void wait_end(struct child *c, int seconds)
{
    while (waitpid(c->pid, &c->status, WNOHANG) == 0) {
        struct timespec limit = {.tv_sec = seconds};
        int got =
            seconds < 0 ? sigwaitinfo(&c->watched, NULL) : sigtimedwait(&c->watched, NULL, &limit);
        if (got < 0 && errno == EAGAIN) {
            c->late = true;
            kill(c->pid, SIGKILL);
            waitpid(c->pid, &c->status, 0);
            return;
        }
        if (got > 0 && got != SIGCHLD) {
            c->signal = got;
            seconds = GRACE_SECONDS;
            kill(c->pid, SIGTERM);
        }
    }
}

static int not_started(const struct cli *cli, int error)
{
    if (error == -ENOENT)
        return cli_failed(cli, QEMU " is not installed (Debian: qemu-system-x86)");
    return cli_failed(cli, QEMU ": %s", strerror(-error));
}

/* ---- does KVM work? -------------------------------------------------------------------- */

/* A guest that writes PROBE_VALUE to port 0xf4: an ELF file for i386 with a PVH entry. */
struct probe {
    uint8_t ident[16];
    uint16_t type, machine;
    uint32_t version, entry, phoff, shoff, flags;
    uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
    struct {
        uint32_t type, offset, vaddr, paddr, filesz, memsz, flags, align;
    } segment[2];
    struct {
        uint32_t namesz, descsz, type;
        char name[4];
        uint32_t entry;
    } note;
    uint8_t code[8];
};

enum { PROBE_ADDRESS = 0x100000, NOTE_PVH_ENTRY = 18 };

static const struct probe probe = {
    .ident = {0x7f, 'E', 'L', 'F', 1, 1, 1},
    .type = 2,
    .machine = 3,
    .version = 1,
    .entry = PROBE_ADDRESS,
    .phoff = offsetof(struct probe, segment),
    .ehsize = 52,
    .phentsize = 32,
    .phnum = 2,
    .shentsize = 40,
    .segment = {{1, offsetof(struct probe, code), PROBE_ADDRESS, PROBE_ADDRESS, 8, 8, 5, 1},
                {4, offsetof(struct probe, note), 0, 0, 20, 20, 4, 4}},
    .note = {4, 4, NOTE_PVH_ENTRY, "Xen", PROBE_ADDRESS},
    .code = {0xb0, PROBE_VALUE, /* mov al, PROBE_VALUE */
             0xe6, 0xf4,        /* out 0xf4, al */
             0xf4,              /* hlt */
             0xeb, 0xfd},       /* jmp back to the hlt */
};

_Static_assert(offsetof(struct probe, segment) == 52, "as the ELF header says");

static bool write_probe(const char *path)
{
    FILE *out = fopen(path, "we");
    bool ok = out && fwrite(&probe, sizeof(probe), 1, out) == 1;
    return out && fclose(out) == 0 && ok;
}

/* The first line of what QEMU said. */
static void read_reason(int fd, char *out, size_t size)
{
    ssize_t n = pread(fd, out, size - 1, 0);
    out[n > 0 ? n : 0] = '\0';
    out[strcspn(out, "\n")] = '\0';
}

enum probe_result { PROBE_RUNS, PROBE_FAILED, PROBE_HANGS };

/* Boot the probe with this -cpu. If it does not run, reason tells why. */
static enum probe_result kvm_runs(struct boot *b, const char *cpu, char *reason, size_t size)
{
    char guest[PATH_MAX + 16];
    char said[PATH_MAX + 16];
    snprintf(guest, sizeof(guest), "%s/probe.elf", b->folder);
    snprintf(said, sizeof(said), "%s/probe.txt", b->folder);
    const char *words[] = {QEMU,
                           "-machine",
                           "microvm",
                           "-accel",
                           "kvm",
                           "-cpu",
                           cpu,
                           "-m",
                           "16M",
                           "-nodefaults",
                           "-no-user-config",
                           "-display",
                           "none",
                           "-no-reboot",
                           "-kernel",
                           guest,
                           "-device",
                           "isa-debug-exit,iobase=0xf4,iosize=4",
                           NULL};
    struct child c = {.words = (char *const *)words, .keep = -1};
    c.output = open(said, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    enum probe_result result = PROBE_FAILED;
    *reason = '\0';
    watch_signals(&c);
    int error = c.output < 0 || !write_probe(guest) ? -errno : start(&c);
    if (error == 0) {
        wait_end(&c, PROBE_SECONDS);
        if (WIFEXITED(c.status) && WEXITSTATUS(c.status) == PROBE_CODE)
            result = PROBE_RUNS;
        else if (c.late)
            result = PROBE_HANGS;
        read_reason(c.output, reason, size);
    }
    if (!*reason)
        snprintf(reason, size, "%s", error < 0 ? strerror(-error) : "a guest does not run");
    if (c.output >= 0)
        close(c.output);
    unlink(said);
    unlink(guest);
    sigprocmask(SIG_SETMASK, &c.before, NULL);
    if (c.signal)
        raise(c.signal);
    return result;
}

/* KVM by PVM, without the processor's help: small guests run, but it gives up on instructions of
 * whole kernels (QEMU: "emulation failure"). Only --accel kvm takes it. */
static bool is_software_kvm(void)
{
    const char *module = getenv("ASHLAR_KVM_PVM"); /* for tests */
    return access(module ? module : "/sys/module/kvm_pvm", F_OK) == 0;
}

/* The -cpu with which KVM works; NULL: none, reason tells why. */
static const char *kvm_cpu(struct boot *b, char *reason, size_t size)
{
    /* Some hosts let KVM offer a register that they then refuse to set. */
    static const char *const cpus[] = {"host", "host,-arch-capabilities"};
    char second[256];
    if (access("/dev/kvm", R_OK | W_OK) < 0) {
        snprintf(reason, size, "/dev/kvm: %s", strerror(errno));
        return NULL;
    }
    enum probe_result first = kvm_runs(b, cpus[0], reason, size);
    if (first != PROBE_FAILED)
        return first == PROBE_RUNS ? cpus[0] : NULL;
    return kvm_runs(b, cpus[1], second, sizeof(second)) == PROBE_RUNS ? cpus[1] : NULL;
}

int boot_choose_accel(struct boot *b)
{
    const char *accel = cli_text(b->cli, "accel", "auto");
    const char *cpu = NULL;
    if (strcmp(accel, "tcg")) {
        char reason[256];
        bool print = b->print;
        b->print = false; /* the probe needs the folder in any case */
        int code = boot_make_folder(b);
        b->print = print;
        if (code != CLI_OK)
            return code;
        if (strcmp(accel, "kvm") && is_software_kvm())
            snprintf(reason, sizeof(reason), "it is kvm_pvm, which does not run whole kernels");
        else
            cpu = kvm_cpu(b, reason, sizeof(reason));
        if (!cpu && !strcmp(accel, "kvm"))
            return cli_failed(b->cli, "KVM does not work: %s", reason);
        if (!cpu)
            base_log(BASE_LOG_INFO, "TCG is used, as KVM does not work: %s", reason);
    }
    boot_word(b, "-accel");
    boot_word(b, cpu ? "kvm" : "tcg");
    boot_word(b, "-cpu");
    boot_word(b, "%s", cpu ? cpu : "max");
    return CLI_OK;
}

/* ---- the run --------------------------------------------------------------------------- */

/* What QEMU may leave changed if it dies: the terminal and the flags of our standard files. */
struct console {
    bool terminal;
    struct termios settings;
    int flags[3];
};

static void console_save(struct console *c)
{
    c->terminal = tcgetattr(STDIN_FILENO, &c->settings) == 0;
    for (int fd = 0; fd < 3; fd++)
        c->flags[fd] = fcntl(fd, F_GETFL);
}

static void console_restore(const struct console *c)
{
    sigset_t stop, before; /* a process in the background must not be stopped here */
    sigemptyset(&stop);
    sigaddset(&stop, SIGTTOU);
    sigprocmask(SIG_BLOCK, &stop, &before);
    if (c->terminal)
        tcsetattr(STDIN_FILENO, TCSANOW, &c->settings);
    sigprocmask(SIG_SETMASK, &before, NULL);
    for (int fd = 0; fd < 3; fd++)
        if (c->flags[fd] >= 0)
            fcntl(fd, F_SETFL, c->flags[fd]);
}

/* QEMU tells by its monitor why it ends; a reset is no error to it. What it said waits in the
 * socket until it has ended. */
static bool was_reset(int monitor)
{
    char said[16384];
    size_t used = 0;
    ssize_t n;
    while (used < sizeof(said) - 1 &&
           (n = recv(monitor, said + used, sizeof(said) - 1 - used, MSG_DONTWAIT)) > 0)
        used += (size_t)n;
    said[used] = '\0';
    return strstr(said, "\"guest-reset\"");
}

static int exit_code(struct boot *b, const struct child *c, int monitor)
{
    if (c->signal)
        return 128 + c->signal;
    if (WIFSIGNALED(c->status))
        return cli_failed(b->cli, QEMU " was killed by signal %d", WTERMSIG(c->status));
    int code = WEXITSTATUS(c->status);
    if (code == 1)
        return cli_failed(b->cli, QEMU " failed");
    if (code & 1)
        return code >> 1;
    if (code)
        return cli_failed(b->cli, QEMU " ended with exit code %d", code);
    if (was_reset(monitor)) {
        cli_failed(b->cli, "the machine was reset: by 'reboot', or by a fault in its kernel");
        return cli_flag(b->cli, "interactive") ||
                       !(cli_text(b->cli, "exec", NULL) || cli_text(b->cli, "app", NULL))
                   ? CLI_OK
                   : CLI_FAILED;
    }
    return CLI_OK;
}

int boot_run(struct boot *b)
{
    static const char hello[] = "{\"execute\":\"qmp_capabilities\"}\n";
    struct child c = {.words = b->word, .output = -1};
    struct console console;
    int monitor[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, monitor) < 0 ||
        write(monitor[0], hello, strlen(hello)) < 0)
        return cli_failed(b->cli, "%s", strerror(errno));
    boot_word(b, "-chardev");
    boot_word(b, "socket,id=control,fd=%d", monitor[1]);
    boot_word(b, "-mon");
    boot_word(b, "chardev=control,mode=control");
    c.keep = monitor[1];
    console_save(&console);
    watch_signals(&c);
    int error = b->no_memory ? -ENOMEM : start(&c);
    close(monitor[1]);
    if (error == 0)
        wait_end(&c, -1);
    console_restore(&console);
    sigprocmask(SIG_SETMASK, &c.before, NULL);
    int code = error < 0 ? not_started(b->cli, error) : exit_code(b, &c, monitor[0]);
    close(monitor[0]);
    return code;
}
