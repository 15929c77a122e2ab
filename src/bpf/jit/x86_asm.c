/* x86-64 machine code: see x86_asm.h. */
#include "bpf/jit/x86_asm.h"

#include <string.h>

#include "base/platform.h"
#include "base/util.h"

#define LOCK   0xf0
#define WORD   0x66 /* 16-bit operands */
#define REX    0x40
#define REX_W  8
#define ESCAPE 0x0f

static bool grow(struct x86_asm *as)
{
    const size_t capacity = as->capacity ? as->capacity * 2 : 4096;
    uint8_t *code = as->failed ? NULL : base_alloc(capacity);
    if (!code) {
        as->failed = true;
        return false;
    }
    if (as->size)
        memcpy(code, as->code, as->size);
    base_free(as->code);
    as->code = code;
    as->capacity = capacity;
    return true;
}

void x86_byte(struct x86_asm *as, unsigned byte)
{
    if (as->size == as->capacity && !grow(as))
        return;
    as->code[as->size++] = (uint8_t)byte;
}

void x86_le32(struct x86_asm *as, uint32_t value)
{
    for (unsigned i = 0; i < 32; i += 8)
        x86_byte(as, value >> i & 0xff);
}

void x86_le64(struct x86_asm *as, uint64_t value)
{
    x86_le32(as, (uint32_t)value);
    x86_le32(as, (uint32_t)(value >> 32));
}

static bool fits8(int64_t value)
{
    return value == (int8_t)value;
}

/* ---- the common shape: prefixes, opcode, ModRM ------------------------------------------ */

static void opcode_bytes(struct x86_asm *as, unsigned opcode)
{
    if (opcode > 0xff)
        x86_byte(as, opcode >> 8);
    x86_byte(as, opcode & 0xff);
}

/* reg, index and base are the numbers whose fourth bit goes here. force: spl to dil are meant. */
static void rex(struct x86_asm *as, bool wide, unsigned reg, unsigned index, unsigned base,
                bool force)
{
    const unsigned bits =
        (wide ? REX_W : 0) | (reg >> 3 & 1) << 2 | (index >> 3 & 1) << 1 | (base >> 3 & 1);
    if (bits || force)
        x86_byte(as, REX | bits);
}

static void modrm(struct x86_asm *as, unsigned mod, unsigned reg, unsigned rm)
{
    x86_byte(as, mod << 6 | (reg & 7) << 3 | (rm & 7));
}

static void modrm_mem(struct x86_asm *as, unsigned reg, struct x86_mem mem)
{
    if (mem.base == X86_NONE) {
        modrm(as, 0, reg, RSP);
        modrm(as, mem.scale, mem.index, RBP);
        x86_le32(as, (uint32_t)mem.disp);
        return;
    }
    const bool sib = mem.index != X86_NONE || (mem.base & 7) == RSP;
    const unsigned mod = !mem.disp && (mem.base & 7) != RBP ? 0 : fits8(mem.disp) ? 1 : 2;
    modrm(as, mod, reg, sib ? RSP : mem.base);
    if (sib)
        modrm(as, mem.scale, mem.index == X86_NONE ? RSP : mem.index, mem.base);
    if (mod == 1)
        x86_byte(as, mem.disp & 0xff);
    else if (mod == 2)
        x86_le32(as, (uint32_t)mem.disp);
}

static void rex_mem(struct x86_asm *as, unsigned width, unsigned reg, struct x86_mem mem,
                    bool force)
{
    rex(as, width == 8, reg, mem.index == X86_NONE ? 0 : mem.index,
        mem.base == X86_NONE ? 0 : mem.base, force);
}

void x86_rr(struct x86_asm *as, bool wide, unsigned opcode, unsigned reg, unsigned rm)
{
    rex(as, wide, reg, 0, rm, false);
    opcode_bytes(as, opcode);
    modrm(as, 3, reg, rm);
}

void x86_rr8(struct x86_asm *as, bool wide, unsigned opcode, unsigned reg, unsigned rm)
{
    rex(as, wide, reg, 0, rm, rm >= RSP);
    opcode_bytes(as, opcode);
    modrm(as, 3, reg, rm);
}

void x86_rm(struct x86_asm *as, unsigned width, unsigned opcode, unsigned reg, struct x86_mem mem)
{
    if (width == 2)
        x86_byte(as, WORD);
    rex_mem(as, width, reg, mem, width == 1 && reg >= RSP);
    opcode_bytes(as, opcode);
    modrm_mem(as, reg, mem);
}

void x86_lock_rm(struct x86_asm *as, unsigned width, unsigned opcode, unsigned reg,
                 struct x86_mem mem)
{
    x86_byte(as, LOCK);
    x86_rm(as, width, opcode, reg, mem);
}

/* ---- moves and arithmetic --------------------------------------------------------------- */

