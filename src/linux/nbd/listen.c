/* Listening sockets: unix and TCP. */
#include "linux/nbd/listen.h"

#include <ashlar/blk_driver.h>

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 128, SOCKET_BUFFER = 4 << 20 };

/* ---- unix ------------------------------------------------------------------------------ */

/* Whether a server answers at this address. */
static bool is_alive(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool alive = fd < 0 || connect(fd, (const void *)address, sizeof(*address)) == 0 ||
                 errno != ECONNREFUSED;
    close(fd);
    return alive;
}

static int replace_stale(const struct sockaddr_un *address, struct blk_error *err)
{
    struct stat st;
    if (lstat(address->sun_path, &st) < 0)
        return errno == ENOENT
                   ? 0
                   : blk_error_set(err, -errno, "%s: %s", address->sun_path, strerror(errno));
    if (!S_ISSOCK(st.st_mode))
        return blk_error_set(err, -EADDRINUSE, "%s: is a file that is no socket",
                             address->sun_path);
    if (is_alive(address))
        return blk_error_set(err, -EADDRINUSE, "%s: another server listens there",
                             address->sun_path);
    unlink(address->sun_path);
    return 0;
}

/* The mode is set before the name exists, so at no time may others connect. */
static int bind_unix(struct nbd_listener *l, const struct sockaddr_un *address,
                     struct blk_error *err)
{
    struct stat st;
    int error = replace_stale(address, err);
    if (error < 0)
        return error;
    l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->fd < 0 || fchmod(l->fd, 0600) < 0 ||
        bind(l->fd, (const void *)address, sizeof(*address)) < 0 || listen(l->fd, BACKLOG) < 0 ||
        lstat(address->sun_path, &st) < 0) {
        error = blk_error_set(err, -errno, "%s: %s", address->sun_path, strerror(errno));
        close(l->fd);
        return error;
    }
    l->device = st.st_dev;
    l->inode = st.st_ino;
    return 0;
}

/* The folder is locked meanwhile, so that of two servers that start at once one finds the other. */
static int bind_locked(struct nbd_listener *l, const struct sockaddr_un *address,
                       struct blk_error *err)
{
    char folder[sizeof(l->path)];
    snprintf(folder, sizeof(folder), "%s", l->path);
    *strrchr(folder, '/') = 0;
    int lock = open(*folder ? folder : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock < 0)
        return blk_error_set(err, -errno, "%s: %s", folder, strerror(errno));
    while (flock(lock, LOCK_EX) < 0 && errno == EINTR)
        ;
    int error = bind_unix(l, address, err);
    close(lock);
    return error;
}

int nbd_listen_unix(struct nbd_listener *l, const char *path, struct blk_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char *folder = *path == '/' ? NULL : getcwd(NULL, 0);
    size_t used = (size_t)snprintf(l->path, sizeof(l->path), "%s%s%s", folder ? folder : "",
                                   folder ? "/" : "", path);
    free(folder);
    if (used >= sizeof(address.sun_path))
        return blk_error_set(err, -ENAMETOOLONG, "%s: a socket's full path has at most %zu bytes",
                             path, sizeof(address.sun_path) - 1);
    memcpy(address.sun_path, l->path, used + 1);
    l->local = true;
    snprintf(l->uri, sizeof(l->uri), "nbd+unix:///?socket=%s", l->path);
    return bind_locked(l, &address, err);
}

/* ---- TCP ------------------------------------------------------------------------------- */

/* "ADDR:PORT" in two. */
static int split(const char *where, char *host, size_t size, const char **port,
                 struct blk_error *err)
{
    const char *colon = strrchr(where, ':');
    size_t len = colon ? (size_t)(colon - where) : 0;
    bool bracket = len > 2 && where[0] == '[' && where[len - 1] == ']';
    if (!colon || !len || !colon[1] || len >= size)
        return blk_error_set(err, -EINVAL,
                             "the address must be like 127.0.0.1:10809 or "
                             "[::1]:10809, not '%.100s'",
                             where);
    snprintf(host, size, "%.*s", (int)(bracket ? len - 2 : len), where + bracket);
    *port = colon + 1;
    return 0;
}

static int bind_tcp(struct nbd_listener *l, const struct addrinfo *a)
{
    int one = 1;
    l->fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->fd < 0)
        return -errno;
    setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(l->fd, a->ai_addr, a->ai_addrlen) == 0 && listen(l->fd, BACKLOG) == 0)
        return 0;
    int error = -errno;
    close(l->fd);
    return error;
}

static void put_tcp_uri(struct nbd_listener *l)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);
    char host[NI_MAXHOST] = "?", port[NI_MAXSERV] = "?";
    getsockname(l->fd, (void *)&address, &size);
    getnameinfo((void *)&address, size, host, sizeof(host) / 2, port, sizeof(port),
                NI_NUMERICHOST | NI_NUMERICSERV);
    bool six = strchr(host, ':');
    snprintf(l->uri, sizeof(l->uri), "nbd://%s%.500s%s:%s", six ? "[" : "", host, six ? "]" : "",
             port);
}

int nbd_listen_tcp(struct nbd_listener *l, const char *where, struct blk_error *err)
{
    char host[256];
    const char *port = NULL;
    struct addrinfo *list, hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    int error = split(where, host, sizeof(host), &port, err);
    if (error < 0)
        return error;
    int e = getaddrinfo(host, port, &hints, &list);
    if (e)
        return blk_error_set(err, -EINVAL, "%s: %s", where, gai_strerror(e));
    error = -EADDRNOTAVAIL;
    for (const struct addrinfo *a = list; a && error < 0; a = a->ai_next)
        error = bind_tcp(l, a);
    freeaddrinfo(list);
    if (error < 0)
        return blk_error_set(err, error, "%s: %s", where, strerror(-error));
    l->local = false;
    put_tcp_uri(l);
    return 0;
}

/* ---- either ---------------------------------------------------------------------------- */

int nbd_accept(const struct nbd_listener *l)
{
    int size = SOCKET_BUFFER, one = 1;
    int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return -errno;
    /* TCP sizes its own buffers better than we could. */
    if (l->local) {
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    } else {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    }
    return fd;
}

void nbd_listen_close(struct nbd_listener *l)
{
    struct stat st;
    if (l->local && lstat(l->path, &st) == 0 && st.st_dev == l->device && st.st_ino == l->inode)
        unlink(l->path);
    close(l->fd);
}
