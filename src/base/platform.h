/*
 * base/platform.h: what the portable rooms need from the home they run in.
 *
 * src/linux/platform.c is the Linux process; the unikernel has its own. Nothing else in floors 1
 * to 3 calls the system. Functions of the C library that only compute (strings, formatting,
 * sorting) are used directly; tests/unit/portable.sh holds the list.
 */
#ifndef BASE_PLATFORM_H
#define BASE_PLATFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- memory ---------------------------------------------------------------------------- */

/* Zeroed memory, aligned for any type; NULL if there is none. Freed with base_free(NULL is fine).
 */
void *base_alloc(size_t size);
void *base_alloc_array(size_t count, size_t size);
void *base_alloc_aligned(size_t align, size_t size); /* align: a power of two; of BASE_HUGE_PAGE:
                                                        in large pages, if there are */
void base_free(void *memory);

#define BASE_PAGE      ((size_t)4096)
#define BASE_HUGE_PAGE ((size_t)2 << 20)

/* Zero-filled address space; a page takes memory when it is first written. size: whole pages. */
void *base_reserve(uint64_t size);
void base_unreserve(void *memory, uint64_t size);
/* Give the memory of whole pages back; they read as zeroes again. */
void base_reserve_discard(void *memory, uint64_t size);
/* Advice for part of it, before it is used: all of it will be, so let it be of large pages. A disk
 * then needs fewer addresses for a request. */
void base_reserve_large(void *memory, uint64_t size);

/* Memory for machine code that is made while the process runs; never writable and executable at
 * once. base_code_alloc() gives whole pages to write to; base_code_seal() makes them executable
 * and read-only: 0 or a negative errno. NULL: there is none, or this home does not allow it. */
void *base_code_alloc(size_t size);
int base_code_seal(void *code, size_t size);
void base_code_free(void *code, size_t size);

/* ---- time ------------------------------------------------------------------------------ */

uint64_t base_now_ns(void);  /* monotonic */
uint64_t base_wall_ns(void); /* since 1970, UTC */
void base_sleep_until_ns(uint64_t when);

/* ---- threads and locks ----------------------------------------------------------------- */

struct base_mutex {
    uint64_t opaque[6];
};
struct base_cond {
    uint64_t opaque[6];
};
struct base_thread {
    uint64_t opaque[2];
};

void base_mutex_init(struct base_mutex *mutex);
void base_mutex_fini(struct base_mutex *mutex);
void base_mutex_lock(struct base_mutex *mutex);
void base_mutex_unlock(struct base_mutex *mutex);

void base_cond_init(struct base_cond *cond);
void base_cond_fini(struct base_cond *cond);
void base_cond_wait(struct base_cond *cond, struct base_mutex *mutex);
void base_cond_broadcast(struct base_cond *cond);

/* Start a thread that runs function(arg), on one processor if cpu >= 0 (best effort). 0 or a
 * negative errno. Every started thread is joined. */
int base_thread_start(struct base_thread *thread, void (*function)(void *arg), void *arg, int cpu);
void base_thread_join(struct base_thread *thread);
unsigned base_cpu_count(void);

/* ---- messages -------------------------------------------------------------------------- */

enum base_log_level {
    BASE_LOG_NONE, /* as a level that is set: no messages */
    BASE_LOG_ERROR,
    BASE_LOG_WARNING,
    BASE_LOG_INFO,
    BASE_LOG_DEBUG,
};

/* One line for the operator; no newline at its end. */
void base_log(enum base_log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void base_log_set_level(enum base_log_level level);

#endif
