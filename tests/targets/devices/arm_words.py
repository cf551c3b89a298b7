"""Instructions of aarch64 by hand, and what the plugin must take each for.

Encodings from the Arm Architecture Reference Manual (DDI 0487), C6 and C7. x2 points to 64 bytes
of memory, x4 is 0; x3, x5 to x7, x9 and v0 to v7 may change.
"""

from __future__ import annotations

from typing import NamedTuple


class Piece(NamedTuple):
    """`words` run between marks and make `adds`, beside what the second mark itself adds.

    since: the first of the emulated CPUs, oldest first, that has the instruction.
    """

    name: str
    words: tuple[int, ...]
    adds: dict[str, int]
    since: str = "cortex-a53"


def _each(since: str, words: dict[str, int], *classes: str) -> list[Piece]:
    adds = dict.fromkeys(classes, 1)
    return [Piece(name, (word,), adds, since) for name, word in words.items()]


_LOADS = {
    "ldr x3, [x2]": 0xF9400043,
    "ldrb w3, [x2]": 0x39400043,
    "ldrsb x3, [x2]": 0x39800043,
    "ldur x3, [x2]": 0xF8400043,
    "ldr x3, [x2, x4]": 0xF8646843,
    "ldr x3, .": 0x58000003,
    "ldp x3, x5, [x2]": 0xA9401443,
    "ldpsw x3, x5, [x2]": 0x69401443,
    "ldar x3, [x2]": 0xC8DFFC43,
    "ldaxr x3, [x2]": 0xC85FFC43,
    "prfm pldl1keep, [x2]": 0xF9800040,
    "ldr b0, [x2]": 0x3D400040,
    "ldr q0, [x2]": 0x3DC00040,
    "ldp q0, q1, [x2]": 0xAD400440,
    "ld1 {v0.16b}, [x2]": 0x4C407040,
    "ld1r {v0.4s}, [x2]": 0x4D40C840,
    "ld1 {v0.s}[1], [x2]": 0x0D409040,
}
_LOADS_A76 = {
    "ldadd x3, x5, [x2]": 0xF8230045,
    "swp x3, x5, [x2]": 0xF8238045,
    "cas x3, x5, [x2]": 0xC8A37C45,
    "casp x6, x7, x6, x7, [x2]": 0x48267C46,
    "ldapr x3, [x2]": 0xF8BFC043,
}
_STORES = {
    "str x3, [x2]": 0xF9000043,
    "strb w3, [x2]": 0x39000043,
    "stur x3, [x2]": 0xF8000043,
    "str x3, [x2, x4]": 0xF8246843,
    "stp x3, x5, [x2]": 0xA9001443,
    "stlr x3, [x2]": 0xC89FFC43,
    "stxr w5, x3, [x2]": 0xC8057C43,
    "str b0, [x2]": 0x3D000040,
    "str q0, [x2]": 0x3D800040,
    "stp q0, q1, [x2]": 0xAD000440,
    "st1 {v0.16b}, [x2]": 0x4C007040,
    "st1 {v0.s}[1], [x2]": 0x0D009040,
}
_BRANCHES = {
    "b .+4": 0x14000001,
    "b.eq .+4": 0x54000020,
    "cbz x3, .+4": 0xB4000023,
    "cbnz x3, .+4": 0xB5000023,
    "tbz w3, #0, .+4": 0x36000023,
}
_INTEGERS = {
    "add x3, x3, x5": 0x8B050063,
    "add x3, x3, #1": 0x91000463,
    "mul x3, x3, x5": 0x9B057C63,
    "udiv x3, x3, x5": 0x9AC50863,
    "lsr x3, x3, #31": 0xD35FFC63,
    "csel x3, x3, x5, eq": 0x9A850063,
    "adr x3, .": 0x10000003,
    "crc32x w3, w3, x5": 0x9AC54C63,
}
_OTHERS = {"nop": 0xD503201F, "mrs x3, nzcv": 0xD53B4203, "dmb ish": 0xD5033BBF}
# Among them the neighbours of the kernels' instructions, which are not those.
_VECTORS = {
    "fmadd s0, s0, s1, s2": 0x1F010800,
    "fmul v0.4s, v1.4s, v2.4s": 0x6E22DC20,
    "fmul v0.4s, v1.4s, v2.s[0]": 0x4F829020,
    "fmls v0.4s, v1.4s, v2.4s": 0x4EA2CC20,
    "fmla s0, s1, v2.s[0]": 0x5F821020,
    "add v0.4s, v1.4s, v2.4s": 0x4EA28420,
    "mla v0.16b, v1.16b, v2.16b": 0x4E229420,
    "saddl v0.8h, v1.8b, v2.8b": 0x0E220020,
    "smlsl v0.8h, v1.8b, v2.8b": 0x0E22A020,
    "pmull v0.8h, v1.8b, v2.8b": 0x0E22E020,
    "sqdmlal v0.4s, v1.4h, v2.4h": 0x0E629020,
    "sadalp v0.8h, v1.16b": 0x4E206820,
    "movi v0.4s, #0": 0x4F000400,
    "tbl v0.16b, {v0.16b}, v1.16b": 0x4E010000,
    "fmov d0, x3": 0x9E670060,
}
_FMLA = {
    "fmla v0.4s, v1.4s, v2.4s": 0x4E22CC20,
    "fmla v0.2s, v1.2s, v2.2s": 0x0E22CC20,
    "fmla v0.2d, v1.2d, v2.2d": 0x4E62CC20,
    "fmla v0.4s, v1.4s, v2.s[0]": 0x4F821020,
    "fmla v0.4s, v1.4s, v2.s[3]": 0x4FA21820,
    "fmla v0.2d, v1.2d, v2.d[1]": 0x4FC21820,
}
_FMLA_HALF = {
    "fmla v0.8h, v1.8h, v2.8h": 0x4E420C20,
    "fmla v0.8h, v1.8h, v2.h[0]": 0x4F021020,
}
_MLAL = {
    "smlal v0.8h, v1.8b, v2.8b": 0x0E228020,
    "smlal2 v0.8h, v1.16b, v2.16b": 0x4E228020,
    "umlal v0.8h, v1.8b, v2.8b": 0x2E228020,
    "smlal v0.4s, v1.4h, v2.4h": 0x0E628020,
    "smlal v0.4s, v1.4h, v2.h[0]": 0x0F422020,
    "umlal2 v0.4s, v1.8h, v2.h[7]": 0x6F722820,
}
_MULL = {
    "smull v0.8h, v1.8b, v2.8b": 0x0E22C020,
    "umull2 v0.8h, v1.16b, v2.16b": 0x6E22C020,
    "smull v0.4s, v1.4h, v2.h[0]": 0x0F42A020,
}
_SDOT = {
    "sdot v0.4s, v1.16b, v2.16b": 0x4E829420,
    "sdot v0.2s, v1.8b, v2.8b": 0x0E829420,
    "sdot v0.4s, v1.16b, v2.4b[3]": 0x4FA2E820,
}
_UDOT = {
    "udot v0.4s, v1.16b, v2.16b": 0x6E829420,
    "udot v0.4s, v1.16b, v2.4b[0]": 0x6F82E020,
}
_USDOT = {
    "usdot v0.4s, v1.16b, v2.16b": 0x4E829C20,
    "usdot v0.4s, v1.16b, v2.4b[0]": 0x4F82F020,
    "sudot v0.4s, v1.16b, v2.4b[0]": 0x4F02F020,
}
_BF16 = {
    "bfdot v0.4s, v1.8h, v2.8h": 0x6E42FC20,
    "bfdot v0.4s, v1.8h, v2.2h[0]": 0x4F42F020,
    "bfmmla v0.4s, v1.8h, v2.8h": 0x6E42EC20,
    "bfmlalb v0.4s, v1.8h, v2.8h": 0x2EC2FC20,
    "bfmlalt v0.4s, v1.8h, v2.8h": 0x6EC2FC20,
    "bfmlalb v0.4s, v1.8h, v2.h[0]": 0x0FC2F020,
}
# 2 instructions, then 1,000,000 times 3, by their counts.
LOOP = Piece(
    "loop: fmla; subs; b.ne loop",
    (0xD2884809, 0xF2A001E9, 0x4E22CC20, 0xF1000529, 0x54FFFFC1),
    {"simd": 1_000_000, "fmla": 1_000_000, "int": 1_000_002, "branch": 1_000_000},
)

