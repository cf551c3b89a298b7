"""What the nets' specifications share: class names, preprocessing, input shapes, limits."""

from __future__ import annotations

from dataclasses import replace

from compress.errors import SpecError
from compress.spec import ModelSpec, Preprocess, TensorSpec

DIGITS = tuple(str(digit) for digit in range(10))

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

# The names of the 1,000 ImageNet classes are not embedded: they take 40 kB in every file, and
# the caller who has them hands them to the specification.
IMAGENET_INDICES = tuple(str(index) for index in range(1000))

MNIST_PREPROCESS = Preprocess(channel_order="GREY", mean=(0.1307,), std=(0.3081,))

_RGB_MEAN = (0.485, 0.456, 0.406)
_RGB_STD = (0.229, 0.224, 0.225)

CIFAR_PREPROCESS = Preprocess(mean=_RGB_MEAN, std=_RGB_STD)

IMAGENET_PREPROCESS = Preprocess(
    resize=256, crop=224, interpolation="bilinear", antialias=True, mean=_RGB_MEAN, std=_RGB_STD
)

MAX_CLASSES = 100_000
MAX_IN_CHANNELS = 64
MAX_SIDE = 1024


def digits_spec(builder: str) -> ModelSpec:
    """The specification of a net for MNIST whose builder takes no arguments."""
    return ModelSpec(
        builder=builder,
        inputs=(TensorSpec(name="input", shape=(1, 1, 28, 28), dtype="float32"),),
        classes=DIGITS,
        preprocess=MNIST_PREPROCESS,
    )


def picture_spec(
    builder: str, classes: tuple[str, ...] | None, small: bool, /, **kwargs: bool | int | float
) -> ModelSpec:
    """The specification of a net for RGB pictures, whose builder takes `classes` and `kwargs`.

    `small`: 32 x 32 pixels, CIFAR-10's class names and no resizing unless told otherwise;
    else 224 x 224 with torchvision's preprocessing for ImageNet. `classes`: the class names.
    """
    names = classes if classes is not None else (CIFAR10_CLASSES if small else IMAGENET_INDICES)
    side = 32 if small else 224
    return ModelSpec(
        builder=builder,
        kwargs={"classes": len(names), **kwargs},
        inputs=(TensorSpec(name="input", shape=(1, 3, side, side), dtype="float32"),),
        classes=names,
        preprocess=CIFAR_PREPROCESS if small else IMAGENET_PREPROCESS,
    )


def at_resolution(spec: ModelSpec, side: int) -> ModelSpec:
    """`spec` for inputs of `side` x `side` pixels; resizing and cropping, if any, in proportion."""
    _check_whole("resolution", side, MAX_SIDE)
    old = spec.preprocess
    shapes = tuple(replace(t, shape=(*t.shape[:2], side, side)) for t in spec.inputs)
    if old.crop is None or not isinstance(old.resize, int):
        return replace(spec, inputs=shapes)
    resize = round(old.resize * side / old.crop)
    return replace(spec, inputs=shapes, preprocess=replace(old, resize=resize, crop=side))


def check_sizes(classes: int, in_channels: int = 3) -> None:
    """Refuse sizes that no net has: builder arguments may come from a file."""
    _check_whole("classes", classes, MAX_CLASSES)
    _check_whole("in_channels", in_channels, MAX_IN_CHANNELS)


def check_width(width: object, largest: float) -> None:
    """Refuse a width multiplier that is not a number in (0, largest]."""
    if not (isinstance(width, int | float) and 0 < width <= largest):  # NaN fails here too
        raise SpecError(f"width={width!r} is not a number above 0 and at most {largest}")


def check_flag(name: str, value: object) -> None:
    """Refuse what is neither true nor false: any text of a file would count as true."""
    if not isinstance(value, bool):
        raise SpecError(f"{name}={value!r} is neither true nor false")


def _check_whole(name: str, value: object, largest: int) -> None:
    if type(value) is not int or not 1 <= value <= largest:
        raise SpecError(f"{name}={value!r} is not a whole number from 1 to {largest:,}")