void x86_mov(struct x86_asm *as, bool wide, unsigned dst, unsigned src)
{
    x86_rr(as, wide, X86_MOV_STORE, src, dst);
}

void x86_mov_imm(struct x86_asm *as, unsigned dst, uint64_t value)
{
    if (value == (uint32_t)value) {
        rex(as, false, 0, 0, dst, false);
        x86_byte(as, 0xb8 | (dst & 7));
        x86_le32(as, (uint32_t)value);
    } else if ((int64_t)value == (int32_t)value) {
        rex(as, true, 0, 0, dst, false);
        x86_byte(as, 0xc7);
        modrm(as, 3, 0, dst);
        x86_le32(as, (uint32_t)value);
    } else {
        rex(as, true, 0, 0, dst, false);
        x86_byte(as, 0xb8 | (dst & 7));
        x86_le64(as, value);
    }
}

void x86_alu(struct x86_asm *as, bool wide, enum x86_alu op, unsigned dst, unsigned src)
{
    x86_rr(as, wide, 8 * op + 1, src, dst);
}

void x86_alu_imm(struct x86_asm *as, bool wide, enum x86_alu op, unsigned dst, int32_t imm)
{
    const bool small = fits8(imm);
    x86_rr(as, wide, small ? 0x83 : 0x81, op, dst);
    if (small)
        x86_byte(as, imm & 0xff);
    else
        x86_le32(as, (uint32_t)imm);
}

void x86_alu_load(struct x86_asm *as, bool wide, enum x86_alu op, unsigned reg, struct x86_mem mem)
{
    x86_rm(as, wide ? 8 : 4, 8 * op + 3, reg, mem);
}

void x86_alu_mem(struct x86_asm *as, unsigned width, enum x86_alu op, struct x86_mem mem,
                 unsigned reg)
{
    x86_rm(as, width, 8 * op + (width == 1 ? 0 : 1), reg, mem);
}

static void immediate(struct x86_asm *as, unsigned width, int32_t imm)
{
    const unsigned bytes = width < 4 ? width : 4;
    for (unsigned i = 0; i < bytes; i++)
        x86_byte(as, (uint32_t)imm >> (8 * i) & 0xff);
}

/* /digit opcodes pass the digit as reg, which must not look like spl to dil. */
static void rm_digit(struct x86_asm *as, unsigned width, unsigned opcode, unsigned digit,
                     struct x86_mem mem)
{
    if (width == 2)
        x86_byte(as, WORD);
    rex_mem(as, width, 0, mem, false);
    opcode_bytes(as, opcode);
    modrm_mem(as, digit, mem);
}

void x86_alu_mem_imm(struct x86_asm *as, unsigned width, enum x86_alu op, struct x86_mem mem,
                     int32_t imm)
{
    const bool small = fits8(imm) && width > 1;
    rm_digit(as, width, width == 1 ? 0x80 : small ? 0x83 : 0x81, op, mem);
    immediate(as, small ? 1 : width, imm);
}

void x86_store_imm(struct x86_asm *as, unsigned width, struct x86_mem mem, int32_t imm)
{
    rm_digit(as, width, width == 1 ? 0xc6 : 0xc7, 0, mem);
    immediate(as, width, imm);
}

void x86_test_imm(struct x86_asm *as, bool wide, unsigned reg, int32_t imm)
{
    x86_rr(as, wide && imm < 0, 0xf7, 0, reg);
    x86_le32(as, (uint32_t)imm);
}

void x86_cmp8_imm(struct x86_asm *as, unsigned reg, unsigned imm)
{
    rex(as, false, 0, 0, reg, reg >= RSP);
    x86_byte(as, 0x80);
    modrm(as, 3, X86_CMP, reg);
    x86_byte(as, imm);
}

void x86_imul_imm(struct x86_asm *as, bool wide, unsigned dst, unsigned src, int32_t imm)
{
    x86_rr(as, wide, fits8(imm) ? 0x6b : 0x69, dst, src);
    immediate(as, fits8(imm) ? 1 : 4, imm);
}

void x86_shift_imm(struct x86_asm *as, bool wide, enum x86_shift op, unsigned dst, unsigned count)
{
    x86_rr(as, wide, count == 1 ? 0xd1 : 0xc1, op, dst);
    if (count != 1)
        x86_byte(as, count);
}

void x86_shift_cl(struct x86_asm *as, bool wide, enum x86_shift op, unsigned dst)
{
    x86_rr(as, wide, 0xd3, op, dst);
}

void x86_shiftx(struct x86_asm *as, bool wide, enum x86_shift op, unsigned dst, unsigned src,
                unsigned count)
{
    const unsigned prefix = op == X86_SHL ? 1 : op == X86_SHR ? 3 : 2;
    x86_byte(as, 0xc4);
    x86_byte(as, (~dst >> 3 & 1) << 7 | 1 << 6 | (~src >> 3 & 1) << 5 | 2);
    x86_byte(as, (wide ? 0x80 : 0) | (~count & 15) << 3 | prefix);
    x86_byte(as, 0xf7);
    modrm(as, 3, dst, src);
}

