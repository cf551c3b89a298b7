"""Will it be faster? What stock engines make of fewer channels, zeros, codes and integers.

Measured of onnxruntime 1.31 and LiteRT 2.3 on x86 with AVX-512 and VNNI, one thread, small nets of
equal layers; of ARM by executed instructions (emulated Cortex-A53, A76 and an i8mm core):
- onnxruntime, float: 60, 56 and 52 channels take the time of 64, 48 take 0.60 of it: channels are
  padded to blocks of 16 (of 8 with AVX2, by its source). 63 and 62 take 1.45 times it, depthwise
  2.7 times: channels that are no multiple of 4 leave the blocked kernels.
- onnxruntime, int8: 63 take 1.6 times the time of 64; depthwise layers whose channels are no
  multiple of 16 take 1.5 to 2.2 times that of the next multiple.
- LiteRT, float: outputs are padded to blocks of 32, inputs are not: 112 channels take 0.86 of the
  time of 128, 96 take 0.55, 80 take 0.46. int8: outputs by 16, inputs by 8.
- Zeros are multiplied like any number. XNNPACK's sparse kernels take float 1 x 1 convolutions with
  two thirds of zeros in nets of 1 x 1 and depthwise layers, by its source on ARM, not with AVX.
- int8 against float, x86 with VNNI: 0.5 to 0.8 of the time, LiteRT 0.3 to 0.5. Signed activations
  (format onnx-arm) there: 0.85 to 1.7. ARM: dot products from dotprod on, matrices with i8mm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from targets.planning.changes import Changes, parts_of
from targets.planning.claims import Claim
from targets.planning.cpu import Cpu
from targets.planning.form import LayerForm, NetForm
from targets.units import share_text

Engine = Literal["onnxruntime", "litert"]
# Channels that an engine computes together: of a layer's outputs, of its inputs.
Blocks = tuple[int, int]
_PACKED = frozenset({"onnx-packed", "tflite-packed", "dc", "dc-quick"})
# A net of fewer MACs spends its time on calls and copies.
_TINY_MACS = 1_000_000
# Of all MACs; or of all values moved, where depthwise layers are meant.
_MUCH = 0.1
# MACs that take the time of one more value written and read (64 channels of 56 x 56, AVX-512).
_MACS_A_VALUE = 16


@dataclass(frozen=True)
class Where:
    """A format (a name of job.deliver's), what runs it (None: nothing does as it is), threads."""

    format: str
    engine: Engine | None
    threads: int = 1

    @property
    def packed(self) -> bool:
        return self.format in _PACKED

    @property
    def suffix(self) -> str:
        """'onnx', 'tflite' or 'dc'."""
        return self.format.partition("-")[0]


def faster(
    before: NetForm, after: NetForm, changed: Changes, where: Where, cpu: Cpu
) -> Iterable[Claim]:
    """A claim for each kind of change."""
    if changed.channels:
        yield _channels(before, after, where, cpu)
    if changed.factorized:
        answer, said = _factorized(before, after, changed.factorized, _blocks(after, where, cpu))
        odd = _odd(before, after, where)
        yield ("perhaps", f"{said}; {odd}") if odd and answer == "yes" else (answer, said)
    if changed.zeros:
        yield _zeros(after, where, cpu)
    if changed.shared:
        yield "no", "codes are looked up at load; every multiplication is still done"
    if changed.integer_math:
        yield _integer_math(after, where, cpu)
    elif changed.integers:
        yield "no", "activations are floats, so the weights become floats at load"


def _channels(before: NetForm, after: NetForm, where: Where, cpu: Cpu) -> Claim:
    """Fewer MACs count as far as the engine's blocks let them."""
    odd = _odd(before, after, where)
    if odd:
        return "perhaps", odd
    blocks = _blocks(after, where, cpu)
    share = _padded(after, blocks) / max(1, _padded(before, blocks))
    said = f"{share_text(after.macs / max(1, before.macs))} of the MACs"
    if share > 1.02 * after.macs / max(1, before.macs):
        said += f", {share_text(share)} once outputs fill blocks of {blocks[0]} channels"
    if before.macs < _TINY_MACS:
        return "perhaps", f"{said}, but so small a net spends its time on calls"
    bound = after.depthwise_moved
    if bound > _MUCH:
        said += f"; depthwise layers move {share_text(bound)} of the values, and memory binds them"
    return ("yes" if share < 0.93 else "perhaps" if share < 0.98 else "no"), said


def _odd(before: NetForm, after: NetForm, where: Where) -> str:
    """What to say where many channels have come to numbers with slow kernels; '' elsewhere."""
    odd = _odd_share(after, where)
    if odd <= _MUCH + _odd_share(before, where):
        return ""
    return _odd_words(odd, after, where)


def _odd_words(odd: float, after: NetForm, where: Where) -> str:
    depthwise = " (depthwise: of 16)" if after.integer_math else ""
    return (
        f"layers that move {share_text(odd)} of the values have channels that are no multiple of 4"
        f"{depthwise}, for which {where.engine} has slow kernels; multiples of 8 or 16 avoid them"
    )


def _blocks(form: NetForm, where: Where, cpu: Cpu) -> Blocks:
    """Of the processors that were not measured, by the engines' sources."""
    wide = cpu.has("avx512")
    if where.engine == "litert":
        if form.integer_math:
            return (16, 8) if wide else (8, 8)
        return (32, 1) if wide else (16, 1) if cpu.family == "x86" else (8, 1)
    if cpu.family != "x86":
        return 4, 4
    return (16, 16) if wide else (8, 8)


def _padded(form: NetForm, blocks: Blocks) -> float:
    """MACs with the channels of dense layers filled up to whole blocks."""
    return sum(layer.macs * _filled(layer, blocks) for layer in form.layers)


def _filled(layer: LayerForm, blocks: Blocks) -> float:
    if layer.groups > 1 and layer.role != "depthwise":
        return 1.0
    outputs = math.ceil(layer.outputs / blocks[0]) * blocks[0] / layer.outputs
    # The picture's three channels have a kernel of their own; a fully connected layer has no tail.
    if layer.role in ("linear", "classifier"):
        return 1.0
    if layer.role == "depthwise" or layer.inputs <= 4:
        return outputs
    return outputs * math.ceil(layer.inputs / blocks[1]) * blocks[1] / layer.inputs


def _odd_share(form: NetForm, where: Where) -> float:
    """The share of the values moved by layers whose channels onnxruntime has slow kernels for."""
    if where.engine != "onnxruntime":
        return 0.0

    def slow(layer: LayerForm) -> bool:
        if layer.role == "depthwise":
            return layer.outputs % (16 if form.integer_math else 4) != 0
        if layer.role in ("linear", "classifier"):
            return False
        return layer.outputs % 4 != 0 or (layer.inputs > 4 and layer.inputs % 4 != 0)

    return _share(form, slow)


def _share(form: NetForm, wanted: Callable[[LayerForm], bool]) -> float:
    every = sum(layer.moved for layer in form.layers)
    return sum(layer.moved for layer in form.layers if wanted(layer)) / max(1, every)


def _factorized(before: NetForm, after: NetForm, names: tuple[str, ...], blocks: Blocks) -> Claim:
    """The MACs that are saved, in whole blocks, against what the values between the parts cost."""
    old = {layer.name: layer for layer in before.layers}
    parts = {name: parts_of(name, after) for name in names}
    saved = sum(old[n].macs - sum(p.macs for p in parts[n]) for n in names)
    whole = sum(
        old[n].macs * _filled(old[n], blocks) - sum(p.macs * _filled(p, blocks) for p in parts[n])
        for n in names
    )
    extra = sum(sum(p.moved for p in parts[n]) - old[n].moved for n in names)
    said = (
        f"{len(names)} layers became thin ones: {saved:+,} MACs saved, {extra:+,} values more "
        f"written and read"
    )
    if saved > 0 >= whole:
        said += f", and blocks of {blocks[0]} channels take the savings back"
    if before.macs < _TINY_MACS:
        return "perhaps", f"{said}; so small a net spends its time on calls"
    if whole <= 0:
        return "worse" if saved <= 0 else "perhaps", said
    if whole < _MACS_A_VALUE * extra:
        return "perhaps", f"{said}, which costs about as much"
    return ("yes" if whole > 0.1 * before.macs else "perhaps"), said


def _zeros(after: NetForm, where: Where, cpu: Cpu) -> Claim:
    if where.engine == "onnxruntime":
        return "no", "onnxruntime has no sparse kernels: it multiplies zeros like any number"
    if not where.packed:
        return "no", "a plain .tflite holds dense weights: LiteRT multiplies their zeros"
    if after.integer_math:
        return "no", "XNNPACK's sparse kernels are for floats: int8 weights are spread out at load"
    thin = [la for la in after.layers if la.role == "pointwise" and la.zeros * 3 > la.weights * 2]
    if not thin:
        return "no", "XNNPACK's sparse kernels want 1 x 1 convolutions with over 66 % zeros"
    if any(la.kernel > 1 and la.role == "conv" for la in after.layers[1:]):
        return "no", "XNNPACK's sparse kernels want nets of 1 x 1 and depthwise layers only"
    if cpu.family == "x86" and cpu.has("avx"):
        return "no", "XNNPACK takes its sparse kernels on ARM, not on x86 with AVX"
    share = sum(la.macs for la in thin) / max(1, after.macs)
    return "perhaps", f"XNNPACK may take its sparse kernels for {share_text(share)} of the MACs"


def _integer_math(after: NetForm, where: Where, cpu: Cpu) -> Claim:
    if after.macs < _TINY_MACS:
        return "perhaps", "so small a net spends its time on calls and on its ends' conversion"
    kept = sum(la.macs for la in after.layers if la.name in after.float_layers)
    but = f"; {share_text(kept / max(1, after.macs))} of the MACs stay float" if kept else ""
    bound = after.depthwise_moved
    if bound > _MUCH:
        but += f"; depthwise layers ({share_text(bound)} of the values moved) gain less"
    odd = _odd_share(after, where)
    if odd > 3 * _MUCH:
        return "perhaps", f"{_odd_words(odd, after, where)}{but}"
    if not cpu.known:
        return "perhaps", f"the processor does not tell whether it multiplies int8 fast{but}"
    if cpu.family == "arm":
        return _on_arm(cpu, but)
    if cpu.family == "x86" and where.format == "onnx-arm":
        return "perhaps", f"signed activations are for ARM: x86 multiplies unsigned by signed{but}"
    if cpu.has("vnni"):
        return "yes", f"the processor multiplies int8 four at a time (VNNI){but}"
    return "perhaps", f"without VNNI int8 is about as fast as float{but}"


def _on_arm(cpu: Cpu, but: str) -> Claim:
    if cpu.has("i8mm"):
        return "yes", f"the processor multiplies matrices of int8 (i8mm){but}"
    if cpu.has("dotprod"):
        return "yes", f"the processor has dot products of int8 (dotprod){but}"
    return "perhaps", f"without dotprod int8 saves a quarter of the instructions at most{but}"
