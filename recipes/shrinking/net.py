"""The net that is asked for: opened, and how it answers before anything is done to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from compress.candidate import Candidate
from compress.errors import ModelError
from compress.importing.opening import opened, safe_name
from compress.task import Predict
from recipes.pictures.presets import named_preprocess, preprocess_for
from recipes.shrinking.wish import Wish
from recipes.toolbox.class_names import read_class_names
from recipes.toolbox.model_files import whole_batches
from targets.formats.onnx_data import bytes_with_data
from targets.runtimes.onnxruntime import OnnxRuntime

# Of torch's own answers: few pictures at a time stay in the processor's cache.
_BLOCK = 8
# Of ImageNet's nets.
_SIDE = 224


@dataclass(frozen=True, eq=False)
class Net:
    """`answer`: the untouched net's outputs, by the original file where there is one.

    `notes`: what was assumed, a sentence each. `file_bytes`: of the original .onnx file and its
    data beside it, None for what is no .onnx file.
    """

    name: str
    candidate: Candidate
    answer: Predict
    notes: tuple[str, ...]
    file_bytes: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of its pictures."""
        height, width = self.candidate.spec.input_shape[2:]
        return height, width


def open_net(wish: Wish) -> Net:
    """Open `wish.model`. An EdgepressError, one line, for what cannot be opened or compressed."""
    classes = () if wish.labels is None else read_class_names(wish.labels)
    # A function's net may take pictures of any size: the preprocessing then says of which.
    function = not is_file(wish.model) and wish.preprocess is not None
    given = named_preprocess(wish.preprocess or "", _SIDE) if function else None
    found = opened(wish.model, weights=wish.weights, preprocess=given, classes=classes)
    candidate, assumed = found.candidate, found.assumed_preprocess
    _check_kind(wish.model, candidate)
    if wish.preprocess is not None:
        chosen = preprocess_for("the net", wish.preprocess, candidate.spec.input_shape[1:])
        spec = replace(candidate.spec, preprocess=chosen)
        candidate, assumed = replace(candidate, spec=spec), False
    notes = (_assumption(candidate),) if assumed else ()
    name = name_of(wish.model)
    if not wish.model.lower().endswith(".onnx"):
        return Net(name, candidate, _in_blocks(candidate.network.predict), notes)
    path = Path(wish.model)
    session = OnnxRuntime().load(path, torch.get_num_threads())
    return Net(
        name,
        candidate,
        whole_batches(session.predict, session.inputs[0].shape[0]),
        notes,
        bytes_with_data(path),
    )


def _check_kind(model: str, candidate: Candidate) -> None:
    """ModelError for what is no classifier of pictures, or has nothing to compress."""
    graph = candidate.network.graph
    if len(candidate.spec.input_shape) != 4:
        raise ModelError(
            f"{model} takes {candidate.spec.input_shape}; a net for pictures is needed"
        )
    shape = graph.by_id[graph.outputs[0]].shape[1:]
    if len([size for size in shape if size != 1]) != 1:
        raise ModelError(
            f"{model} answers a picture with {shape}; a classifier, with one number for each of "
            f"at least 2 classes, is needed"
        )
    if not candidate.network.layers():
        raise ModelError(
            f"{model} has no convolution or linear layer with weights of its own; there is "
            f"nothing to compress"
        )


def name_of(model: str) -> str:
    """What files and folder are called after."""
    return safe_name(Path(model).stem if is_file(model) else model.rpartition(":")[2])


def is_file(model: str) -> bool:
    """True for the path of a file, False for 'module:function'."""
    return model.lower().endswith((".onnx", ".pt2"))


def _assumption(candidate: Candidate) -> str:
    grey = candidate.spec.preprocess.channel_order == "GREY"
    what = "grey pixels in [0, 1]" if grey else "that of most ImageNet nets (--preprocess imagenet)"
    return (
        f"The model does not say how its pictures are prepared; {what} was assumed. If that is "
        f"wrong, every score here is: check, and name another with --preprocess."
    )


def _in_blocks(predict: Predict) -> Predict:
    def answer(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        starts = range(0, len(batch), _BLOCK)
        return np.concatenate([predict(batch[start : start + _BLOCK]) for start in starts])

    return answer
