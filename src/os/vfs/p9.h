/*
 * vfs/p9.h: a client of 9P2000.L, the protocol of a host that shares a folder (messages: the wiki
 * of diod, "protocol.md"; the base: Plan 9 manual, section 5).
 *
 * A transport carries one message there and its answer back. Several threads may call it at once.
 */
#ifndef OS_P9_H
#define OS_P9_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ashlar/blk.h>

struct p9_transport {
    const char *tag;      /* the mount tag: what fstab names */
    uint32_t max_message; /* largest message, either way */
    /* Send out[], receive into in[], in order; *got: bytes received. 0 or a negative errno. */
    int (*call)(struct p9_transport *t, const struct iovec *out, unsigned nout,
                const struct iovec *in, unsigned nin, uint32_t *got);
    struct p9_transport *next;
};

/* Make a transport known by its tag; it must stay. */
void p9_transport_register(struct p9_transport *transport);

/* Register the file system "9pfs". */
void p9fs_register(void);
/* Fids that are in use on all mounts: none after all were unmounted. */
unsigned p9fs_fids(void);

/* ---- the client: p9.c ------------------------------------------------------------------- */

enum {
    P9_STATFS = 8,
    P9_LOPEN = 12,
    P9_LCREATE = 14,
    P9_SYMLINK = 16,
    P9_READLINK = 22,
    P9_GETATTR = 24,
    P9_SETATTR = 26,
    P9_READDIR = 40,
    P9_FSYNC = 50,
    P9_LINK = 70,
    P9_MKDIR = 72,
    P9_RENAMEAT = 74,
    P9_UNLINKAT = 76,
    P9_VERSION = 100,
    P9_ATTACH = 104,
    P9_WALK = 110,
    P9_READ = 116,
    P9_WRITE = 118,
    P9_CLUNK = 120,
};
enum { P9_MESSAGE = 4096, P9_NO_FID = -1, P9_HEADER = 7, P9_IO_HEADER = 24 };

struct p9_qid {
    uint8_t type; /* 0x80: a directory, 0x02: a symbolic link */
    uint64_t path;
};

/* A message under way: what is asked, then what was answered. */
struct p9_message {
    uint8_t bytes[P9_MESSAGE];
    uint32_t at, size; /* answer: the next byte to get, and where it ends */
    int error;         /* the first: a text too long, an answer too short */
};

struct p9 {
    struct p9_transport *transport;
    uint32_t message; /* as agreed */
    uint64_t tags;    /* atomic: those in use */
    uint32_t next_fid;
};

void p9_begin(struct p9_message *m, uint8_t type);
void p9_put(struct p9_message *m, uint64_t value, unsigned bytes);
void p9_put_text(struct p9_message *m, const char *text);
uint64_t p9_get(struct p9_message *m, unsigned bytes);
void p9_get_qid(struct p9_message *m, struct p9_qid *qid);
/* A text of the answer, cut to size - 1; its length. */
int p9_get_text(struct p9_message *m, char *text, size_t size);

/* Ask and wait. 0, or a negative errno: the server's, or -EIO if the answer makes no sense. */
int p9_ask(struct p9 *p, struct p9_message *m);
/* The same with data that goes behind the message, or comes behind the answer's count: *got bytes
 * of it came. */
int p9_ask_data(struct p9 *p, struct p9_message *m, const void *out, void *in, uint32_t n,
                uint32_t *got);

#endif
