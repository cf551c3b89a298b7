"""What changed between two forms of a net, as the kinds of change that the rules know."""

from __future__ import annotations

from dataclasses import dataclass

from targets.planning.form import LayerForm, NetForm

# Below, a share of zeros comes from rounding and not from pruning.
_PRUNED = 0.03


@dataclass(frozen=True)
class Changes:
    """Each is true where the later form has it and the earlier had not, or less of it.

    channels: layers lost channels. factorized: the layers that became several (their names).
    zeros: weights became zero. shared: weights take fewer bits as codes of a table. integers: they
    became integers. integer_math: activations got integer grids.
    """

    channels: bool = False
    factorized: tuple[str, ...] = ()
    zeros: bool = False
    shared: bool = False
    integers: bool = False
    integer_math: bool = False

    @property
    def none(self) -> bool:
        return self == Changes()


def changes(before: NetForm, after: NetForm) -> Changes:
    """By the layers' names: a factorized layer's parts are called like it, with a dot behind."""
    old = {layer.name: layer for layer in before.layers}
    new = {layer.name: layer for layer in after.layers}
    both = [(old[name], new[name]) for name in old if name in new]
    return Changes(
        channels=any(a.inputs > b.inputs or a.outputs > b.outputs for a, b in both)
        or any(_thinner(old[name], parts) for name, parts in _parts(before, after).items()),
        factorized=tuple(_parts(before, after)),
        zeros=after.sparsity > before.sparsity + _PRUNED,
        shared=_fewer_codes(both) or _became(before, after, "shared"),
        integers=_became(before, after, "integer"),
        integer_math=after.integer_math and not before.integer_math,
    )


def parts_of(layer: str, form: NetForm) -> tuple[LayerForm, ...]:
    """What a factorized `layer` consists of in `form`."""
    return tuple(part for part in form.layers if part.name.startswith(f"{layer}."))


def _parts(before: NetForm, after: NetForm) -> dict[str, tuple[LayerForm, ...]]:
    known = {layer.name for layer in after.layers}
    gone = [layer.name for layer in before.layers if layer.name not in known]
    return {name: parts for name in gone if (parts := parts_of(name, after))}


def _thinner(layer: LayerForm, parts: tuple[LayerForm, ...]) -> bool:
    """True where a factorized layer has lost channels of its own besides."""
    return parts[0].inputs < layer.inputs or parts[-1].outputs < layer.outputs


def _became(before: NetForm, after: NetForm, kind: str) -> bool:
    counts = [sum(la.weights for la in form.layers if la.kind == kind) for form in (before, after)]
    return counts[1] > 0 and counts[0] == 0


def _fewer_codes(both: list[tuple[LayerForm, LayerForm]]) -> bool:
    return any(b.kind == a.kind != "float" and b.bits < a.bits for a, b in both)