PIECES = (
    Piece("nothing", (), {}),
    LOOP,
    *_each("cortex-a53", _LOADS, "load"),
    *_each("cortex-a76", _LOADS_A76, "load"),
    *_each("cortex-a53", _STORES, "store"),
    *_each("i8mm", {"stlur x3, [x2]": 0xD9000043}, "store"),
    *_each("cortex-a53", _BRANCHES, "branch"),
    *_each("cortex-a53", _INTEGERS, "int"),
    *_each("cortex-a53", _OTHERS, "other"),
    *_each("cortex-a53", _VECTORS, "simd"),
    *_each("i8mm", {"fmlal v0.4s, v1.4h, v2.4h": 0x4E22EC20}, "simd"),
    *_each("cortex-a53", _FMLA, "simd", "fmla"),
    *_each("cortex-a76", _FMLA_HALF, "simd", "fmla"),
    *_each("cortex-a53", _MLAL, "simd", "mlal"),
    *_each("cortex-a53", _MULL, "simd", "mull"),
    *_each("cortex-a76", _SDOT, "simd", "sdot"),
    *_each("cortex-a76", _UDOT, "simd", "udot"),
    *_each("i8mm", _USDOT, "simd", "usdot"),
    *_each("i8mm", {"smmla v0.4s, v1.16b, v2.16b": 0x4E82A420}, "simd", "smmla"),
    *_each("i8mm", {"ummla v0.4s, v1.16b, v2.16b": 0x6E82A420}, "simd", "ummla"),
    *_each("i8mm", {"usmmla v0.4s, v1.16b, v2.16b": 0x4E82AC20}, "simd", "usmmla"),
    *_each("i8mm", _BF16, "simd", "bf16"),
)
