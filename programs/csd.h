/*
 * csd.h: what a program that runs beside the data can call. A whole program:
 *
 *     #include "csd.h"
 *
 *     int main(void)
 *     {
 *         uint64_t zeroes = 0;
 *         const void *data;
 *         int64_t n;
 *         while ((n = csd_next(&data, CSD_CHUNK)) > 0)
 *             for (uint32_t i = 0; i < n; i++)
 *                 zeroes += ((const uint8_t *)data)[i] == 0;
 *         bpf_return_data(&zeroes, sizeof(zeroes));
 *         return (int)n;
 *     }
 *
 *     clang -target bpf -O2 -mcpu=v3 -c zeroes.c -o zeroes.o
 *     ashlar csd run zeroes.o file:disk.img
 *
 * docs/csd.md explains each call, and what the verifier wants to see. Errors are negative errno
 * values. A program whose main() returns something else than 0 has failed.
 */
#ifndef CSD_PROGRAM_H
#define CSD_PROGRAM_H

typedef __INT8_TYPE__ int8_t;
typedef __INT16_TYPE__ int16_t;
typedef __INT32_TYPE__ int32_t;
typedef __INT64_TYPE__ int64_t;
typedef __UINT8_TYPE__ uint8_t;
typedef __UINT16_TYPE__ uint16_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __UINT64_TYPE__ uint64_t;

#define CSD_CHUNK     65536   /* a good size for csd_next() */
#define CSD_MAX_CHUNK 1048576 /* the largest */
#define CSD_MAX_KEEP  65536

#define CSD_HELPER static __attribute__((unused))

/* The compiler must not think about where a number comes from: what the program then compares it
 * with is compared, and a mask in front of an index stays. That is what the verifier looks at. */
#define csd_opaque(x) __asm__ volatile("" : "+r"(x))

/* ---- as for other computational devices ------------------------------------------------- */

/* Give data to the caller. Several calls give one piece after the other. */
CSD_HELPER void (*bpf_return_data)(void *data, uint64_t size) = (void *)1;

/* Read from a zone of the readable range: sector * sector size + offset is where. */
CSD_HELPER int (*bpf_read)(uint64_t zone, uint64_t sector, uint64_t offset, uint64_t size,
                           void *data) = (void *)2;

/* Append to a zone of the range to append to; *sector is where it landed. offset must be 0. */
CSD_HELPER int (*bpf_write)(uint64_t zone, uint64_t *sector, uint64_t offset, uint64_t size,
                            void *data) = (void *)3;

CSD_HELPER uint64_t (*bpf_get_sector_size)(void) = (void *)4;
CSD_HELPER uint64_t (*bpf_get_zone_capacity)(void) = (void *)5; /* sectors */
CSD_HELPER uint64_t (*bpf_get_zone_size)(void) = (void *)6;     /* sectors */

/* Memory of the program's own, zeroed. */
CSD_HELPER void (*bpf_get_mem_info)(void **mem_ptr, uint64_t *mem_size) = (void *)7;

/* What the caller passed; zeroes follow it. */
CSD_HELPER void (*bpf_get_call_info)(void **call) = (void *)8;

/* A line for the caller's log. */
CSD_HELPER void (*bpf_debug)(const char *string) = (void *)9;

/* ---- of Ashlar --------------------------------------------------------------------------- */

/* The next bytes of the readable range, at most max: *data points to them, and to max readable
 * bytes, until the next call. How many; 0 at the end. max must be a constant. The device reads on
 * while the program computes. */
CSD_HELPER int64_t (*csd_next)(const void **data, uint64_t max) = (void *)10;

/* The next chunk begins with the last bytes of this one: for what was cut in two. */
CSD_HELPER int (*csd_keep)(uint64_t bytes) = (void *)11;

/* Where csd_next() goes on, from the start of the readable range. */
CSD_HELPER int (*csd_seek)(uint64_t offset) = (void *)12;
CSD_HELPER uint64_t (*csd_tell)(void) = (void *)13;

CSD_HELPER uint64_t (*csd_range_size)(void) = (void *)14; /* bytes */

/* The caller's bytes, and how many. */
CSD_HELPER uint64_t (*csd_arg)(const void **arg) = (void *)15;

/* Append bytes to those appended before, from zone to zone. */
CSD_HELPER int (*csd_append)(const void *data, uint64_t size) = (void *)16;

/* Begin to read what bpf_read() will be asked for. */
CSD_HELPER int (*csd_prefetch)(uint64_t offset, uint64_t size) = (void *)17;

#endif
