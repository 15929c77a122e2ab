/* A program from its start to its end. */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "os/app/app.h"
#include "os/memory/memory.h"
#include "os/memory/user.h"
#include "os/os.h"

struct program program;

enum { STACK_SIZE = 8 << 20, STATUS_NO_START = 127 };
#define STACK_TOP (USER_END - PAGE_SIZE)

void syscall_return(void);

/* ---- the first stack (System V ABI, 3.4.1) ---------------------------------------------- */

enum {
    AT_NULL,
    AT_PHDR = 3,
    AT_PHENT = 4,
    AT_PHNUM = 5,
    AT_PAGESZ = 6,
    AT_BASE = 7,
    AT_FLAGS = 8,
    AT_ENTRY = 9,
    AT_UID = 11,
    AT_EUID = 12,
    AT_GID = 13,
    AT_EGID = 14,
    AT_PLATFORM = 15,
    AT_HWCAP = 16,
    AT_CLKTCK = 17,
    AT_SECURE = 23,
    AT_RANDOM = 25,
    AT_EXECFN = 31,
};

static uint64_t push(uint64_t *sp, const void *data, size_t n)
{
    *sp -= n;
    memcpy((void *)(uintptr_t)*sp, data, n);
    return *sp;
}

static uint64_t push_text(uint64_t *sp, const char *text)
{
    return push(sp, text, strlen(text) + 1);
}

static int make_stack(unsigned argc, char **argv, const struct elf_image *image, uint64_t *result)
{
    static const char *const environment[] = {"PATH=/bin:/usr/bin", "HOME=/", "TERM=vt100"};
    uint64_t start = STACK_TOP - STACK_SIZE, sp = STACK_TOP;
    uint64_t words[ARGUMENTS_MAX + 48], random[2];
    unsigned n = 0;
    size_t bytes = 4096;
    for (unsigned i = 0; i < argc; i++)
        bytes += strlen(argv[i]) + 1;
    if (user_map(&start, STACK_SIZE, USER_READ | USER_WRITE, true) < 0 || bytes > STACK_SIZE / 4 ||
        !user_access(STACK_TOP - bytes, bytes, USER_WRITE))
        return -ENOMEM;
    random_bytes(random, sizeof(random));
    const uint64_t random_at = push(&sp, random, sizeof(random));
    const uint64_t platform = push_text(&sp, "x86_64");
    const uint64_t name = push_text(&sp, argv[0]);
    words[n++] = argc;
    for (unsigned i = 0; i < argc; i++)
        words[n++] = push_text(&sp, argv[i]);
    words[n++] = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(environment); i++)
        words[n++] = push_text(&sp, environment[i]);
    words[n++] = 0;
    const uint64_t auxiliary[][2] = {
        {AT_PHDR, image->headers},
        {AT_PHENT, image->header_size},
        {AT_PHNUM, image->header_count},
        {AT_PAGESZ, PAGE_SIZE},
        {AT_BASE, 0},
        {AT_FLAGS, 0},
        {AT_ENTRY, image->entry},
        {AT_UID, 0},
        {AT_EUID, 0},
        {AT_GID, 0},
        {AT_EGID, 0},
        {AT_PLATFORM, platform},
        {AT_HWCAP, cpuid(1, 0).d},
        {AT_CLKTCK, 100},
        {AT_SECURE, 0},
        {AT_RANDOM, random_at},
        {AT_EXECFN, name},
        {AT_NULL, 0},
    };
    memcpy(words + n, auxiliary, sizeof(auxiliary));
    n += sizeof(auxiliary) / sizeof(words[0]);
    sp = round_down(sp - n * 8, 16);
    memcpy((void *)(uintptr_t)sp, words, n * 8);
    *result = sp;
    return 0;
}

/* ---- start ------------------------------------------------------------------------------ */

static int open_console(void)
{
    for (unsigned fd = 0; fd < 3; fd++) {
        const int r = vfs_open(NULL, "/dev/console", VFS_O_RDWR, 0, &program.files[fd]);
        if (r < 0)
            return r;
    }
    return 0;
}

struct thread *app_thread_make(const struct syscall_frame *frame)
{
    struct thread *t = thread_make_at("program", frame, sizeof(*frame), syscall_return, -1);
    struct program_thread *p = base_alloc(sizeof(*p));
    void *vectors = base_alloc_aligned(64, cpu_features.xsave_size);
    if (!t || !p || !vectors) {
        if (t)
            thread_discard(t);
        base_free(p);
        base_free(vectors);
        return NULL;
    }
    t->vectors = vectors;
    t->program = p;
    p->tid = __atomic_fetch_add(&program.next_tid, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&program.threads, 1, __ATOMIC_RELAXED);
    return t;
}

