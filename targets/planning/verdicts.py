"""Will it pay? Smaller file, smaller download, faster, less memory: known before any training.

`verdicts` is a pure function of what changed between two forms of a net, of the file's format, of
the engine that runs it and of the processor. Each rule is stated with its reason; what was measured
of the engines (onnxruntime 1.31, LiteRT 2.3) stands beside it in speed.py. A plan measures the
untrained file, too, which confirms a verdict or contradicts it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from targets.planning.changes import Changes, changes
from targets.planning.claims import Answer, Claim, Verdict, joined
from targets.planning.cpu import Cpu
from targets.planning.form import NetForm
from targets.planning.speed import Where, faster
from targets.units import share_text

Question = Literal["file", "download", "latency", "memory"]
QUESTIONS: tuple[Question, ...] = ("file", "download", "latency", "memory")
ASKED = {
    "file": "smaller file",
    "download": "smaller download",
    "latency": "faster",
    "memory": "less memory",
}


@dataclass(frozen=True)
class Verdicts:
    """One for each question."""

    file: Verdict
    download: Verdict
    latency: Verdict
    memory: Verdict


def verdicts(before: NetForm, after: NetForm, where: Where, cpu: Cpu) -> Verdicts:
    """What `after` gains over `before` as a file of this format, on this engine and processor.

    A file of a format that packs is compared with the plain one of its engine.
    """
    changed = changes(before, after)
    if changed.none:
        nothing = "as many weights, zeros and bits as before"
        nothing += "; exporters fold batch norms anyway" if where.engine else ""
        same = Verdict("no", nothing)
        run = same if where.engine else _not_run()
        return Verdicts(same, same, run, run)
    return Verdicts(
        joined(_file(before, after, changed, where)),
        joined(_download(before, after, changed, where)),
        joined(faster(before, after, changed, where, cpu)) if where.engine else _not_run(),
        joined(_memory(before, after, changed, where)) if where.engine else _not_run(),
    )


def _not_run() -> Verdict:
    return Verdict("not run", "a container is decoded into another format before it runs")


def _fewer(before: NetForm, after: NetForm, changed: Changes) -> Iterable[Claim]:
    """Of structure: what matters is how many weights are left."""
    if changed.channels or changed.factorized:
        how = "fewer channels" if changed.channels else "two thin layers for one"
        share = after.weights / max(1, before.weights)
        answer: Answer = "yes" if share < 0.98 else "worse" if share > 1.02 else "no"
        yield answer, f"{how}: {share_text(share)} of the weights"


def _less_stored(before: NetForm, after: NetForm, changed: Changes, where: Where) -> Claim:
    """As `_fewer`; a container stores floats of half precision in half the bits."""
    ((answer, said),) = _fewer(before, after, changed)
    if where.suffix == "dc" and _halves(before) > _halves(after) + 0.5:
        return "perhaps", f"{said}, but floats of 32 bits where they were of 16"
    return answer, said


def _halves(form: NetForm) -> float:
    """The share of the weights that are not floats of 32 bits."""
    wide = sum(la.weights for la in form.layers if la.kind == "float" and la.bits == 32)
    return 1 - wide / max(1, form.weights)


def _file(before: NetForm, after: NetForm, changed: Changes, where: Where) -> Iterable[Claim]:
    if changed.channels or changed.factorized:
        yield _less_stored(before, after, changed, where)
    plain = not where.packed
    if changed.zeros and plain:
        yield "no", f"a plain .{where.suffix} stores every weight, zeros too"
    if changed.zeros and not plain:
        yield _packed_zeros(after, where)
    if changed.shared and plain:
        yield "no", f"a plain .{where.suffix} stores values, not codes of a table"
    if changed.shared and not plain:
        yield _packed_codes(where)
    if changed.integers:
        yield from _integers(before, changed, where)
    elif changed.integer_math and plain:
        yield "yes", "8 bits a weight instead of 32"
    elif changed.integer_math:
        yield "no", "the weights are codes already; grids and their operators come in"


def _packed_zeros(after: NetForm, where: Where) -> Claim:
    if where.suffix == "tflite" and after.sparsity < 0.3:
        return "perhaps", "a sparse tensor's indices take bits, too: few zeros do not pay for them"
    return "yes", f"{share_text(after.sparsity)} zeros, of which only the places are stored"


def _packed_codes(where: Where) -> Claim:
    if where.suffix == "tflite":
        return "perhaps", "LiteRT folds grids of integers, but no table of floats"
    return "yes", "codes of a small table instead of 32 bits a weight"


def _integers(before: NetForm, changed: Changes, where: Where) -> Iterable[Claim]:
    if before.layers and all(la.kind == "shared" for la in before.layers) and where.packed:
        yield "perhaps", "the codes stay; their table shrinks, scales of channels come in"
    elif where.packed:
        yield "yes", "integers of few bits instead of 32 bits a weight"
    elif changed.integer_math:
        yield "yes", "8 bits a weight instead of 32"
    else:
        yield "no", "where activations are floats, a plain file stores the weights as floats"


def _download(before: NetForm, after: NetForm, changed: Changes, where: Where) -> Iterable[Claim]:
    if where.packed:
        yield from _file(before, after, changed, where)
        return
    yield from _fewer(before, after, changed)
    if changed.zeros:
        yield "yes", f"an app store deflates files: {share_text(after.sparsity)} zeros go away"
    if changed.shared:
        yield "yes", "an app store deflates files: few different values take few bits"
    if changed.integers or changed.integer_math:
        yield from _file(before, after, _only_integers(changed), where)


def _only_integers(changed: Changes) -> Changes:
    return Changes(integers=changed.integers, integer_math=changed.integer_math)


def _memory(before: NetForm, after: NetForm, changed: Changes, where: Where) -> Iterable[Claim]:
    yield from _fewer(before, after, changed)
    if changed.zeros or changed.shared:
        yield "no", "loaded weights are dense: zeros and codes are spread out"
        if where.packed and _is_plain(before):
            yield "worse", "unpacking at load leaves the packed parts and its own buffers behind"
        elif where.packed:
            yield "perhaps", "what unpacking leaves behind depends on the codes"
    if changed.integer_math:
        yield "yes", "weights and activations of one byte instead of four"
    elif changed.integers:
        yield "no", "where activations are floats, loaded weights are floats"


def _is_plain(form: NetForm) -> bool:
    """True where nothing in it is worth packing."""
    return form.sparsity < 0.01 and all(layer.kind == "float" for layer in form.layers)
