/*
 * ashlar/gguf.h: read a model in GGUF, versions 2 and 3, from any device, at any offset.
 *
 * After ggml's docs/gguf.md: a header, key-value metadata, a table of tensors, aligned tensor data;
 * all little-endian. Everything is checked against the device before it is used: counts, lengths,
 * types, alignment, and that tensors lie in the file and do not overlap.
 *
 * Memory does not grow with the file, but for 16 bytes a tensor: metadata and names are read again
 * when they are asked for. A struct gguf is used by one thread at a time; the device must stay open
 * longer. Errors are negative errno values with a message: -EILSEQ (not GGUF, or malformed),
 * -ENOTSUP (a version or byte order that is not read), -ENOMEM, the device's own.
 */
#ifndef ASHLAR_GGUF_H
#define ASHLAR_GGUF_H

#include <ashlar/blk.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gguf;

enum gguf_type { /* of metadata values: docs/gguf.md, enum gguf_metadata_value_type */
                 GGUF_UINT8,
                 GGUF_INT8,
                 GGUF_UINT16,
                 GGUF_INT16,
                 GGUF_UINT32,
                 GGUF_INT32,
                 GGUF_FLOAT32,
                 GGUF_BOOL,
                 GGUF_STRING,
                 GGUF_ARRAY,
                 GGUF_UINT64,
                 GGUF_INT64,
                 GGUF_FLOAT64,
};

struct gguf_info {
    uint32_t version;
    uint32_t alignment;
    uint64_t metadata; /* key-value pairs */
    uint64_t tensors;
    uint64_t parameters; /* elements of all tensors */
    uint64_t vocabulary; /* entries of tokenizer.ggml.tokens; 0: there are none */
    uint64_t data;       /* where tensor data begins, from the start of the file */
    uint64_t size;       /* of the file, to the end of the last tensor */
};

#define GGUF_NAME_MAX 64 /* of a tensor, with the zero at its end */

struct gguf_tensor {
    char name[GGUF_NAME_MAX];
    const char *type;    /* "Q4_K" */
    uint32_t dimensions; /* at most 4 */
    uint64_t dimension[4];
    uint64_t offset; /* from the start of the file */
    uint64_t bytes;
};

/* A metadata value. Integers are sign- or zero-extended in bits; floats are their bits; a string is
 * text, cut to what fits, whose whole length is count; an array has count elements of `element`. */
struct gguf_value {
    char key[128]; /* cut if longer */
    enum gguf_type type;
    enum gguf_type element;
    uint64_t bits;
    uint64_t count;
    char text[256];
};

/* Open the model that starts `offset` bytes into a device (and may end before it). */
ASHLAR_API int gguf_open(struct blk *dev, uint64_t offset, struct gguf **gguf,
                         struct blk_error *err);
ASHLAR_API void gguf_close(struct gguf *gguf);
ASHLAR_API const struct gguf_info *gguf_info(const struct gguf *gguf);

/* Call for each pair, tensor (in the order of the file) or element of an array of strings or
 * numbers; a value other than 0 ends it and is returned. */
ASHLAR_API int gguf_each_value(struct gguf *gguf,
                               int (*call)(void *arg, const struct gguf_value *value), void *arg,
                               struct blk_error *err);
ASHLAR_API int gguf_each_tensor(struct gguf *gguf,
                                int (*call)(void *arg, const struct gguf_tensor *tensor), void *arg,
                                struct blk_error *err);
ASHLAR_API int gguf_each_element(struct gguf *gguf, const char *key,
                                 int (*call)(void *arg, const struct gguf_value *element),
                                 void *arg, struct blk_error *err);

/* Read all tensor data. *crc is the CRC-32C of it, from the first byte of data to the end of the
 * file; *bytes how much that is. progress (may be NULL) is called now and then. */
ASHLAR_API int gguf_read_data(struct gguf *gguf, uint32_t *crc, uint64_t *bytes,
                              void (*progress)(void *arg, uint64_t done, uint64_t total), void *arg,
                              struct blk_error *err);

/* Go through all of a model and tell of it line by line: version, tensors, parameters, tensor data
 * with its checksum and speed, vocabulary. What `ashlar gguf verify` and the unikernel's
 * `loadmodel` print. 0, or a negative errno after a line with the reason. */
ASHLAR_API int gguf_load(struct blk *dev, uint64_t offset,
                         void (*line)(void *arg, const char *text), void *arg);

/* "float32" */
ASHLAR_API const char *gguf_type_name(enum gguf_type type);

#ifdef __cplusplus
}
#endif

#endif
