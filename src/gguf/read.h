/* gguf/read.h: a stream of bytes from a device, checked against its end; and the reader's struct.
 */
#ifndef GGUF_READ_H
#define GGUF_READ_H

#include <ashlar/blk_driver.h>
#include <ashlar/gguf.h>

enum { GGUF_WINDOW = 65536 };

struct gguf_entry {  /* of a tensor: what is kept of the table */
    uint64_t offset; /* from the start of the data */
    uint64_t bytes;
};

struct gguf {
    struct blk *dev;
    struct blk_queue *queue;
    uint64_t start; /* of the file, on the device */
    uint64_t limit; /* bytes that the file may have at most */
    struct gguf_info info;
    uint64_t metadata_at, tensors_at; /* from the start of the file */
    struct gguf_entry *entries;       /* by offset, once they are sorted */

    uint64_t at; /* the stream: the next byte, from the start of the file */
    uint64_t window_at;
    size_t window_size;
    char *window; /* GGUF_WINDOW bytes */
    struct blk_error *err;
};

/* Read n bytes at the stream's place. 0, or an error that is set in g->err. */
int gguf_bytes(struct gguf *g, void *data, size_t n);
int gguf_u32(struct gguf *g, uint32_t *value);
int gguf_u64(struct gguf *g, uint64_t *value);
int gguf_skip(struct gguf *g, uint64_t n);
/* A string, cut to size - 1 bytes; *length is its own. */
int gguf_text(struct gguf *g, char *text, size_t size, uint64_t *length);
/* Set the message: "byte N: ..." */
int gguf_bad(struct gguf *g, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* One pair from the stream; the stream is behind its key and, for an array, its head. */
int gguf_pair(struct gguf *g, struct gguf_value *value);
/* Go behind what is left of a pair: the elements of an array. */
int gguf_skip_rest(struct gguf *g, const struct gguf_value *value);
/* A single value of a type that is no array. */
int gguf_scalar(struct gguf *g, enum gguf_type type, struct gguf_value *value);
/* One line of the table of tensors. */
int gguf_line(struct gguf *g, struct gguf_tensor *tensor, uint64_t *elements);

#endif
