"""Formats of stored weights, by name: what one weight takes, and what kind of number it is. Never a machine.

``base`` or ``base/g<n>``: n weights share one scale of 16 bits. One scale per output channel is a group of all k inputs
(``int8/g768``); without a group one scale serves the whole tensor, and its bits are nothing. Codes are symmetric around
zero; whole numbers may be ``int4/affine`` or ``int4/g128/affine``: beside its scale a group has a zero point, which
takes the bits of a code.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from fractions import Fraction
from typing import Literal

from minigpt.errors import UserError, unknown

SCALE_BITS = 16
Kind = Literal["native", "float", "integer", "table", "sign"]


@dataclasses.dataclass(frozen=True)
class WeightFormat:
    """A format of stored weights.

    code_bits: of one weight, its share of a scale left out; None: the machine's own width. group: weights that share a
    scale. kind: what a product with it needs. native: the machine's own product. float: a conversion, unless it is the
    machine's own. integer: a product of code_bits times an activation. table: a table read first. sign: the weight is
    -1, 0 or 1, an addition is enough. packed: codes do not end where bits do; each takes a multiplication to unpack.
    affine: whether a group has a zero point, the code of 0.
    """

    name: str
    kind: Kind
    code_bits: Fraction | None
    group: int | None = None
    packed: bool = False
    affine: bool = False

    def stored_bits(self, native_bits: int) -> Fraction:
        """Bits of one weight with its share of a scale, exactly; ``native_bits`` is what "native" means."""
        code = Fraction(native_bits) if self.code_bits is None else self.code_bits
        shared = Fraction(SCALE_BITS) + (code if self.affine else 0)
        return code + (shared / self.group if self.group else 0)


def _base(name: str, kind: Kind, bits: int | Fraction, packed: bool = False) -> WeightFormat:
    return WeightFormat(name, kind, Fraction(bits), packed=packed)


BASES = {
    base.name: base
    for base in (
        WeightFormat("native", "native", None),
        *(_base(name, "float", bits) for name, bits in (("fp32", 32), ("fp16", 16), ("bf16", 16), ("fp8", 8))),
        *(_base(f"int{bits}", "integer", bits) for bits in range(2, 17)),
        _base("nf4", "table", 4),  # 16 quantiles of a normal distribution: Dettmers et al. 2023, arXiv:2305.14314
        _base("ternary", "sign", 2),  # log2(3) = 1.58 bits, kept in 2 as bitnet.cpp's I2_S: arXiv:2502.11880
        # five in a byte, 3^5 = 243 <= 256, as llama.cpp's TQ1_0: compilade.net/blog/ternary-packing
        _base("packed_ternary", "sign", Fraction(8, 5), packed=True),
        _base("binary", "sign", 1),  # -1 or 1: Wang et al. 2023, arXiv:2310.11453
    )
}
SCALED = ("integer", "table", "sign")  # kinds that a group can share a scale of


@functools.cache
def weight_format(text: str, path: str = "weight_format") -> WeightFormat:
    """Read a format: ``native``, ``bf16``, ``int4/g128``, ``int4/g128/affine``, ``nf4/g64``; else a UserError."""
    plain = text.removesuffix("/affine")
    name, slash, group = plain.partition("/")
    if name not in BASES:
        raise unknown(path, name, "there is no weight format", BASES)
    base = BASES[name]
    if plain != text:
        if base.kind != "integer":
            raise UserError(
                f"{path}: '{text}': {name} has no zero points; only whole numbers have, such as int4/affine"
            )
        base = dataclasses.replace(base, name=text, affine=True)
    if not slash:
        return base
    if base.kind not in SCALED:
        raise UserError(f"{path}: '{text}': {name} has no scales to share; write {path}: {name}")
    if not re.fullmatch(r"g[1-9]\d{0,8}", group):
        raise UserError(
            f"{path}: '{text}': expected {name}/g<weights that share a scale>, such as {name}/g128, or {name} alone"
        )
    return dataclasses.replace(base, name=text, group=int(group[1:]))
