"""LeNet-300-100 and LeNet-5, the two nets for MNIST of the Deep Compression paper.

Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: "Gradient-Based Learning Applied to Document
Recognition", Proceedings of the IEEE 86(11), 1998. The variants here are those of S. Han,
H. Mao, W. J. Dally: "Deep Compression", ICLR 2016, section 5.1 (arXiv:1510.00149), which took
LeNet-5 as Caffe's `lenet_train_test.prototxt` defines it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compress.models.presets import digits_spec
from compress.spec import ModelSpec


class LeNet300(nn.Module):
    """Three fully connected layers, 784-300-100-10, with ReLU between them: 266,610 parameters.

    Input (N, 1, 28, 28), flattened inside; output (N, 10) logits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 300)
        self.relu1 = nn.ReLU()
        self.fc2 = nn.Linear(300, 100)
        self.relu2 = nn.ReLU()
        self.fc3 = nn.Linear(100, 10)
        _caffe_xavier(self)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.flatten(x, 1)
        x = self.relu1(self.fc1(x))
        x = self.relu2(self.fc2(x))
        return self.fc3(x)


class LeNet5(nn.Module):
    """Caffe's LeNet-5, the one Deep Compression takes: 431,080 parameters.

    As in Caffe there is no ReLU after the convolutions (the max pools are the only
    nonlinearity there); the one ReLU stands between fc1 and fc2. Caffe rounds pooled sizes up,
    which makes no difference at 24 and 8 pixels. Input (N, 1, 28, 28); output (N, 10) logits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.pool2 = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(800, 500)
        self.relu1 = nn.ReLU()
        self.fc2 = nn.Linear(500, 10)
        _caffe_xavier(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(self.conv1(x))
        x = self.pool2(self.conv2(x))
        x = torch.flatten(x, 1)
        x = self.relu1(self.fc1(x))
        return self.fc2(x)


def lenet300() -> nn.Module:
    """LeNet-300-100, newly initialised."""
    return LeNet300()


def lenet5() -> nn.Module:
    """Caffe's LeNet-5, newly initialised."""
    return LeNet5()


def lenet300_spec() -> ModelSpec:
    """LeNet-300-100 for MNIST: grey pixels / 255, mean 0.1307, standard deviation 0.3081."""
    return digits_spec("compress.models.lenet:lenet300")


def lenet5_spec() -> ModelSpec:
    """LeNet-5 for MNIST: grey pixels / 255, mean 0.1307, standard deviation 0.3081."""
    return digits_spec("compress.models.lenet:lenet5")


def _caffe_xavier(net: nn.Module) -> None:
    """Caffe's filler "xavier": uniform with variance 1 / fan_in; biases 0."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="linear")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
