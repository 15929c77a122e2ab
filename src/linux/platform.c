/* What the portable rooms need, in a Linux process. */
#include "base/platform.h"
#include "base/util.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* ---- memory ---------------------------------------------------------------------------- */

void *base_alloc(size_t size)
{
    return calloc(1, size);
}

void *base_alloc_array(size_t count, size_t size)
{
    return calloc(count, size);
}

void *base_alloc_aligned(size_t align, size_t size)
{
    void *memory;
    if (posix_memalign(&memory, align, size))
        return NULL;
    if (align >= BASE_HUGE_PAGE)
        base_reserve_large(memory, size);
    return memset(memory, 0, size);
}

void base_free(void *memory)
{
    free(memory);
}

/* What is large begins on a large page. */
void *base_reserve(uint64_t size)
{
    const uint64_t slack = size >= BASE_HUGE_PAGE ? BASE_HUGE_PAGE - BASE_PAGE : 0;
    char *memory = mmap(NULL, size + slack, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    const uint64_t before = slack ? -(uint64_t)(uintptr_t)memory % BASE_HUGE_PAGE : 0;
    if (before)
        munmap(memory, before);
    if (slack > before)
        munmap(memory + before + size, slack - before);
    return memory + before;
}

void base_unreserve(void *memory, uint64_t size)
{
    munmap(memory, size);
}

void base_reserve_discard(void *memory, uint64_t size)
{
    madvise(memory, size, MADV_DONTNEED);
}

void base_reserve_large(void *memory, uint64_t size)
{
    const uint64_t before = (uintptr_t)memory % BASE_HUGE_PAGE;
    /* Also the rest of its first and last page; if the kernel can. */
    madvise((char *)memory - before, round_up(before + size, BASE_HUGE_PAGE), MADV_HUGEPAGE);
}

void *base_code_alloc(size_t size)
{
    void *code = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return code == MAP_FAILED ? NULL : code;
}

int base_code_seal(void *code, size_t size)
{
    return mprotect(code, size, PROT_READ | PROT_EXEC) ? -errno : 0;
}

void base_code_free(void *code, size_t size)
{
    if (code)
        munmap(code, size);
}

/* ---- time ------------------------------------------------------------------------------ */

uint64_t base_wall_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t base_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void base_sleep_until_ns(uint64_t when)
{
    struct timespec t = {.tv_sec = (time_t)(when / 1000000000u),
                         .tv_nsec = (long)(when % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

/* ---- threads and locks ----------------------------------------------------------------- */

_Static_assert(sizeof(pthread_mutex_t) <= sizeof(struct base_mutex), "mutex fits");
_Static_assert(sizeof(pthread_cond_t) <= sizeof(struct base_cond), "cond fits");
_Static_assert(sizeof(pthread_t) <= sizeof(struct base_thread), "thread fits");

static pthread_mutex_t *native_mutex(struct base_mutex *mutex)
{
    return (void *)mutex;
}

static pthread_cond_t *native_cond(struct base_cond *cond)
{
    return (void *)cond;
}

void base_mutex_init(struct base_mutex *mutex)
{
    pthread_mutex_init(native_mutex(mutex), NULL);
}

void base_mutex_fini(struct base_mutex *mutex)
{
    pthread_mutex_destroy(native_mutex(mutex));
}

void base_mutex_lock(struct base_mutex *mutex)
{
    pthread_mutex_lock(native_mutex(mutex));
}

void base_mutex_unlock(struct base_mutex *mutex)
{
    pthread_mutex_unlock(native_mutex(mutex));
}

void base_cond_init(struct base_cond *cond)
{
    pthread_cond_init(native_cond(cond), NULL);
}

void base_cond_fini(struct base_cond *cond)
{
    pthread_cond_destroy(native_cond(cond));
}

void base_cond_wait(struct base_cond *cond, struct base_mutex *mutex)
{
    pthread_cond_wait(native_cond(cond), native_mutex(mutex));
}

void base_cond_broadcast(struct base_cond *cond)
{
    pthread_cond_broadcast(native_cond(cond));
}

struct start {
    void (*function)(void *arg);
    void *arg;
    int cpu;
};

static void *run(void *arg)
{
    struct start start = *(struct start *)arg;
    free(arg);
    if (start.cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((unsigned)start.cpu, &set);
        sched_setaffinity(0, sizeof(set), &set);
    }
    start.function(start.arg);
    return NULL;
}

int base_thread_start(struct base_thread *thread, void (*function)(void *arg), void *arg, int cpu)
{
    struct start *start = malloc(sizeof(*start));
    if (!start)
        return -ENOMEM;
    *start = (struct start){function, arg, cpu};
    int error = pthread_create((void *)thread, NULL, run, start);
    if (error)
        free(start);
    return -error;
}

void base_thread_join(struct base_thread *thread)
{
    pthread_join(*(pthread_t *)(void *)thread, NULL);
}

unsigned base_cpu_count(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (unsigned)n : 1;
}

/* ---- messages -------------------------------------------------------------------------- */

static enum base_log_level log_level = BASE_LOG_WARNING;

void base_log_set_level(enum base_log_level level)
{
    __atomic_store_n(&log_level, level, __ATOMIC_RELAXED);
}

void base_log(enum base_log_level level, const char *format, ...)
{
    char line[1024];
    if (level > __atomic_load_n(&log_level, __ATOMIC_RELAXED))
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    fprintf(stderr, "ashlar: %s\n", line);
}
