"""The teacher of a distillation: another net's answers to the very pictures of each batch."""

from __future__ import annotations

import zlib

import numpy as np
import torch

from compress.candidate import Candidate
from compress.task import Batch, Predict

Teacher = Candidate | Predict


class Teaching:
    """Gives the teacher's outputs; a float candidate computes where and as the net does."""

    def __init__(self, teacher: Teacher, device: torch.device) -> None:
        self._device = device
        self._predict = teacher.predict if isinstance(teacher, Candidate) else teacher
        self._module = None
        if isinstance(teacher, Candidate) and not teacher.activations:
            self._module = teacher.network.module().to(device)

    def __call__(self, pictures: Batch) -> torch.Tensor:
        """float32 (n, classes), without gradient, for float32 (n, C, H, W)."""
        if self._module is None:
            outputs = torch.from_numpy(np.array(self._predict(pictures), np.float32))
            return outputs.flatten(1).to(self._device)
        with torch.no_grad():
            return self._module(torch.from_numpy(pictures).to(self._device)).flatten(1).float()


def teacher_digest(teacher: Teacher, pictures: Batch) -> str:
    """What tells one teacher from another: a candidate's digest, a function's answers."""
    if isinstance(teacher, Candidate):
        return teacher.digest()
    return f"{zlib.crc32(np.ascontiguousarray(teacher(pictures))):08x}"
