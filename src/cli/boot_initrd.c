/* ashlar boot --app: is it a program for the unikernel? And the initramfs that it travels in: a
 * "newc" cpio archive, as cpio(5) describes it. */
#include "cli/boot.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the program ----------------------------------------------------------------------- */

enum { MAX_HEADERS = 1024 };

/* Read exactly size bytes at offset; false if they are not all there. */
static bool read_at(int fd, void *out, size_t size, uint64_t offset)
{
    if (offset > INT64_MAX - size)
        return false;
    return pread(fd, out, size, (off_t)offset) == (ssize_t)size;
}

/* A dynamic section is fine (static-pie has one) unless it names a library. */
static bool needs_library(int fd, const Elf64_Phdr *segment)
{
    Elf64_Dyn entry;
    for (uint64_t at = 0; at + sizeof(entry) <= segment->p_filesz; at += sizeof(entry)) {
        if (!read_at(fd, &entry, sizeof(entry), segment->p_offset + at) || entry.d_tag == DT_NULL)
            return false;
        if (entry.d_tag == DT_NEEDED)
            return true;
    }
    return false;
}

static const char *why_not_header(int fd, Elf64_Ehdr *e)
{
    if (!read_at(fd, e, sizeof(*e), 0) || memcmp(e->e_ident, ELFMAG, SELFMAG))
        return "not an ELF program";
    if (e->e_ident[EI_CLASS] != ELFCLASS64 || e->e_ident[EI_DATA] != ELFDATA2LSB ||
        e->e_machine != EM_X86_64)
        return "not a program for x86-64";
    if (e->e_type != ET_EXEC && e->e_type != ET_DYN)
        return "an ELF file, but not a program (an object that is not linked?)";
    if (!e->e_entry)
        return "has no entry point (a shared library?)";
    if (e->e_phentsize != sizeof(Elf64_Phdr) || !e->e_phnum || e->e_phnum > MAX_HEADERS)
        return "malformed program headers";
    return NULL;
}

/* NULL if the unikernel can run it. */
static const char *why_not(int fd)
{
    static const char dynamic[] = "dynamically linked; link it with -static or -static-pie";
    Elf64_Ehdr e;
    bool loads = false;
    const char *why = why_not_header(fd, &e);
    if (why)
        return why;
    for (unsigned i = 0; i < e.e_phnum; i++) {
        Elf64_Phdr p;
        if (e.e_phoff > INT64_MAX / 2 || !read_at(fd, &p, sizeof(p), e.e_phoff + i * sizeof(p)))
            return "cut short: its program headers are missing";
        if (p.p_type == PT_INTERP || (p.p_type == PT_DYNAMIC && needs_library(fd, &p)))
            return dynamic;
        loads |= p.p_type == PT_LOAD;
    }
    return loads ? NULL : "has nothing to load";
}

int boot_check_program(const struct cli *cli, const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return cli_failed(cli, "--app %s: %s", path,
                          errno == ENOENT ? "no such file" : strerror(errno));
    const char *why = fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ? "not a file"
                      : st.st_size > UINT32_MAX                  ? "over 4 GiB"
                                                                 : why_not(fd);
    close(fd);
    return why ? cli_failed(cli, "--app %s: %s", path, why) : CLI_OK;
}

/* ---- the archive ----------------------------------------------------------------------- */

static void pad(FILE *out, size_t written)
{
    for (; written % 4; written++)
        fputc(0, out);
}

/* The header of an entry and its name. */
static void put_entry(FILE *out, const char *name, unsigned mode, uint32_t size)
{
    static const unsigned none;
    static unsigned inode; /* they only have to differ */
    size_t name_size = strlen(name) + 1;
    int written = fprintf(out, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
                          ++inode, mode, none, none, S_ISDIR(mode) ? 2u : 1u, none, size, none,
                          none, none, none, (unsigned)name_size, none);
    fwrite(name, 1, name_size, out);
    pad(out, (written < 0 ? 0 : (size_t)written) + name_size);
}

/* Copy exactly size bytes; false if the file has become shorter. */
static bool put_contents(FILE *out, FILE *in, uint32_t size)
{
    char buffer[65536];
    for (uint32_t left = size; left;) {
        size_t n = left < sizeof(buffer) ? left : sizeof(buffer);
        if (fread(buffer, 1, n, in) != n)
            return false;
        fwrite(buffer, 1, n, out);
        left -= (uint32_t)n;
    }
    pad(out, size);
    return true;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool put_archive(FILE *out, FILE *in, const char *program)
{
    char name[NAME_MAX + 8];
    struct stat st;
    if (fstat(fileno(in), &st) < 0 || st.st_size > UINT32_MAX)
        return false;
    snprintf(name, sizeof(name), "bin/%s", base_name(program));
    put_entry(out, "bin", S_IFDIR | 0755, 0);
    put_entry(out, "dev", S_IFDIR | 0755, 0);
    put_entry(out, "tmp", S_IFDIR | 01777, 0);
    put_entry(out, name, S_IFREG | 0755, (uint32_t)st.st_size);
    if (!put_contents(out, in, (uint32_t)st.st_size))
        return false;
    put_entry(out, "TRAILER!!!", 0, 0);
    return true;
}

int boot_pack_program(const struct cli *cli, const char *program, const char *archive)
{
    FILE *in = fopen(program, "re");
    FILE *out = in ? fopen(archive, "wxe") : NULL;
    int code = CLI_OK;
    if (!in)
        code = cli_failed(cli, "--app %s: %s", program, strerror(errno));
    else if (!out)
        code = cli_failed(cli, "%s: %s", archive, strerror(errno));
    else if (!put_archive(out, in, program))
        code = cli_failed(cli, "--app %s: cannot be read as a whole", program);
    bool bad = out && ferror(out);
    bad |= out && fclose(out) != 0;
    if (bad && code == CLI_OK)
        code = cli_failed(cli, "%s: %s", archive, strerror(errno));
    if (in)
        fclose(in);
    return code;
}
