/* Requests of a file by system calls, one after the other. */
#include "linux/file_execute.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/util.h"

/* All bytes of one buffer, however many calls it takes. */
static int transfer(int fd, const struct blk_req *r, char *data, size_t len, uint64_t offset)
{
    int flags = r->flags & BLK_FUA ? RWF_DSYNC : 0;
    while (len) {
        struct iovec v = {data, len};
        ssize_t n = r->op == BLK_READ ? pread(fd, data, len, (off_t)offset)
                                      : pwritev2(fd, &v, 1, (off_t)offset, flags);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO; /* 0: the file has shrunk */
        data += n;
        len -= (size_t)n;
        offset += (size_t)n;
    }
    return 0;
}

/* For filesystems that cannot do it themselves. */
static int write_zeroes(int fd, const struct blk_req *r)
{
    static char zeroes[64 << 10];
    int error = 0;
    for (uint64_t done = 0; error == 0 && done < r->len; done += sizeof(zeroes))
        error = transfer(fd, r, zeroes, min_u64(r->len - done, sizeof(zeroes)), r->offset + done);
    return error;
}

static int zero(int fd, const struct blk_req *r)
{
    int mode = FALLOC_FL_KEEP_SIZE |
               (r->flags & BLK_NO_UNMAP ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE);
    if (fallocate(fd, mode, (off_t)r->offset, (off_t)r->len) == 0)
        return r->flags & BLK_FUA && fdatasync(fd) < 0 ? -errno : 0;
    if (errno != EOPNOTSUPP || r->flags & BLK_FAST_ZERO)
        return -errno;
    return r->op == BLK_DISCARD ? 0 : write_zeroes(fd, r);
}

int file_execute(int fd, const struct blk_req *r)
{
    uint64_t offset = r->offset;
    int error = 0;
    if (r->op == BLK_FLUSH)
        return fdatasync(fd) < 0 ? -errno : 0;
    if (r->op == BLK_DISCARD || r->op == BLK_WRITE_ZEROES)
        return zero(fd, r);
    for (unsigned i = 0; error == 0 && i < r->niov; i++) {
        error = transfer(fd, r, r->iov[i].iov_base, r->iov[i].iov_len, offset);
        offset += r->iov[i].iov_len;
    }
    return error;
}
