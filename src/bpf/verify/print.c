/* bpf/verify/print.c: instructions and states in words, for logs. */
#include <stdio.h>

#include "bpf/verify/verify.h"

/* The source line, and the instruction. */
void verify_print_insn(struct verifier *v, struct bpf_log *log, uint32_t insn)
{
    const struct bpf_line *line = bpf_code_line(v->code, insn);
    const struct bpf_function_info *function = bpf_code_function(v->code, insn);
    char text[BPF_TEXT_SIZE];
    if (!log)
        return;
    bpf_insn_text(v->code, insn, text);
    if (line)
        bpf_log_add(log, "; %s  (%s:%u in %s)\n", line->text, line->file, (unsigned)line->line,
                    function ? function->name : "?");
    bpf_log_add(log, "%u: %s\n", (unsigned)insn, text);
}

static void print_value(struct verifier *v, struct bpf_log *log, const struct state *s,
                        const struct value *value)
{
    char text[SCALAR_TEXT];
    struct scalar range = value_range(s, value);
    int64_t offset = range.all.smin;
    switch (value->kind) {
    case VALUE_SCALAR:
        scalar_text(&range, text);
        bpf_log_add(log, "%s", text);
        break;
    case VALUE_FUNCTION:
        bpf_log_add(log, "function at %u", value->id);
        break;
    case VALUE_STALE:
        bpf_log_add(log, "unusable since %u", value->id);
        break;
    default:
        if (value->span == BPF_SPAN_STACK && value->frame != s->depth)
            bpf_log_add(log, "fp of call %u", value->frame);
        else if (value->span == BPF_SPAN_STACK)
            bpf_log_add(log, "fp");
        else if (value->id)
            bpf_log_add(log, "%s[%llu]#%u", v->prog->layout.spans[value->span].name,
                        (unsigned long long)value->size, value->id);
        else
            bpf_log_add(log, "%s", v->prog->layout.spans[value->span].name);
        if (value->span == BPF_SPAN_STACK) {
            struct scalar size = scalar_const(BPF_FRAME_SIZE);
            range = scalar_alu(0x10 /* BPF_SUB */, false, false, &range, &size);
            offset -= BPF_FRAME_SIZE;
        }
        scalar_text(&range, text);
        if (!scalar_is_const(&range))
            bpf_log_add(log, "+(%s)", text);
        else if (offset)
            bpf_log_add(log, "%+lld", (long long)offset);
        if (value->nullable)
            bpf_log_add(log, " or 0");
    }
}

/* Only of the function that runs. */
void verify_print_state(struct verifier *v, struct bpf_log *log, const struct state *s)
{
    const struct frame *f = s->frames[s->depth];
    if (!log)
        return;
    bpf_log_add(log, "  ");
    for (unsigned r = 0; r < BPF_FP; r++) {
        if (f->regs[r].kind == VALUE_NONE)
            continue;
        bpf_log_add(log, " r%u=", r);
        print_value(v, log, s, &f->regs[r]);
    }
    for (unsigned slot = 0; slot < f->used; slot++) {
        if (f->slots[slot].value.kind != VALUE_NONE) {
            bpf_log_add(log, " fp-%u=", (slot + 1) * 8);
            print_value(v, log, s, &f->slots[slot].value);
        } else if (f->slots[slot].init) {
            bpf_log_add(log, " fp-%u:", (slot + 1) * 8);
            for (unsigned i = 0; i < 8; i++)
                bpf_log_add(log, "%c", f->slots[slot].init >> i & 1 ? 'm' : '-');
        }
    }
    bpf_log_add(log, s->depth ? " (call %u)\n" : "\n", s->depth);
}
