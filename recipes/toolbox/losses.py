"""The loss of one batch: labels, soft or hard, and a teacher's answers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Mixing:
    """Mixup of a batch (Zhang et al. 2018, arXiv:1710.09412): share * own + (1 - share) * partner.

    partners: (N,), the number in the batch of the picture that each one is mixed with.
    """

    share: float
    partners: Labels

    @staticmethod
    def draw(alpha: float, count: int, rng: np.random.Generator) -> Mixing:
        """The share from Beta(alpha, alpha), one for the batch, and partners by permutation."""
        return Mixing(float(rng.beta(alpha, alpha)), rng.permutation(count))

    def mix(self, own: NDArray[np.float32], partner: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pictures, normalised, (n, C, H, W)."""
        return np.float32(self.share) * own + np.float32(1 - self.share) * partner


@dataclass(frozen=True)
class Targets:
    """What the outputs of n pictures are compared with.

    labels and partners' labels int64 (n,), of which `share` and 1 - `share` hold; teacher: its
    outputs (n, classes). None where there is none. label_scale, teacher_scale: what the two means
    over the n pictures are multiplied by, where they are a process's share of a larger batch.
    """

    labels: torch.Tensor | None
    partners: torch.Tensor | None = None
    share: float = 1.0
    teacher: torch.Tensor | None = None
    label_scale: float = 1.0
    teacher_scale: float = 1.0

    def to(self, device: torch.device) -> Targets:
        """The same on `device`."""
        held = {"labels": self.labels, "partners": self.partners, "teacher": self.teacher}
        return replace(self, **{k: None if t is None else t.to(device) for k, t in held.items()})


@dataclass(frozen=True)
class Loss:
    """(1 - alpha) * cross entropy with the labels + alpha * distillation from the teacher.

    smoothing: label smoothing (Szegedy et al. 2016, arXiv:1512.00567, section 7); weights: one
    for each class, by whose sum over the batch's labels the sum is divided; alpha and temperature:
    Hinton et al. 2015, arXiv:1503.02531, section 2: KL divergence of the softmax at `temperature`,
    times its square, so that its gradient has the size of the labels'.
    """

    smoothing: float = 0.0
    weights: torch.Tensor | None = None
    alpha: float = 0.0
    temperature: float = 1.0

    def __call__(self, outputs: torch.Tensor, targets: Targets) -> torch.Tensor:
        if targets.teacher is None:
            return self._labelled(outputs, targets)
        taught = self._taught(outputs, targets.teacher) * targets.teacher_scale
        if targets.labels is None:
            return taught
        return (1 - self.alpha) * self._labelled(outputs, targets) + self.alpha * taught

    def _labelled(self, outputs: torch.Tensor, targets: Targets) -> torch.Tensor:
        assert targets.labels is not None
        options = {"weight": self.weights, "label_smoothing": self.smoothing}
        if targets.partners is None:
            mean = F.cross_entropy(outputs, targets.labels, **options)
        else:
            soft = soft_labels(targets.labels, targets.partners, targets.share, outputs.shape[1])
            total = F.cross_entropy(outputs, soft, reduction="sum", **options)
            mean = total / (soft.sum() if self.weights is None else (soft * self.weights).sum())
        return mean * targets.label_scale

    def _taught(self, outputs: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        student = F.log_softmax(outputs / self.temperature, dim=1)
        goal = F.log_softmax(teacher / self.temperature, dim=1)
        divergence = F.kl_div(student, goal, log_target=True, reduction="batchmean")
        return divergence * self.temperature**2


def soft_labels(
    labels: torch.Tensor, partners: torch.Tensor, share: float, classes: int
) -> torch.Tensor:
    """Probabilities float32 (n, classes): `share` for the label, the rest for the partner's."""
    own, other = (F.one_hot(t, classes).float() for t in (labels, partners))
    return share * own + (1 - share) * other
