/* linux/file_execute.h: a request of a file by system calls, for drivers. */
#ifndef LINUX_FILE_EXECUTE_H
#define LINUX_FILE_EXECUTE_H

#include <ashlar/blk.h>

/* Do it (not STATUS or what zones need) and return its result: 0 or a negative errno. Blocks. */
int file_execute(int fd, const struct blk_req *r);

#endif
