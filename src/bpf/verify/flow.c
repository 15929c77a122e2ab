/*
 * bpf/verify/flow.c: which instructions follow which, where the loops are, and which registers are
 * still needed.
 *
 * Loops are found from the outside in: the largest sets of instructions that all reach one another
 * are the outermost; one instruction of each is its head; without it, the same again gives those
 * inside. Each cycle goes through the head of some loop. (F. Bourdoncle, Efficient chaotic
 * iteration strategies with widenings, 1993.) Nothing here calls itself: a program can be deep.
 */
#include <errno.h>
#include <string.h>

#include "base/platform.h"
#include "base/util.h"
#include "bpf/verify/verify.h"

/* The instructions that may follow one; calls come back. */
static unsigned successors(const struct bpf_code *code, uint32_t i, uint32_t out[2])
{
    const struct bpf_insn *insn = &code->insns[i];
    unsigned class = BPF_CLASS(insn->opcode), op = BPF_OP(insn->opcode);
    out[0] = i + 1;
    if (insn->opcode == BPF_LDDW)
        out[0] = i + 2;
    if ((class != BPF_JMP && class != BPF_JMP32) || op == BPF_CALL)
        return 1;
    if (op == BPF_EXIT)
        return 0;
    if (op == BPF_JA) {
        out[0] = i + 1 + (uint32_t)(class == BPF_JMP ? insn->offset : insn->imm);
        return 1;
    }
    out[1] = i + 1 + (uint32_t)insn->offset;
    return out[1] == out[0] ? 1 : 2;
}

/* ---- loops ------------------------------------------------------------------------------- */

/* A part of nodes[] that waits to be put in order, in a loop or in none. */
struct part {
    uint32_t start, end;
    uint32_t head; /* of the loop that this is the rest of; NO_LOOP */
    uint32_t level;
};

struct walk {
    const struct bpf_code *code;
    uint32_t *nodes;          /* all instructions; in the end, in order */
    uint32_t *part_of;        /* which part a node is in, by number; 0: none */
    uint32_t *index, *lowest; /* of Tarjan's algorithm; index 0: not yet visited */
    uint32_t *stack;          /* nodes whose component is not complete */
    uint32_t *path;           /* nodes from the root to here */
    uint8_t *next;            /* which successor of a node on the path is looked at next */
    uint8_t *on_stack;
    uint32_t *sorted;        /* components, the last first */
    uint32_t *component_end; /* of a component, at its first node in sorted: where it ends */
    struct part *parts;
    uint32_t part_count, part_room;
    uint32_t numbered, sorted_count;
};

static int add_part(struct walk *w, struct part part)
{
    if (w->part_count == w->part_room) {
        uint32_t room = w->part_room ? w->part_room * 2 : 64;
        struct part *more = base_alloc_array(room, sizeof(*more));
        if (!more)
            return -ENOMEM;
        if (w->part_count)
            memcpy(more, w->parts, w->part_count * sizeof(*more));
        base_free(w->parts);
        w->parts = more;
        w->part_room = room;
    }
    w->parts[w->part_count++] = part;
    return 0;
}

static int add_loop(struct flow *flow, struct loop_shape loop)
{
    if (flow->loop_count == flow->loop_room) {
        uint32_t room = flow->loop_room ? flow->loop_room * 2 : 16;
        struct loop_shape *more = base_alloc_array(room, sizeof(*more));
        if (!more)
            return -ENOMEM;
        if (flow->loop_count)
            memcpy(more, flow->loops, flow->loop_count * sizeof(*more));
        base_free(flow->loops);
        flow->loops = more;
        flow->loop_room = room;
    }
    flow->loop[loop.head] = flow->loop_count;
    flow->loops[flow->loop_count++] = loop;
    return 0;
}

/* The components of a part that can be reached from root, onto sorted. */
static void visit(struct walk *w, uint32_t root, uint32_t part)
{
    uint32_t depth = 0, waiting = 0;
    w->path[depth++] = root;
    w->index[root] = w->lowest[root] = ++w->numbered;
    w->next[root] = 0;
    w->stack[waiting++] = root;
    w->on_stack[root] = 1;
    while (depth) {
        uint32_t n = w->path[depth - 1], to[2];
        unsigned count = successors(w->code, n, to);
        if (w->next[n] < count) {
            uint32_t m = to[w->next[n]++];
            if (w->part_of[m] != part)
                continue;
            if (w->index[m]) {
                if (w->on_stack[m] && w->index[m] < w->lowest[n])
                    w->lowest[n] = w->index[m];
                continue;
            }
            w->index[m] = w->lowest[m] = ++w->numbered;
            w->next[m] = 0;
            w->stack[waiting++] = m;
            w->on_stack[m] = 1;
            w->path[depth++] = m;
            continue;
        }
        depth--;
        if (depth && w->lowest[n] < w->lowest[w->path[depth - 1]])
            w->lowest[w->path[depth - 1]] = w->lowest[n];
        if (w->lowest[n] != w->index[n])
            continue;
        uint32_t m, first = w->sorted_count; /* a component is complete; n is its first node */
        w->sorted[w->sorted_count++] = n;
        do {
            m = w->stack[--waiting];
            w->on_stack[m] = 0;
            if (m != n)
                w->sorted[w->sorted_count++] = m;
        } while (m != n);
        w->component_end[first] = w->sorted_count;
    }
}