void x86_rol16(struct x86_asm *as, unsigned reg, unsigned count)
{
    x86_byte(as, WORD);
    x86_rr(as, false, 0xc1, X86_ROL, reg);
    x86_byte(as, count);
}

void x86_unary(struct x86_asm *as, bool wide, enum x86_unary op, unsigned reg)
{
    x86_rr(as, wide, 0xf7, op, reg);
}

void x86_bswap(struct x86_asm *as, bool wide, unsigned reg)
{
    rex(as, wide, 0, 0, reg, false);
    x86_byte(as, ESCAPE);
    x86_byte(as, 0xc8 | (reg & 7));
}

void x86_sign_rax(struct x86_asm *as, bool wide)
{
    rex(as, wide, 0, 0, 0, false);
    x86_byte(as, 0x99);
}

void x86_setcc(struct x86_asm *as, unsigned cc, unsigned reg)
{
    rex(as, false, 0, 0, reg, reg >= RSP);
    x86_byte(as, ESCAPE);
    x86_byte(as, 0x90 | cc);
    modrm(as, 3, 0, reg);
}

void x86_push(struct x86_asm *as, unsigned reg)
{
    rex(as, false, 0, 0, reg, false);
    x86_byte(as, 0x50 | (reg & 7));
}

void x86_pop(struct x86_asm *as, unsigned reg)
{
    rex(as, false, 0, 0, reg, false);
    x86_byte(as, 0x58 | (reg & 7));
}

void x86_call_reg(struct x86_asm *as, unsigned reg)
{
    x86_rr(as, false, 0xff, 2, reg);
}

void x86_jump_reg(struct x86_asm *as, unsigned reg)
{
    x86_rr(as, false, 0xff, 4, reg);
}

void x86_ret(struct x86_asm *as)
{
    x86_byte(as, 0xc3);
}

/* The forms that the SDM recommends for NOP, up to 8 bytes each. */
void x86_nops(struct x86_asm *as, unsigned bytes)
{
    static const uint8_t nops[9][8] = {
        {0},
        {0x90},
        {0x66, 0x90},
        {0x0f, 0x1f, 0x00},
        {0x0f, 0x1f, 0x40, 0x00},
        {0x0f, 0x1f, 0x44, 0x00, 0x00},
        {0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00},
        {0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00},
        {0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00},
    };
    while (bytes) {
        const unsigned n = bytes < 8 ? bytes : 8;
        for (unsigned i = 0; i < n; i++)
            x86_byte(as, nops[n][i]);
        bytes -= n;
    }
}

/* ---- jumps ------------------------------------------------------------------------------ */

static int64_t distance(size_t from, size_t to)
{
    return (int64_t)to - (int64_t)from;
}

void x86_jump(struct x86_asm *as, size_t target)
{
    const bool is_short = fits8(distance(as->size + 2, target));
    x86_patch(as, x86_jump_later(as, is_short), is_short, target);
}

void x86_jump_if(struct x86_asm *as, unsigned cc, size_t target)
{
    const bool is_short = fits8(distance(as->size + 2, target));
    x86_patch(as, x86_jump_if_later(as, cc, is_short), is_short, target);
}

void x86_call(struct x86_asm *as, size_t target)
{
    x86_patch(as, x86_call_later(as), false, target);
}

static size_t later(struct x86_asm *as, bool is_short)
{
    const size_t at = as->size;
    if (is_short)
        x86_byte(as, 0);
    else
        x86_le32(as, 0);
    return at;
}

size_t x86_jump_later(struct x86_asm *as, bool is_short)
{
    x86_byte(as, is_short ? 0xeb : 0xe9);
    return later(as, is_short);
}

size_t x86_jump_if_later(struct x86_asm *as, unsigned cc, bool is_short)
{
    if (!is_short)
        x86_byte(as, ESCAPE);
    x86_byte(as, (is_short ? 0x70 : 0x80) | cc);
    return later(as, is_short);
}

size_t x86_call_later(struct x86_asm *as)
{
    x86_byte(as, 0xe8);
    return later(as, false);
}

bool x86_patch(struct x86_asm *as, size_t at, bool is_short, size_t target)
{
    const size_t bytes = is_short ? 1 : 4;
    if (as->failed || at + bytes > as->size)
        return true;
    const int64_t d = distance(at + bytes, target);
    if (!is_short)
        store_le32(as->code + at, (uint32_t)d);
    else if (fits8(d))
        as->code[at] = (uint8_t)d;
    else
        return false;
    return true;
}
