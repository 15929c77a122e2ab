/* The server: a thread that accepts, workers that serve, and the end. */
#include "linux/nbd/server.h"

#include <ashlar/blk_driver.h>

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/platform.h"
#include "base/util.h"
#include "linux/nbd/listen.h"
#include "linux/nbd/worker.h"

enum { MAX_THREADS = 256, DEFAULT_THREADS = 4, RETRY_MS = 100 };

struct nbd_server {
    struct nbd_service service;
    struct nbd_export *exports;
    char *zeroes;
    unsigned max_connections;
    struct nbd_listener listener; /* used by the acceptor alone until it ends */
    struct base_thread acceptor;
    int stop; /* eventfd: the acceptor ends */
    struct nbd_shared shared;
    struct nbd_worker *workers;
    unsigned worker_count;
};

/* ---- accepting ------------------------------------------------------------------------- */

static struct nbd_worker *least_loaded(struct nbd_server *s)
{
    struct nbd_worker *best = &s->workers[0];
    unsigned least = UINT32_MAX;
    for (unsigned i = 0; i < s->worker_count; i++) {
        unsigned load = __atomic_load_n(&s->workers[i].load, __ATOMIC_RELAXED);
        if (load < least) {
            least = load;
            best = &s->workers[i];
        }
    }
    return best;
}

static void welcome(struct nbd_server *s, int fd)
{
    if (__atomic_fetch_add(&s->shared.connections, 1, __ATOMIC_RELAXED) < s->max_connections) {
        struct nbd_conn *c = nbd_conn_new(&s->service, fd);
        if (c) {
            nbd_worker_give(least_loaded(s), c);
            return;
        }
    }
    base_log(BASE_LOG_INFO, "nbd: a client was turned away: %u connections are open",
             s->max_connections);
    __atomic_fetch_sub(&s->shared.connections, 1, __ATOMIC_RELAXED);
    close(fd);
}

static void accept_all(void *arg)
{
    struct nbd_server *s = arg;
    struct pollfd p[] = {{.fd = s->stop, .events = POLLIN},
                         {.fd = s->listener.fd, .events = POLLIN}};
    while (!p[0].revents) {
        if (poll(p, 2, -1) < 0 || p[0].revents || !p[1].revents)
            continue;
        int fd = nbd_accept(&s->listener);
        if (fd >= 0)
            welcome(s, fd);
        else if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM || fd == -ENOBUFS)
            poll(p, 1, RETRY_MS); /* until others have left */
    }
    nbd_listen_close(&s->listener);
    __atomic_store_n(&s->shared.stopping, true, __ATOMIC_RELEASE);
    __atomic_store_n(&s->shared.accepting, false, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < s->worker_count; i++)
        nbd_worker_wake(&s->workers[i]);
}

/* ---- start ----------------------------------------------------------------------------- */

static int copy_config(struct nbd_server *s, const struct nbd_server_config *config)
{
    s->exports = base_alloc_array(config->export_count, sizeof(*s->exports));
    s->zeroes = base_alloc_aligned(BASE_PAGE, NBD_ZEROES);
    unsigned cpus = (unsigned)min_u64(base_cpu_count(), DEFAULT_THREADS);
    s->worker_count = config->threads ? config->threads : cpus;
    s->workers = base_alloc_array(s->worker_count, sizeof(*s->workers));
    if (!s->exports || !s->zeroes || !s->workers)
        return -ENOMEM;
    memcpy(s->exports, config->exports, config->export_count * sizeof(*s->exports));
    s->max_connections =
        config->max_connections ? config->max_connections : NBD_DEFAULT_CONNECTIONS;
    s->service = (struct nbd_service){
        .exports = s->exports,
        .export_count = config->export_count,
        .tls = config->tls,
        .require_tls = config->require_tls,
        .patience = config->patience ? config->patience : NBD_DEFAULT_PATIENCE,
        .zeroes = s->zeroes,
    };
    return 0;
}

static void free_server(struct nbd_server *s)
{
    if (s->stop >= 0)
        close(s->stop);
    base_free(s->workers);
    base_free(s->zeroes);
    base_free(s->exports);
    base_free(s);
}

/* Workers first, then who gives them work. */
static int start_threads(struct nbd_server *s)
{
    unsigned started = 0;
    int error = 0;
    s->shared.accepting = true;
    for (; started < s->worker_count; started++)
        if ((error = nbd_worker_start(&s->workers[started], &s->shared)) < 0)
            break;
    if (error == 0)
        error = base_thread_start(&s->acceptor, accept_all, s, -1);
    if (error == 0)
        return 0;
    __atomic_store_n(&s->shared.accepting, false, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < started; i++) {
        nbd_worker_wake(&s->workers[i]);
        nbd_worker_join(&s->workers[i]);
    }
    return error;
}

static int check_config(const struct nbd_server_config *config, struct blk_error *err)
{
    if (!config->export_count)
        return blk_error_set(err, -EINVAL, "nothing to export");
    if (config->threads > MAX_THREADS)
        return blk_error_set(err, -EINVAL, "at most %d threads", MAX_THREADS);
    if (config->require_tls && !config->tls)
        return blk_error_set(err, -EINVAL, "TLS is required but not configured");
    return 0;
}

int nbd_server_start(const struct nbd_server_config *config, struct nbd_server **server,
                     struct blk_error *err)
{
    *server = NULL;
    int error = check_config(config, err);
    if (error < 0)
        return error;
    struct nbd_server *s = base_alloc(sizeof(*s));
    if (!s)
        return blk_error_set(err, -ENOMEM, "out of memory");
    s->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    error = s->stop < 0 ? -errno : copy_config(s, config);
    if (error < 0) {
        free_server(s);
        return blk_error_set(err, error, "cannot start: %s", strerror(-error));
    }
    error = config->listen ? nbd_listen_tcp(&s->listener, config->listen, err)
                           : nbd_listen_unix(&s->listener, config->socket_path, err);
    if (error < 0) {
        free_server(s);
        return error;
    }
    error = start_threads(s);
    if (error < 0) {
        nbd_listen_close(&s->listener);
        free_server(s);
        return blk_error_set(err, error, "cannot start threads: %s", strerror(-error));
    }
    *server = s;
    return 0;
}

const char *nbd_server_uri(const struct nbd_server *server)
{
    return server->listener.uri;
}

/* ---- end ------------------------------------------------------------------------------- */

void nbd_server_stop(struct nbd_server *s)
{
    uint64_t one = 1;
    int saved = errno;
    while (write(s->stop, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
    errno = saved;
}

static int flush_device(struct blk *dev)
{
    struct blk_queue *q;
    if (blk_info(dev)->read_only)
        return 0;
    int error = blk_queue_open(dev, 1, &q);
    if (error < 0)
        return error;
    error = blk_flush(q);
    blk_queue_close(q);
    return error;
}

int nbd_server_wait(struct nbd_server *s, struct blk_error *err)
{
    int error = 0;
    base_thread_join(&s->acceptor);
    for (unsigned i = 0; i < s->worker_count; i++)
        nbd_worker_join(&s->workers[i]);
    for (unsigned i = 0; i < s->service.export_count; i++) {
        struct blk *dev = s->exports[i].dev;
        int e = flush_device(dev);
        if (e < 0 && error == 0)
            error = blk_error_set(err, e, "%s: flush: %s", blk_spec(dev), strerror(-e));
    }
    free_server(s);
    return error;
}
