/*
 * The leanest NBD client there can be, so that what is measured is the server.
 *
 *   nbd_load SOCKET COUNT DEPTH SIZE read|write
 *
 * Keeps DEPTH requests in flight at random offsets, sends all that became free in one call, and
 * receives as much as there is in one call. Prints requests per second.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/platform.h"
#include "base/util.h"
#include "linux/nbd/proto.h"

enum { MAX_DEPTH = 256, IN_SIZE = 4 << 20 };

struct load {
    int fd;
    uint64_t count, size, export_size;
    unsigned depth;
    bool write;
    uint64_t sent, done, random;
    char *payload;
    char *in;
    size_t in_len; /* received, not yet looked at */
    uint64_t skip; /* data of the reply in progress */
};

static void die(const char *what)
{
    fprintf(stderr, "nbd_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void send_all(int fd, struct iovec *iov, size_t n)
{
    while (n) {
        struct msghdr m = {.msg_iov = iov, .msg_iovlen = n};
        ssize_t sent = sendmsg(fd, &m, MSG_NOSIGNAL);
        if (sent <= 0)
            die("send");
        for (; n && (size_t)sent >= iov->iov_len; n--, iov++)
            sent -= (ssize_t)iov->iov_len;
        if (n) {
            iov->iov_base = (char *)iov->iov_base + sent;
            iov->iov_len -= (size_t)sent;
        }
    }
}

static void receive_exactly(int fd, void *to, size_t len)
{
    if (recv(fd, to, len, MSG_WAITALL) != (ssize_t)len)
        die("receive");
}

/* The old way in: one option, simple replies. */
static void connect_to(struct load *l, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    uint8_t bytes[NBD_GREETING_SIZE], hello[20] = {0}, answer[10];
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    l->fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (l->fd < 0 || connect(l->fd, (void *)&address, sizeof(address)) < 0)
        die(path);
    receive_exactly(l->fd, bytes, sizeof(bytes));
    store_be32(hello, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    store_be64(hello + 4, NBD_OPTION_MAGIC);
    store_be32(hello + 12, NBD_OPT_EXPORT_NAME);
    struct iovec iov = {hello, sizeof(hello)};
    send_all(l->fd, &iov, 1);
    receive_exactly(l->fd, answer, sizeof(answer));
    l->export_size = load_be64(answer);
}

static void send_more(struct load *l)
{
    static uint8_t headers[MAX_DEPTH][NBD_REQUEST_SIZE];
    struct iovec iov[2 * MAX_DEPTH];
    size_t n = 0;
    for (unsigned i = 0; l->sent < l->count && l->sent - l->done < l->depth; i++, l->sent++) {
        uint8_t *h = headers[i];
        memset(h, 0, NBD_REQUEST_SIZE);
        store_be32(h, NBD_REQUEST_MAGIC);
        store_be16(h + 6, l->write ? NBD_CMD_WRITE : NBD_CMD_READ);
        store_be64(h + 8, l->sent);
        store_be64(h + 16, random_below(&l->random, l->export_size / l->size) * l->size);
        store_be32(h + 24, (uint32_t)l->size);
        iov[n++] = (struct iovec){h, NBD_REQUEST_SIZE};
        if (l->write)
            iov[n++] = (struct iovec){l->payload, l->size};
    }
    send_all(l->fd, iov, n);
}

static void receive_more(struct load *l)
{
    ssize_t got = recv(l->fd, l->in + l->in_len, IN_SIZE - l->in_len, 0);
    if (got <= 0)
        die("receive");
    l->in_len += (size_t)got;
    size_t at = 0;
    for (;;) {
        size_t part = min_u64(l->skip, l->in_len - at);
        at += part;
        l->skip -= part;
        if (l->skip || l->in_len - at < NBD_SIMPLE_REPLY_SIZE)
            break;
        if (load_be32(l->in + at) != NBD_SIMPLE_REPLY_MAGIC || load_be32(l->in + at + 4)) {
            errno = EIO;
            die("reply");
        }
        at += NBD_SIMPLE_REPLY_SIZE;
        l->skip = l->write ? 0 : l->size;
        l->done++; /* the data of a read is on its way */
    }
    memmove(l->in, l->in + at, l->in_len - at);
    l->in_len -= at;
}

int main(int argc, char **argv)
{
    struct load l = {.random = 1};
    if (argc != 6) {
        fprintf(stderr, "usage: nbd_load SOCKET COUNT DEPTH SIZE read|write\n");
        return 2;
    }
    l.count = strtoull(argv[2], NULL, 10);
    l.depth = (unsigned)strtoul(argv[3], NULL, 10);
    l.size = strtoull(argv[4], NULL, 10);
    l.write = !strcmp(argv[5], "write");
    l.payload = malloc(l.size);
    l.in = malloc(IN_SIZE);
    if (!l.payload || !l.in || l.depth < 1 || l.depth > MAX_DEPTH)
        return 2;
    memset(l.payload, 0x5a, l.size);
    connect_to(&l, argv[1]);
    uint64_t start = base_now_ns();
    while (l.done < l.count || l.skip) {
        send_more(&l);
        receive_more(&l);
    }
    double seconds = (double)(base_now_ns() - start) / 1e9;
    printf("%.0f\n", (double)l.count / seconds);
    return 0;
}
