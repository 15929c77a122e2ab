/* Records of served devices: small JSON files. */
#include "cli/ublk.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_DEVICES = 4096, MAX_FILE = 64 << 10 };

/* ---- the folder ------------------------------------------------------------------------ */

/* A folder of ours that no other may write to. */
static bool make_folder(const char *path, mode_t mode)
{
    struct stat st;
    if (mkdir(path, mode) < 0 && errno != EEXIST)
        return false;
    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() &&
           !(st.st_mode & (S_IWGRP | S_IWOTH));
}

/* The folder of the records; with make, it is there afterwards. */
static bool find_folder(char out[PATH_MAX], bool make)
{
    char parent[PATH_MAX - 16];
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    mode_t mode = geteuid() ? 0700 : 0755;
    if (!geteuid())
        snprintf(parent, sizeof(parent), "/run/ashlar");
    else if (runtime && *runtime == '/')
        snprintf(parent, sizeof(parent), "%s/ashlar", runtime);
    else
        snprintf(parent, sizeof(parent), "/tmp/ashlar-%u", (unsigned)geteuid());
    snprintf(out, PATH_MAX, "%s/ublk", parent);
    return !make || (make_folder(parent, mode) && make_folder(out, mode));
}

static bool find_file(int id, char out[PATH_MAX], bool make)
{
    char folder[PATH_MAX - 32];
    char whole[PATH_MAX];
    bool ok = find_folder(whole, make);
    snprintf(folder, sizeof(folder), "%.*s", (int)sizeof(folder) - 1, whole);
    snprintf(out, PATH_MAX, "%s/%d.json", folder, id);
    return ok;
}

/* ---- records --------------------------------------------------------------------------- */

int ublk_record_write(const struct ublk_record *r, char why[256])
{
    char file[PATH_MAX];
    if (!find_file(r->id, file, true)) {
        snprintf(why, 256, "the folder of %.180s cannot be used: %s", file, strerror(errno));
        return -1;
    }
    json_t *o =
        json_pack("{s:i, s:i, s:b, s:s, s:s, s:s}", "id", r->id, "pid", (int)r->pid, "read_only",
                  r->read_only, "name", r->name, "folder", r->folder, "spec", r->spec);
    char *text = o ? json_dumps(o, JSON_INDENT(1)) : NULL;
    size_t len = text ? strlen(text) : 0;
    unlink(file); /* an old one may be a link, or another's */
    int fd = text ? open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644) : -1;
    bool ok = fd >= 0 && write(fd, text, len) == (ssize_t)len;
    snprintf(why, 256, "%.200s: %s", file, text ? strerror(errno) : "not UTF-8");
    if (fd >= 0)
        close(fd);
    free(text);
    json_decref(o);
    return ok ? 0 : -1;
}

static bool get_text(const json_t *o, const char *name, char *out, size_t size)
{
    const char *text = json_string_value(json_object_get(o, name));
    if (!text || strlen(text) >= size)
        return false;
    snprintf(out, size, "%s", text);
    return true;
}

static bool parse(const json_t *o, int id, struct ublk_record *r)
{
    const json_t *pid = json_object_get(o, "pid"), *number = json_object_get(o, "id");
    const json_t *read_only = json_object_get(o, "read_only");
    if (!json_is_integer(pid) || !json_is_integer(number) || !json_is_boolean(read_only) ||
        json_integer_value(number) != id || json_integer_value(pid) < 1 ||
        json_integer_value(pid) > INT_MAX)
        return false;
    r->id = id;
    r->pid = (pid_t)json_integer_value(pid);
    r->read_only = json_is_true(read_only);
    return get_text(o, "name", r->name, sizeof(r->name)) &&
           get_text(o, "folder", r->folder, sizeof(r->folder)) &&
           get_text(o, "spec", r->spec, sizeof(r->spec));
}

bool ublk_record_read(int id, struct ublk_record *r)
{
    char file[PATH_MAX];
    struct stat st;
    json_error_t error;
    find_file(id, file, false);
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return false;
    bool ok = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
              st.st_size <= MAX_FILE;
    json_t *o = ok ? json_loadfd(fd, 0, &error) : NULL;
    close(fd);
    ok = o && parse(o, id, r);
    json_decref(o);
    return ok;
}

void ublk_record_remove(int id)
{
    char file[PATH_MAX];
    find_file(id, file, false);
    unlink(file);
}

/* ---- names ----------------------------------------------------------------------------- */

/* The device with this name that is there; -1: none. */
static int named(const char *name)
{
    struct ublk_record *r = malloc(sizeof(*r));
    int *ids = calloc(MAX_DEVICES, sizeof(*ids));
    unsigned n = r && ids ? ublk_list(ids, MAX_DEVICES) : 0;
    int found = -1;
    for (unsigned i = 0; i < n && found < 0; i++)
        if (ublk_record_read(ids[i], r) && !strcmp(r->name, name))
            found = ids[i];
    free(ids);
    free(r);
    return found;
}

bool ublk_record_taken(const char *name)
{
    return named(name) >= 0;
}

int ublk_record_find(struct cli *cli, const char *operand)
{
    size_t digits = strspn(operand, "0123456789");
    if (*operand && !operand[digits] && digits < 8)
        return atoi(operand);
    int id = named(operand);
    if (id < 0)
        cli_failed(cli, "no device has the name '%s' ('ashlar ublk list' shows all)", operand);
    return id;
}
