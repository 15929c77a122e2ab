/* Lines of the source, from the sections .BTF (texts) and .BTF.ext (where they belong). */
#include "bpf/elf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "base/util.h"

enum { BTF_MAGIC = 0xeb9f, BTF_VERSION = 1 };
enum { BTF_HEADER = 24, EXT_HEADER = 24, GROUP_HEADER = 8, LINE_SIZE = 16 };

static int warn(const struct bpf_loader *l, const char *what)
{
    bpf_log_add(l->log, "warning: no source lines: %s\n", what);
    return -EINVAL;
}

/* Magic number, version, and a header that fits; *header: its size. */
static bool has_header(const uint8_t *start, uint64_t size, uint32_t least, uint32_t *header)
{
    if (size < least || (load_le32(start) & 0xffff) != BTF_MAGIC || start[2] != BTF_VERSION)
        return false;
    *header = load_le32(start + 4);
    return *header >= least && *header <= size;
}

void bpf_btf_strings(const struct bpf_loader *l, const struct bpf_elf_section *btf,
                     uint64_t *offset, uint64_t *size)
{
    const uint8_t *start = l->file + btf->offset;
    uint32_t header;
    if (btf->type != ELF_SECTION_PROGBITS || !has_header(start, btf->size, BTF_HEADER, &header))
        return;
    const uint32_t at = load_le32(start + 16), len = load_le32(start + 20);
    if (!range_ok(at, len, btf->size - header))
        return;
    *offset = btf->offset + header + at;
    *size = len;
}

/* ---- lines ------------------------------------------------------------------------------ */

/* One table of lines: groups, each of one section of code. */
struct lines {
    const uint8_t *at, *end;
    uint32_t record; /* bytes of one */
    struct bpf_line *out;
    uint32_t count;
    uint32_t groups;
};

/* false: not sound. */
static bool read_line(const struct bpf_loader *l, const struct bpf_elf_section *code,
                      struct lines *t)
{
    const uint32_t offset = load_le32(t->at), where = load_le32(t->at + 12);
    const char *file = bpf_elf_text(l, &l->btf_strings, load_le32(t->at + 4));
    const char *text = bpf_elf_text(l, &l->btf_strings, load_le32(t->at + 8));
    if (!file || !text || offset % sizeof(struct bpf_insn) || offset >= code->size)
        return false;
    struct bpf_line *line = &t->out[t->count];
    *line = (struct bpf_line){
        .insn = (uint32_t)((code->base + offset) / sizeof(struct bpf_insn)),
        .line = where >> 10,
        .column = where & 1023,
        .file = file,
        .text = text + strspn(text, " "),
    };
    t->count++;
    return true;
}

static int read_group(const struct bpf_loader *l, struct lines *t)
{
    if (t->end - t->at < GROUP_HEADER)
        return warn(l, ".BTF.ext: a group of lines is cut off");
    if (t->groups++ == l->section_count)
        return warn(l, ".BTF.ext: more groups of lines than sections");
    const char *name = bpf_elf_text(l, &l->btf_strings, load_le32(t->at));
    const uint32_t count = load_le32(t->at + 4);
    t->at += GROUP_HEADER;
    if ((uint64_t)count * t->record > (uint64_t)(t->end - t->at))
        return warn(l, ".BTF.ext: fewer lines than it says");
    const struct bpf_elf_section *code = name ? bpf_elf_find(l, name) : NULL;
    if (!code || code->place != BPF_PLACE_CODE)
        return warn(l, ".BTF.ext: lines of a section that is no code");
    for (uint32_t i = 0; i < count; i++, t->at += t->record)
        if (!read_line(l, code, t))
            return warn(l, ".BTF.ext: a line of no instruction");
    return 0;
}

/* The table; 0 with count 0 in *t if there is none. */
static int find_lines(const struct bpf_loader *l, struct lines *t)
{
    const struct bpf_elf_section *s = bpf_elf_find(l, ".BTF.ext");
    uint32_t header;
    if (!s)
        return 0;
    const uint8_t *start = l->file + s->offset;
    if (s->type != ELF_SECTION_PROGBITS || !has_header(start, s->size, EXT_HEADER, &header))
        return warn(l, ".BTF.ext: not of version 1");
    if (!l->btf_strings.size)
        return warn(l, ".BTF: it has no texts");
    const uint32_t offset = load_le32(start + 16), size = load_le32(start + 20);
    if (!size)
        return 0;
    if (!range_ok(offset, size, s->size - header) || size < 4)
        return warn(l, ".BTF.ext: its lines are not in the section");
    t->at = start + header + offset + 4;
    t->end = start + header + offset + size;
    t->record = load_le32(t->at - 4);
    if (t->record < LINE_SIZE)
        return warn(l, ".BTF.ext: lines of an unknown size");
    return 0;
}

static int compare_lines(const void *a, const void *b)
{
    const struct bpf_line *x = a, *y = b;
    return x->insn < y->insn ? -1 : x->insn > y->insn;
}

int bpf_btf_lines(struct bpf_loader *l)
{
    struct lines t = {0};
    if (find_lines(l, &t) < 0 || !t.record)
        return 0;
    t.out = base_alloc_array((size_t)(t.end - t.at) / t.record + 1, sizeof(*t.out));
    if (!t.out)
        return -ENOMEM;
    while (t.at < t.end)
        if (read_group(l, &t) < 0) {
            base_free(t.out);
            return 0;
        }
    qsort(t.out, t.count, sizeof(*t.out), compare_lines);
    l->code->lines = t.out;
    l->code->line_count = t.count;
    return 0;
}