/* The first thread: it begins at the program's entry. */
static int start_thread(const struct elf_image *image, uint64_t sp)
{
    const struct syscall_frame frame = {.rip = image->entry, .rflags = 0x202, .rsp = sp};
    struct thread *t = app_thread_make(&frame);
    if (!t)
        return -ENOMEM;
    cpu_init_vectors(t->vectors);
    thread_start(t);
    return 0;
}

static int start_program(unsigned argc, char **argv)
{
    struct elf_image image = {0};
    uint64_t sp = 0;
    int r = elf_load(argv[0], &image);
    if (r < 0)
        return r;
    program.brk_start = program.brk = program.brk_end = round_up(image.end, PAGE_SIZE);
    r = make_stack(argc, argv, &image, &sp);
    if (r == 0)
        r = open_console();
    if (r == 0)
        r = start_thread(&image, sp);
    if (r < 0)
        print("%s: it cannot be started: error %d\n", argv[0], -r);
    return r;
}

static void clean_up(void)
{
    for (unsigned fd = 0; fd < FILES_MAX; fd++)
        if (program.files[fd])
            vfs_close(program.files[fd]);
    user_reset();
}

static void wait_end(void)
{
    bool irq = spin_lock_irq(&program.ended.lock);
    while (__atomic_load_n(&program.threads, __ATOMIC_ACQUIRE)) {
        wait_sleep(&program.ended, UINT64_MAX, irq);
        irq = spin_lock_irq(&program.ended.lock);
    }
    spin_unlock_irq(&program.ended.lock, irq);
}

int app_run(unsigned argc, char **argv)
{
    if (app_running()) {
        print("a program runs already\n");
        return STATUS_NO_START;
    }
    memset(&program, 0, sizeof(program));
    base_mutex_init(&program.lock);
    strcpy(program.cwd, "/");
    program.umask = 022;
    program.next_tid = 1;
    const size_t n = min_u64(strlen(argv[0]), sizeof(program.name) - 1);
    memcpy(program.name, argv[0], n);
    if (argc > ARGUMENTS_MAX) {
        print("%s: over %u arguments\n", argv[0], ARGUMENTS_MAX);
        return STATUS_NO_START;
    }
    const int r = start_program(argc, argv);
    if (r == 0)
        wait_end();
    clean_up();
    return r < 0 ? STATUS_NO_START : program.status;
}

/* ---- end -------------------------------------------------------------------------------- */

bool app_running(void)
{
    return __atomic_load_n(&program.threads, __ATOMIC_ACQUIRE) > 0;
}

void app_end(int status)
{
    bool irq = spin_lock_irq(&program.end_lock);
    const bool first = !program.ending;
    if (first)
        program.status = status;
    __atomic_store_n(&program.ending, true, __ATOMIC_SEQ_CST);
    spin_unlock_irq(&program.end_lock, irq);
    if (!first)
        return;
    futex_wake_all();
    for (unsigned i = 0; i < CPU_MAX; i++) /* those that compute look up */
        if (cpus[i] && cpus[i] != cpu_this() && cpus[i]->online)
            apic_send(cpus[i]->apic_id, VECTOR_WAKE);
}

void app_thread_exit(void)
{
    struct thread *t = thread_current();
    struct program_thread *p = t->program;
    if (p->clear_tid && !app_ending() && user_access(p->clear_tid, 4, USER_WRITE)) {
        __atomic_store_n((uint32_t *)(uintptr_t)p->clear_tid, 0, __ATOMIC_SEQ_CST);
        futex_wake(p->clear_tid, 1, UINT32_MAX);
    }
    t->program = NULL;
    base_free(p);
    bool irq = spin_lock_irq(&program.ended.lock);
    if (__atomic_sub_fetch(&program.threads, 1, __ATOMIC_ACQ_REL) == 0)
        wait_wake_locked(&program.ended, UINT32_MAX);
    spin_unlock_irq(&program.ended.lock, irq);
    thread_exit();
}

/* ---- faults ----------------------------------------------------------------------------- */

void app_fault(struct interrupt_frame *f)
{
    static const struct {
        unsigned vector, signal;
        const char *name;
    } faults[] = {
        {0, 8, "division by zero"},      {1, 5, "debug trap"},           {3, 5, "breakpoint"},
        {6, 4, "invalid instruction"},   {13, 11, "protection fault"},   {14, 11, "invalid memory"},
        {16, 8, "floating-point error"}, {19, 8, "floating-point error"}};
    unsigned signal = 11;
    const char *name = "fault";
    for (unsigned i = 0; i < ARRAY_SIZE(faults); i++)
        if (faults[i].vector == f->vector) {
            signal = faults[i].signal;
            name = faults[i].name;
        }
    print("%s: %s at %lx", program.name, name, f->rip);
    if (f->vector == VECTOR_PAGE_FAULT)
        print(", address %lx", thread_current()->fault_address);
    print("; it is ended\n");
    app_end(128 + (int)signal);
    app_thread_exit();
}
