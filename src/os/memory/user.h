/*
 * memory/user.h: the address space of the one program that runs, below USER_END.
 *
 * Areas of pages with rights; a page takes memory when it is first touched. The kernel reads and
 * writes a program's memory in place, after user_access() has looked at it. A program that unmaps
 * memory in one thread while another passes it to a system call harms itself: the machine panics.
 */
#ifndef OS_USER_H
#define OS_USER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { USER_READ = 1, USER_WRITE = 2, USER_EXEC = 4 }; /* PROT_READ, PROT_WRITE, PROT_EXEC */

#define USER_START    UINT64_C(0x10000)
#define USER_MAP_BASE UINT64_C(0x7f0000000000) /* where maps without an address go, upwards */

/* Map new zeroed pages. address: 0 or a wish, unless fixed; *address says where. 0, -ENOMEM,
 * -EEXIST (fixed, and something is there), -EINVAL. Sizes are rounded up to pages. */
int user_map(uint64_t *address, uint64_t size, unsigned rights, bool fixed);
int user_unmap(uint64_t address, uint64_t size);
int user_protect(uint64_t address, uint64_t size, unsigned rights);
/* Give pages back; they read as zeroes again. */
void user_discard(uint64_t address, uint64_t size);
/* Whether all of a range is mapped with these rights and has memory now. */
bool user_access(uint64_t address, uint64_t size, unsigned rights);
/* A text that ends within max bytes: its length, or -EFAULT, -ENAMETOOLONG. */
int64_t user_text(uint64_t address, size_t max);
/* Unmap everything. */
void user_reset(void);
uint64_t user_pages(void); /* that have memory */

#endif
