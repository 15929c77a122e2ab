/* A 9P server that answers with any bytes: each answer takes its length, and its type if it wants
 * to look right, from the input. All fids are given back, whatever it says. */
#include <stdint.h>
#include <string.h>

#include "base/util.h"
#include "os/vfs/p9.h"
#include "os/vfs/vfs.h"

static const uint8_t *input;
static size_t left;

static size_t scatter(const struct iovec *in, unsigned nin, const uint8_t *from, size_t n)
{
    size_t done = 0;
    for (unsigned i = 0; i < nin && done < n; i++) {
        const size_t part = min_u64(in[i].iov_len, n - done);
        memcpy(in[i].iov_base, from + done, part);
        done += part;
    }
    return done;
}

static int answer(struct p9_transport *t, const struct iovec *out, unsigned nout,
                  const struct iovec *in, unsigned nin, uint32_t *got)
{
    uint8_t reply[600] = {0};
    const uint8_t *asked = out[0].iov_base;
    (void)t;
    (void)nout;
    if (left < 2)
        return -5;
    const uint8_t how = input[0];
    size_t n = min_u64((size_t)input[1] * 2, left - 2);
    input += 2;
    left -= 2;
    const uint8_t type = asked[4], tag[2] = {asked[5], asked[6]};
    memcpy(reply + 7, input, n);
    input += n;
    left -= n;
    n += 7;
    store_le32(reply, (uint32_t)(how & 1 ? n : n + how));
    reply[4] = how & 2 ? type + 1 : how & 4 ? 7 : how;
    memcpy(reply + 5, tag, 2);
    if (type == 100 && how & 8) { /* let the handshake pass */
        memcpy(reply + 7, "\0\0\1\0\10\0009P2000.L", 14);
        n = 21;
        store_le32(reply, 21);
    }
    *got = (uint32_t)scatter(in, nin, reply, n);
    return 0;
}

static struct p9_transport transport = {.tag = "t", .max_message = 65536, .call = answer};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool registered;
    static char buffer[100000];
    struct vfs_stat stat;
    struct vfs_statfs statfs;
    struct vfs_entry entry;
    struct vfs_file *file;
    if (!registered) {
        base_log_set_level(BASE_LOG_NONE);
        ramfs_register();
        p9fs_register();
        p9_transport_register(&transport);
        registered = true;
    }
    input = data;
    left = size;
    vfs_mount("none", "/", "ramfs", "");
    vfs_mkdir(NULL, "/s", 0755);
    if (vfs_mount("t", "/s", "9pfs", "") == 0) {
        vfs_stat(NULL, "/s/a", true, &stat);
        vfs_statfs(NULL, "/s", &statfs);
        if (vfs_open(NULL, "/s", VFS_O_RDONLY, 0, &file) == 0) {
            for (int i = 0; i < 5 && vfs_readdir(file, &entry) > 0; i++)
                ;
            vfs_close(file);
        }
        if (vfs_open(NULL, "/s/f", VFS_O_RDWR | VFS_O_CREAT, 0600, &file) == 0) {
            vfs_pread(file, buffer, sizeof(buffer), 0);
            vfs_pwrite(file, buffer, sizeof(buffer), 0);
            vfs_fsync(file);
            vfs_close(file);
        }
        vfs_readlink(NULL, "/s/l", buffer, 100);
        vfs_mkdir(NULL, "/s/d", 0700);
        vfs_rename(NULL, "/s/d", NULL, "/s/e");
        vfs_unlink(NULL, "/s/e", true);
        vfs_symlink("x", NULL, "/s/y");
    }
    vfs_fini();
    if (vfs_mount_at(0) || p9fs_fids())
        __builtin_trap();
    return 0;
}
