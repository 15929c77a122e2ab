/* The NBD server inside a program: start, serve, stop, wait; with libnbd as the client. */
#include "test.h"

#include <libnbd.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "linux/nbd/server.h"

struct fixture {
    char folder[64];
    char path[100];
    struct blk *dev;
    struct nbd_server *server;
};

static void start(struct fixture *f, const char *spec, unsigned threads)
{
    struct blk_error err = {.text = ""};
    snprintf(f->folder, sizeof(f->folder), "/tmp/nbd-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->path, sizeof(f->path), "%s/socket", f->folder);
    f->dev = test_open(spec);
    const struct nbd_export e = {.name = "disk", .dev = f->dev};
    const struct nbd_server_config config = {
        .exports = &e, .export_count = 1, .socket_path = f->path, .threads = threads};
    if (nbd_server_start(&config, &f->server, &err) < 0)
        fail_msg("%s", err.text);
}

static int end(struct fixture *f, struct blk_error *err)
{
    struct stat st;
    nbd_server_stop(f->server);
    int error = nbd_server_wait(f->server, err);
    assert_int_equal(stat(f->path, &st), -1);
    assert_int_equal(blk_close(f->dev), 0);
    assert_int_equal(rmdir(f->folder), 0);
    return error;
}

static struct nbd_handle *client(const struct fixture *f)
{
    struct nbd_handle *h = nbd_create();
    assert_non_null(h);
    if (nbd_connect_unix(h, f->path) < 0)
        fail_msg("%s", nbd_get_error());
    return h;
}

static void serves_and_stops(void **state)
{
    (void)state;
    struct fixture f;
    char out[4096], back[4096];
    start(&f, "mem:16M", 3);
    assert_non_null(strstr(nbd_server_uri(f.server), f.path));
    for (unsigned round = 0; round < 20; round++) {
        struct nbd_handle *a = client(&f), *b = client(&f);
        memset(out, (int)round + 1, sizeof(out));
        assert_int_equal(nbd_get_size(a), 16 << 20);
        assert_int_equal(nbd_pwrite(a, out, sizeof(out), 8192, 0), 0);
        assert_int_equal(nbd_flush(a, 0), 0);
        assert_int_equal(nbd_pread(b, back, sizeof(back), 8192, 0), 0);
        assert_memory_equal(out, back, sizeof(out));
        if (round % 2)
            assert_int_equal(nbd_shutdown(a, 0), 0);
        nbd_close(a);
        nbd_close(b);
    }
    assert_int_equal(end(&f, NULL), 0);
}

/* With clients connected, idle and in the middle of the handshake. */
static void stops_under_clients(void **state)
{
    (void)state;
    struct fixture f;
    struct nbd_handle *idle[4];
    start(&f, "mem:16M", 2);
    for (unsigned i = 0; i < 4; i++)
        idle[i] = client(&f);
    struct nbd_handle *half = nbd_create();
    assert_int_equal(nbd_set_opt_mode(half, true), 0);
    assert_int_equal(nbd_connect_unix(half, f.path), 0);
    nbd_server_stop(f.server);
    assert_int_equal(end(&f, NULL), 0);
    char byte;
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(nbd_pread(idle[i], &byte, 1, 0, 0), -1);
        nbd_close(idle[i]);
    }
    nbd_close(half);
}

/* Without any client, at once. */
static void stops_at_once(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 50; i++) {
        struct fixture f;
        start(&f, "null:1M", 1 + i % 4);
        assert_int_equal(end(&f, NULL), 0);
    }
}

static void says_what_was_not_flushed(void **state)
{
    (void)state;
    struct fixture f;
    struct blk_error err;
    start(&f, "fault?op=flush&errno=ENOSPC,mem:1M", 1);
    assert_int_equal(end(&f, &err), -ENOSPC);
    assert_non_null(strstr(err.text, "flush"));
}

static void refuses(void **state)
{
    (void)state;
    struct fixture f;
    struct blk_error err;
    struct nbd_server *other;
    start(&f, "mem:1M", 1);
    const struct nbd_export e = {.name = "disk", .dev = f.dev};
    struct nbd_server_config config = {.exports = &e, .export_count = 1, .socket_path = f.path};
    assert_int_equal(nbd_server_start(&config, &other, &err), -EADDRINUSE);
    assert_null(other);
    config.socket_path = "/nowhere/at/all";
    assert_int_equal(nbd_server_start(&config, &other, &err), -ENOENT);
    char long_path[300];
    memset(long_path, 'x', sizeof(long_path) - 1);
    long_path[0] = '/';
    long_path[sizeof(long_path) - 1] = 0;
    config.socket_path = long_path;
    assert_int_equal(nbd_server_start(&config, &other, &err), -ENAMETOOLONG);
    config.listen = "nobody";
    assert_int_equal(nbd_server_start(&config, &other, &err), -EINVAL);
    config.require_tls = true;
    assert_int_equal(nbd_server_start(&config, &other, &err), -EINVAL);
    assert_int_equal(end(&f, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(serves_and_stops),
        cmocka_unit_test(stops_under_clients),
        cmocka_unit_test(stops_at_once),
        cmocka_unit_test(refuses),
        cmocka_unit_test(says_what_was_not_flushed),
    };
    return cmocka_run_group_tests_name("nbd_server", tests, NULL, NULL);
}