static bool jumps_to_itself(const struct bpf_code *code, uint32_t i)
{
    uint32_t to[2];
    unsigned count = successors(code, i, to);
    return (count > 0 && to[0] == i) || (count > 1 && to[1] == i);
}

/* Order one part; its loops, without their heads, become parts themselves. */
static int order_part(struct walk *w, struct flow *flow, uint32_t number)
{
    struct part part = w->parts[number];
    w->sorted_count = 0;
    w->numbered = 0;
    for (uint32_t i = part.start; i < part.end; i++) {
        w->part_of[w->nodes[i]] = number + 1;
        w->index[w->nodes[i]] = 0;
    }
    if (part.head != NO_LOOP) {
        uint32_t to[2];
        unsigned count = successors(w->code, part.head, to);
        for (unsigned i = 0; i < count; i++)
            if (w->part_of[to[i]] == number + 1 && !w->index[to[i]])
                visit(w, to[i], number + 1);
    }
    for (uint32_t i = part.start; i < part.end; i++)
        if (!w->index[w->nodes[i]])
            visit(w, w->nodes[i], number + 1);
    uint32_t at = part.end;
    for (uint32_t i = 0; i < w->sorted_count; i = w->component_end[i]) {
        uint32_t size = w->component_end[i] - i, head = w->sorted[i];
        at -= size;
        memcpy(w->nodes + at, w->sorted + i, size * sizeof(*w->nodes));
        if (size == 1 && !jumps_to_itself(w->code, head))
            continue;
        if (part.level == MAX_NESTED)
            return -ELOOP;
        int error = add_loop(flow, (struct loop_shape){head, at, at + size});
        if (error == 0 && size > 1)
            error = add_part(w, (struct part){at + 1, at + size, head, part.level + 1});
        if (error < 0)
            return error;
    }
    return 0;
}

/* Tarjan starts with the first instruction of each function: so the head of a loop is where it is
 * entered. */
static int find_loops(struct walk *w, struct flow *flow, uint32_t *nodes)
{
    const struct bpf_code *code = w->code;
    uint32_t count = 0;
    for (uint32_t i = 0; i < code->count; i++) {
        flow->loop[i] = NO_LOOP;
        w->nodes[count++] = i;
        if (code->insns[i].opcode == BPF_LDDW) /* its second half is no instruction */
            flow->loop[++i] = NO_LOOP;
    }
    int error = add_part(w, (struct part){0, count, NO_LOOP, 0});
    for (uint32_t i = 0; error == 0 && i < w->part_count; i++)
        error = order_part(w, flow, i);
    for (uint32_t i = 0; error == 0 && i < count; i++)
        flow->order[w->nodes[i]] = i;
    *nodes = count;
    return error;
}

static int walk_open(struct walk *w, const struct bpf_code *code)
{
    uint32_t n = code->count;
    *w = (struct walk){.code = code};
    w->nodes = base_alloc_array(n, sizeof(uint32_t));
    w->part_of = base_alloc_array(n, sizeof(uint32_t));
    w->index = base_alloc_array(n, sizeof(uint32_t));
    w->lowest = base_alloc_array(n, sizeof(uint32_t));
    w->stack = base_alloc_array(n, sizeof(uint32_t));
    w->path = base_alloc_array(n, sizeof(uint32_t));
    w->sorted = base_alloc_array(n, sizeof(uint32_t));
    w->component_end = base_alloc_array(n, sizeof(uint32_t));
    w->next = base_alloc_array(n, 1);
    w->on_stack = base_alloc_array(n, 1);
    bool all = w->nodes && w->part_of && w->index && w->lowest && w->stack && w->path &&
               w->sorted && w->component_end && w->next && w->on_stack;
    return all ? 0 : -ENOMEM;
}

static void walk_close(struct walk *w)
{
    base_free(w->nodes);
    base_free(w->part_of);
    base_free(w->index);
    base_free(w->lowest);
    base_free(w->stack);
    base_free(w->path);
    base_free(w->sorted);
    base_free(w->component_end);
    base_free(w->next);
    base_free(w->on_stack);
    base_free(w->parts);
}

/* ---- registers --------------------------------------------------------------------------- */

#define BIT(reg) (1u << (reg))

