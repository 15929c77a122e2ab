/*
 * cli/bench_child.h: a program that a path of `ashlar bench` talks to, line by line.
 *
 * It has a socket as standard input and a pipe as standard output; what it says on standard error
 * goes to a file. It dies with us. No call waits longer than it is told to, nor after *stop became
 * true.
 */
#ifndef CLI_BENCH_CHILD_H
#define CLI_BENCH_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct bench_child {
    pid_t pid; /* 0: it is gone */
    int in;
    int out;
    const bool *stop;
    char log[400];
    size_t length;   /* of what it said since the last forget */
    size_t capacity; /* of text */
    char *text;      /* ends with a zero; owned */
};

/* Nanoseconds of a clock that only goes forward, so long from now. */
uint64_t bench_deadline(uint64_t from_now);

/* Run argv; log is the file for its errors. 0, or -1 with a reason. End it with stop also if it
 * could not be started. */
int bench_child_start(struct bench_child *c, const char *const argv[], const char *log,
                      const bool *stop, char why[256]);

/* Send a text. 0, or -1 with a reason. */
int bench_child_send(struct bench_child *c, const char *text, char why[256]);

/* Take more of what it says into text: 1; 0 if it said its last; -1 with a reason. */
int bench_child_read(struct bench_child *c, uint64_t deadline, char why[256]);

/* Forget what it said so far. */
void bench_child_forget(struct bench_child *c);

/* "NAME ended: the last line of its log". */
void bench_child_epitaph(const struct bench_child *c, const char *name, char why[256]);

/* End it: first kindly. Returns its status as of waitpid(), or -1 if it was gone. */
int bench_child_stop(struct bench_child *c);

/* Wait for it to end by itself; then stop. */
int bench_child_wait(struct bench_child *c, uint64_t deadline);

#endif
