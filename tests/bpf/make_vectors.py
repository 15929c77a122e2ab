#!/usr/bin/env python3
"""Writes vectors/alu.txt and vectors/jump.txt: each operation of RFC 9669 on edge values, with what
it gives by the text of the RFC, in the unbounded integers of Python. Run it in tests/bpf."""

M64, M32 = (1 << 64) - 1, (1 << 32) - 1

PAIRS = [
    (0, 0), (0, 1), (1, 0), (1, 1), (5, 3), (-5, 3), (5, -3), (-5, -3), (7, -1), (-1, -1),
    (-1, 0), (-1, 1), (1 << 63, -1), (1 << 63, 1), (1 << 63, 0), ((1 << 63) - 1, 1 << 63),
    ((1 << 63) - 1, 2), (0x80000000, -1), (0x80000000, 0xFFFFFFFF), (0x7FFFFFFF, 1),
    (0xFFFFFFFF, 1), (0x100000000, 0xFFFFFFFF), (0x123456789ABCDEF0, 0xFEDCBA9876543210),
    (0x123456789ABCDEF0, 31), (0x8234567892345678, 32), (0x123456789ABCDEF0, 33),
    (0x8000000080000000, 63), (0x8000000080000001, 64), (0xFEDCBA9876543210, 65),
    (0xFFFFFFFF00000000, 0x100000000), (0xFFFFFFFF00000005, 0xFFFFFFFF00000000),
]
IMMEDIATES = [0, 1, -1, 2, -2, 3, 31, 32, 33, 63, 64, 65, 0x7FFFFFFF, -0x80000000]
VALUES = [0, 5, -5, 1 << 63, (1 << 63) - 1, 0x80000000, 0xFFFFFFFF, 0x123456789ABCDEF0]


def signed(n, bits):
    n &= (1 << bits) - 1
    return n - (1 << bits) if n >> (bits - 1) else n


def quotient(a, b):  # towards zero
    q = abs(a) // abs(b)
    return q if (a < 0) == (b < 0) else -q


def alu(op, a, b, bits):
    """a and b: unsigned, of so many bits."""
    sa, sb = signed(a, bits), signed(b, bits)
    return {
        "+=": lambda: a + b, "-=": lambda: a - b, "*=": lambda: a * b,
        "/=": lambda: a // b if b else 0,
        "%=": lambda: a % b if b else a,
        "s/=": lambda: quotient(sa, sb) if b else 0,
        "s%=": lambda: sa - sb * quotient(sa, sb) if b else a,
        "|=": lambda: a | b, "&=": lambda: a & b, "^=": lambda: a ^ b,
        "<<=": lambda: a << (b % bits), ">>=": lambda: a >> (b % bits),
        "s>>=": lambda: sa >> (b % bits),
        "=": lambda: b,
    }[op]() & ((1 << bits) - 1)


def holds(op, a, b, bits):
    sa, sb = signed(a, bits), signed(b, bits)
    return {
        "==": a == b, "!=": a != b, ">": a > b, ">=": a >= b, "<": a < b, "<=": a <= b,
        "s>": sa > sb, "s>=": sa >= sb, "s<": sa < sb, "s<=": sa <= sb, "&": (a & b) != 0,
    }[op]


def tables(kind, ops, result):
    lines = ["# Made by make_vectors.py."]
    for op in ops:
        for bits, reg in ((64, "r"), (32, "w")):
            mask = (1 << bits) - 1
            lines.append(f"{kind} {reg}0 {op} {reg}1")
            for a, b in PAIRS:
                lines.append(f"    {a & M64:#x} {b & M64:#x} = {result(op, a & mask, b & mask, bits):#x}")
            lines.append(f"{kind} {reg}0 {op} K")
            for i, b in enumerate(IMMEDIATES):
                for a in (VALUES[i % len(VALUES)], VALUES[(3 * i + 1) % len(VALUES)]):
                    lines.append(f"    {a & M64:#x} {b} = {result(op, a & mask, b & mask, bits):#x}")
    return lines


def unary(lines, text, function):
    lines.append("alu " + text)
    for a in VALUES + [1, 0x80, 0x7F, 0xFF80, 0x8000, 0x7FFF, 0xFEDCBA9876543210]:
        lines.append(f"    {a & M64:#x} 0x77 = {function(a & M64):#x}")


def swap(n, bits):
    return int.from_bytes((n & ((1 << bits) - 1)).to_bytes(bits // 8, "little"), "big")


def main():
    lines = tables("alu", ["+=", "-=", "*=", "/=", "%=", "s/=", "s%=", "|=", "&=", "^=", "<<=",
                           ">>=", "s>>=", "="], alu)
    unary(lines, "r0 = -r0", lambda a: -a & M64)
    unary(lines, "w0 = -w0", lambda a: -a & M32)
    for width in (8, 16, 32):
        unary(lines, f"r0 = (s{width})r0", lambda a: signed(a, width) & M64)
        if width < 32:
            unary(lines, f"w0 = (s{width})w0", lambda a: signed(a, width) & M32)
    for width in (16, 32, 64):  # of a little-endian machine
        unary(lines, f"r0 = le{width} r0", lambda a: a & ((1 << width) - 1))
        unary(lines, f"r0 = be{width} r0", lambda a: swap(a, width))
        unary(lines, f"r0 = bswap{width} r0", lambda a: swap(a, width))
    open("vectors/alu.txt", "w").write("\n".join(lines) + "\n")

    lines = tables("jump", ["==", "!=", ">", ">=", "<", "<=", "s>", "s>=", "s<", "s<=", "&"],
                   lambda *x: int(holds(*x)))
    open("vectors/jump.txt", "w").write("\n".join(lines) + "\n")


main()