static unsigned arguments(const struct bpf_environment *environment, const struct bpf_insn *insn)
{
    unsigned mask = 0;
    if (insn->src != BPF_CALL_HELPER || BPF_SOURCE(insn->opcode) == BPF_X)
        return 0x3e;
    const struct bpf_helper *helper = bpf_helper_find(environment, (uint32_t)insn->imm);
    for (unsigned i = 0; helper && i < 5; i++)
        if (helper->args[i].kind != BPF_ARG_NONE)
            mask |= BIT(i + 1);
    return mask;
}

/* Which registers an instruction reads and which it writes. */
static void uses(const struct bpf_environment *environment, const struct bpf_insn *insn,
                 unsigned *reads, unsigned *writes)
{
    unsigned dst = BIT(insn->dst), src = BIT(insn->src), op = BPF_OP(insn->opcode);
    bool immediate = BPF_SOURCE(insn->opcode) == BPF_K;
    *reads = *writes = 0;
    switch (BPF_CLASS(insn->opcode)) {
    case BPF_LD:
        *writes = dst;
        break;
    case BPF_LDX:
        *reads = src;
        *writes = dst;
        break;
    case BPF_ST:
        *reads = dst;
        break;
    case BPF_STX:
        *reads = dst | src;
        if (BPF_MODE(insn->opcode) == BPF_ATOMIC && insn->imm == BPF_CMPXCHG)
            *reads |= BIT(0);
        break;
    case BPF_ALU:
    case BPF_ALU64:
        *writes = dst;
        if (op != BPF_MOV)
            *reads = dst;
        if (!immediate && op != BPF_END)
            *reads |= src;
        break;
    default:
        if (op == BPF_CALL) {
            *reads = arguments(environment, insn);
            *writes = 0x3f;
            if (!immediate)
                *reads |= BIT(bpf_callx_register(insn));
        } else if (op == BPF_EXIT) {
            *reads = BIT(0);
        } else if (op != BPF_JA) {
            *reads = dst | (immediate ? 0 : src);
        }
    }
}

/* Backwards over and over, until nothing changes: about as often as loops are nested, but for code
 * that no compiler makes; there, every register is thought to be needed. */
static void find_live(const struct walk *w, uint32_t nodes,
                      const struct bpf_environment *environment, struct flow *flow)
{
    const struct bpf_code *code = w->code;
    bool changed = true;
    for (unsigned round = 0; changed; round++) {
        changed = false;
        for (uint32_t n = nodes; n-- > 0;) {
            uint32_t to[2], i = w->nodes[n];
            unsigned reads, writes, after = 0;
            unsigned count = successors(code, i, to);
            for (unsigned k = 0; k < count; k++)
                after |= flow->live[to[k]];
            uses(environment, &code->insns[i], &reads, &writes);
            uint16_t live = (uint16_t)(reads | (after & ~writes));
            changed |= live != flow->live[i];
            flow->live[i] = live;
        }
        if (changed && round > 3 * MAX_NESTED) {
            memset(flow->live, 0xff, code->count * sizeof(*flow->live));
            break;
        }
    }
}

static void count_arrivals(const struct bpf_code *code, struct flow *flow)
{
    for (uint32_t i = 0; i < code->count; i++) {
        uint32_t to[2];
        if (!code->insns[i].opcode)
            continue;
        unsigned count = successors(code, i, to);
        for (unsigned k = 0; k < count; k++)
            if (flow->arrivals[to[k]] < 2)
                flow->arrivals[to[k]]++;
        if (count == 1 && BPF_OP(code->insns[i].opcode) == BPF_CALL &&
            BPF_CLASS(code->insns[i].opcode) == BPF_JMP)
            flow->arrivals[to[0]] = 2; /* a function may return in many ways */
    }
}

/* ---- all of it --------------------------------------------------------------------------- */

int flow_open(struct verifier *v, struct flow *flow)
{
    const struct bpf_code *code = v->code;
    struct walk w;
    uint32_t nodes = 0;
    int error = walk_open(&w, code);
    flow->order = base_alloc_array(code->count, sizeof(*flow->order));
    flow->loop = base_alloc_array(code->count, sizeof(*flow->loop));
    flow->live = base_alloc_array(code->count, sizeof(*flow->live));
    flow->arrivals = base_alloc_array(code->count, sizeof(*flow->arrivals));
    if (!flow->order || !flow->loop || !flow->live || !flow->arrivals)
        error = -ENOMEM;
    if (error == 0)
        error = find_loops(&w, flow, &nodes);
    if (error == 0) {
        find_live(&w, nodes, v->prog->environment, flow);
        count_arrivals(code, flow);
    }
    walk_close(&w);
    return error;
}

void flow_close(struct flow *flow)
{
    base_free(flow->order);
    base_free(flow->loop);
    base_free(flow->live);
    base_free(flow->arrivals);
    base_free(flow->loops);
}
