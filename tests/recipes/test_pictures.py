"""Pictures by path: what is found, how it is labelled, decoded, resized, and what is refused."""

from __future__ import annotations

import gzip
import io
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from compress.errors import DataError, MissingExtraError
from compress.spec import ModelSpec, Preprocess, TensorSpec
from recipes.pictures.decoding import decode
from recipes.pictures.opening import open_pictures, open_splits
from recipes.pictures.preparing import Prepared, apply, prepare
from recipes.pictures.resizing import Interpolation, resize
from recipes.pictures.sources import Chosen, PictureFolder, need_labels
from recipes.pictures.torchvision_sets import TorchvisionPictures, torchvision_pictures

pil = pytest.importorskip("PIL.Image", reason="needs pip install 'edgepress[pictures]'")

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
CIFAR = ("airplane", "hot dog", "cat")
PLAIN = Preprocess()


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def saved(path: Path, pixels: NDArray[np.uint8] | None = None, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pil.fromarray(noise(6, 8) if pixels is None else pixels).save(path, **options)
    return path


def table(folder: Path, text: str, *files: str) -> Path:
    for file in files:
        saved(folder / file)
    (folder / "labels.csv").write_text(text)
    return folder


# --- resizing


def by_torch(pixels: NDArray[np.uint8], size: tuple[int, int], mode: str) -> NDArray[np.uint8]:
    image = torch.from_numpy(pixels.transpose(2, 0, 1)[None].astype(np.float64))
    corners = {} if mode == "nearest-exact" else {"align_corners": False}
    found = F.interpolate(image, size, mode=mode, **corners)[0].permute(1, 2, 0)
    return found.round().clamp(0, 255).numpy().astype(np.uint8)


SIZES = [((40, 30), (20, 15)), ((37, 53), (16, 16)), ((5, 9), (32, 31)), ((1, 7), (3, 2))]


@pytest.mark.parametrize(("inside", "outside"), SIZES)
@pytest.mark.parametrize("kind", ["nearest", "bilinear", "bicubic"])
def test_without_antialias_resizes_as_torch(
    inside: tuple[int, int], outside: tuple[int, int], kind: Interpolation
) -> None:
    pixels = noise(*inside)
    mode = "nearest-exact" if kind == "nearest" else kind
    np.testing.assert_array_equal(resize(pixels, outside, kind), by_torch(pixels, outside, mode))


def test_bilinear_by_hand() -> None:
    """Output 1 of 2 lies at 2.5 of 4: half of pixels 2 and 3, not the mean of more."""
    row = np.array([10, 20, 40, 81], np.uint8).reshape(1, 4, 1)
    assert resize(row, (1, 2), "bilinear").ravel().tolist() == [15, 60]  # 60.5, half to even
    # At 3 of 4 output 1 lies at 1.5, output 0 at 1/6.
    assert resize(row, (1, 3), "bilinear").ravel().tolist() == [12, 30, 74]


def test_a_tie_of_nearest_is_exact() -> None:
    """Output 37 of 300 lies on the line between pixels 31 and 32 of 256: 37.5 * 256 / 300 = 32."""
    row = np.arange(256, dtype=np.uint8).reshape(1, 256, 1)
    assert resize(row, (1, 300), "nearest")[0, 37, 0] == 32


@pytest.mark.parametrize("kind", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), [(50, 67), (67, 50), (9, 9)])
def test_antialiased_resize_is_pillows_on_the_shorter_side(
    kind: Interpolation, height: int, width: int
) -> None:
    pixels = noise(height, width)
    size = {(50, 67): (26, 20), (67, 50): (20, 26), (9, 9): (20, 20)}[height, width]  # 26.8 cut
    filters = {"nearest": 0, "bilinear": 2, "bicubic": 3}
    expected = np.asarray(pil.fromarray(pixels).resize(size, filters[kind]))
    found = prepare(Preprocess(resize=20, interpolation=kind), pixels, "x")
    np.testing.assert_array_equal(found, expected)


def test_warp_takes_height_first() -> None:
    assert prepare(Preprocess(resize=(4, 6)), noise(9, 9), "x").shape == (4, 6, 3)
    assert prepare(Preprocess(resize=(4, 6), antialias=False), noise(9, 9), "x").shape == (4, 6, 3)


def test_the_squeezenet_preprocessing(tmp_path: Path) -> None:
    """Warp to 256 without antialias, centre 227 from round(14.5) = 14 on, BGR."""
    path = saved(tmp_path / "a.png", noise(300, 400))
    how = Preprocess(resize=(256, 256), crop=227, antialias=False, channel_order="BGR")
    warped = by_torch(noise(300, 400), (256, 256), "bilinear")
    np.testing.assert_array_equal(apply(how, path), warped[14:241, 14:241, ::-1])
    assert apply(how, path).flags.c_contiguous


@pytest.mark.parametrize(("side", "crop", "first"), [(7, 4, 2), (9, 4, 2), (8, 3, 2), (5, 5, 0)])
def test_the_crop_begins_at_half_to_even(side: int, crop: int, first: int) -> None:
    pixels = noise(side, side)
    found = prepare(Preprocess(crop=crop), pixels, "x")
    np.testing.assert_array_equal(found, pixels[first : first + crop, first : first + crop])


def test_a_picture_smaller_than_the_crop_is_refused() -> None:
    with pytest.raises(DataError, match=r"^p\.jpg: 8 x 6 pixels before the crop.*7 x 7"):
        prepare(Preprocess(crop=7), noise(6, 8), "p.jpg")


def test_grey_is_pillows_grey_and_back() -> None:
    pixels = noise(40, 40)
    grey = prepare(Preprocess(channel_order="GREY"), pixels, "x")
    np.testing.assert_array_equal(grey[:, :, 0], np.asarray(pil.fromarray(pixels).convert("L")))
    assert prepare(Preprocess(channel_order="GREY", resize=9), pixels, "x").shape == (9, 9, 1)
    wide = prepare(PLAIN, grey[:, :, 0], "x")
    np.testing.assert_array_equal(wide, np.repeat(grey, 3, axis=2))


# --- decoding


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "A.PNG", "a.webp", "a.jpg"])
def test_formats(tmp_path: Path, name: str) -> None:
    smooth = np.full((6, 8, 3), (200, 100, 50), np.uint8)
    found = decode(saved(tmp_path / name, smooth, **({"lossless": True} if "web" in name else {})))
    assert found.shape == (6, 8, 3)
    assert np.abs(found.astype(int) - smooth).max() <= (2 if name == "a.jpg" else 0)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK"])
def test_every_8_bit_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    suffix = "jpg" if mode == "CMYK" else "png"
    white = pil.fromarray(np.full((4, 5, 3), 255, np.uint8))
    white.convert(mode).save(tmp_path / f"a.{suffix}")
    assert decode(tmp_path / f"a.{suffix}").tolist() == [[[255] * 3] * 5] * 4


def test_pictures_are_turned_upright(tmp_path: Path) -> None:
    """Orientation 6: the camera was turned, the top of the scene is the right of the file."""
    pixels = noise(4, 6)
    exif = pil.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "a.png", pixels, exif=exif)
    np.testing.assert_array_equal(decode(path), np.rot90(pixels, -1))


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that claims side x side pixels."""
    chunks = {b"IHDR": struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0), b"IDAT": b"\0"}
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    stream = io.BytesIO()
    pil.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


BAD_FILES = {
    "empty": (b"", "cannot be read as a picture"),
    "text": (b"no picture", "cannot be read as a picture"),
    "cut": (png(noise(64, 64))[:3000], "cannot be read as a picture"),
    "claim": (bomb(12_000), "12000 x 12000 pixels, at most 134,217,728 are read"),
    "bomb": (bomb(60_000), "exceeds limit"),
    "gif": (b"GIF89a\1\0\1\0\0\0\0;", "JPEG, PNG, WebP and BMP are read"),
    "deep": (png(np.zeros((4, 4), np.uint16)), "more than 8 bits a channel"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files_name_themselves_in_one_line(tmp_path: Path, kind: str) -> None:
    content, reason = BAD_FILES[kind]
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        decode(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert reason in message
    assert "\n" not in message


def test_damage_anywhere_is_a_data_error_or_a_picture(tmp_path: Path) -> None:
    """Random bytes changed in a JPEG: never another exception."""
    stream = io.BytesIO()
    pil.fromarray(noise(32, 32)).save(stream, "JPEG")
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(150):
        content = np.frombuffer(stream.getvalue(), np.uint8).copy()
        content[rng.integers(0, 300, 4)] = rng.integers(0, 256, 4)
        (tmp_path / "a.jpg").write_bytes(content.tobytes())
        try:
            assert decode(tmp_path / "a.jpg").dtype == np.uint8
        except DataError:
            refused += 1
    assert 0 < refused < 150


def test_without_pillow_the_message_has_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'edgepress\[pictures\]'"):
        decode(path)
    # Arrays that need no smooth resizing go without it.
    assert prepare(Preprocess(resize=4, antialias=False), noise(8, 8), "x").shape == (4, 4, 3)


# --- what a path holds


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.PNG", "c.bmp", ".hidden.jpg"):
        saved(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    found = open_pictures(tmp_path, CIFAR)
    assert [Path(found.name(i)).name for i in range(len(found))] == ["a.PNG", "b.jpg", "c.bmp"]
    assert found.labels is None
    assert found.classes == CIFAR
    with pytest.raises(DataError, match="training needs labels"):
        need_labels(found, "training")


def class_folders(root: Path, *names: str) -> Path:
    for count, name in enumerate(names, start=1):
        for number in range(count):
            saved(root / name / "deeper" / f"{number}.png")
    return root


def labels_of(path: Path, classes: tuple[str, ...] = ()) -> tuple[list[int], tuple[str, ...]]:
    found = open_pictures(path, classes)
    assert found.labels is not None
    assert found.labels.dtype == np.int64
    assert len(found.labels) == len(found)
    return found.labels.tolist(), found.classes


def test_class_folders_in_alphabetical_order(tmp_path: Path) -> None:
    class_folders(tmp_path, "dog", "cat")
    (tmp_path / ".cache").mkdir()
    assert labels_of(tmp_path) == ([0, 0, 1], ("cat", "dog"))


def test_class_folders_by_the_nets_names(tmp_path: Path) -> None:
    class_folders(tmp_path, "Hot_Dog", "airplane")
    assert labels_of(tmp_path, CIFAR) == ([1, 0, 0], CIFAR)


def test_class_folders_of_a_net_without_names(tmp_path: Path) -> None:
    numbers = tuple(map(str, range(3)))
    assert labels_of(class_folders(tmp_path / "a", "2", "0"), numbers) == ([0, 0, 2], numbers)
    synsets = ("n1", "n2", "n7")
    assert labels_of(class_folders(tmp_path / "b", *synsets), numbers) == (
        [0, 1, 1, 2, 2, 2],
        synsets,
    )
    with pytest.raises(DataError, match=r"2 class folders .* has 3 classes without names"):
        open_pictures(class_folders(tmp_path / "c", "n1", "n2"), numbers)


def test_labels_csv_in_its_two_real_forms(tmp_path: Path) -> None:
    rows = 'a.jpg,2,n1,"tench, Tinca",by\r\nb.jpg,0,n0,vase,me\r\n'
    table(tmp_path, "file,label0,synset,name,license\r\n" + rows, "images/a.jpg", "images/b.jpg")
    assert labels_of(tmp_path, CIFAR) == ([2, 0], CIFAR)
    assert labels_of(tmp_path / "labels.csv") == ([2, 0], ())
    assert open_pictures(tmp_path).name(1) == str(tmp_path / "images" / "b.jpg")


@pytest.mark.parametrize(
    ("text", "classes", "expected"),
    [
        ("Filename;Class\na.png;cat\nb.png;hot dog\n", CIFAR, ([2, 1], CIFAR)),
        ("\ufeffimage\tlabel\na.png\tzebra\nb.png\tape\n", (), ([1, 0], ("ape", "zebra"))),
        ("target,path\n2.0,a.png\n\n1,b.png\n", (), ([2, 1], ())),
    ],
)
def test_labels_csv_liberally(
    tmp_path: Path,
    text: str,
    classes: tuple[str, ...],
    expected: tuple[list[int], tuple[str, ...]],
) -> None:
    assert labels_of(table(tmp_path, text, "a.png", "b.png"), classes) == expected


def test_an_empty_label_column_means_no_labels(tmp_path: Path) -> None:
    assert open_pictures(table(tmp_path, "file,label\na.png,\n", "a.png")).labels is None


BAD_TABLES = {
    "no column": ("file,colour\na.png,1\n", "one of label0, label, class"),
    "no rows": ("file,label\n", "lists no picture"),
    "missing": ("file,label\nz.png,1\n", "line 2: z.png is not in"),
    "twice": ("file,label\na.png,1\nb.png,0\na.png,1\n", "line 4: a.png stands in line 2 too"),
    "out of range": ("file,label\na.png,1\nb.png,3\n", "line 3: label 3, class numbers 0 to 2"),
    "negative": ("file,label\na.png,-1\n", "line 2: label -1, class numbers"),
    "no integer": ("file,label\na.png,1\nb.png,1.5\n", "line 3: label '1.5' is no whole number"),
    "a hole": ("file,label\na.png,1\nb.png,\n", "line 3: b.png has no label"),
    "no class": ("file,label\na.png,dog\n", "line 2: 'dog' is none of the net's classes: airplane"),
    "outside": ("file,label\n../a.png,1\n", "line 2: '../a.png' is no file name within"),
    "short": ("file,label\na.png\n", "line 2: 1 cells"),
    "quote": ('file,label\n"a.png,1\n', "quote cells"),
    "nothing": ("", "columns none"),
}


@pytest.mark.parametrize("kind", BAD_TABLES)
def test_bad_tables_name_the_line(tmp_path: Path, kind: str) -> None:
    text, reason = BAD_TABLES[kind]
    table(tmp_path, text, "a.png", "b.png")
    with pytest.raises(DataError) as caught:
        open_pictures(tmp_path, CIFAR)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'labels.csv'}")
    assert reason in message
    assert "\n" not in message


def test_a_table_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"file,label\n\xff\xfe,1\n")
    with pytest.raises(DataError, match="byte 11 is not UTF-8"):
        open_pictures(tmp_path)


def test_a_name_of_two_classes_is_refused(tmp_path: Path) -> None:
    """ImageNet has two cranes."""
    table(tmp_path, "file,label\na.png,crane\n", "a.png")
    with pytest.raises(DataError, match=r"names 2 of the net's classes \(\[0, 2\]\)"):
        open_pictures(tmp_path, ("crane", "dog", "crane"))


def nothing(root: Path) -> None:
    assert not any(root.iterdir())


def heic(root: Path) -> None:
    root.joinpath("a.HEIC").write_bytes(b"x")


def mixed(root: Path) -> None:
    saved(root / "a.png")
    saved(root / "cat" / "b.png")


def hollow(root: Path) -> None:
    saved(root / "cat" / "b.png")
    (root / "dog").mkdir()


def unknown(root: Path) -> None:
    saved(root / "images" / "b.png")


def doubled(root: Path) -> None:
    saved(root / "hot dog" / "b.png")
    saved(root / "hot_dog" / "b.png")


@pytest.mark.parametrize(
    ("fill", "reason"),
    [
        (nothing, "no picture found; give a folder of pictures"),
        (heic, "no picture found, but 1 files '*.heic'"),
        (mixed, "pictures both in it and in cat"),
        (hollow, "a class without pictures"),
        (unknown, "'images' is none of the net's classes"),
        (doubled, "two folders are class 'hot dog'"),
    ],
)
def test_bad_folders(tmp_path: Path, fill: Callable[[Path], None], reason: str) -> None:
    fill(tmp_path)
    with pytest.raises(DataError) as caught:
        open_pictures(tmp_path, CIFAR)
    assert str(caught.value).startswith(str(tmp_path))
    assert reason in str(caught.value)


def test_bad_paths(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        open_pictures(tmp_path / "none")
    (tmp_path / "a.tar").write_bytes(b"x")
    with pytest.raises(DataError, match=r"a\.tar: not pictures"):
        open_pictures(tmp_path / "a.tar")


def test_npz_and_idx_arrays(tmp_path: Path) -> None:
    images = np.stack([noise(4, 4, seed) for seed in range(3)])
    np.savez(tmp_path / "a.npz", x=images, y=np.array([2, 0, 1]))
    found = open_pictures(tmp_path / "a.npz", CIFAR)
    assert labels_of(tmp_path / "a.npz", CIFAR) == ([2, 0, 1], CIFAR)
    np.testing.assert_array_equal(Prepared(found, PLAIN)[:], images)
    with pytest.raises(DataError, match=r"a\.npz, picture 0: label 2, class numbers 0 to 1"):
        open_pictures(tmp_path / "a.npz", ("a", "b"))

    def idx(name: str, *lengths: int) -> Path:
        head = struct.pack(f">BBBB{len(lengths)}I", 0, 0, 8, len(lengths), *lengths)
        (tmp_path / name).write_bytes(gzip.compress(head + bytes(range(int(np.prod(lengths))))))
        return tmp_path / name

    pictures = idx("t-images-idx3-ubyte.gz", 2, 3, 3)
    assert open_pictures(pictures).labels is None
    idx("t-labels-idx1-ubyte.gz", 2)
    assert labels_of(pictures) == ([0, 1], ())
    grey = Prepared(open_pictures(pictures), Preprocess(channel_order="GREY"))[:]
    assert grey.ravel().tolist() == list(range(18))
    idx("t-labels-idx1-ubyte.gz", 3)
    with pytest.raises(DataError, match=r"labels of shape \(3,\), pictures: 2"):
        open_pictures(pictures)


# --- pictures as an array


def test_prepared_reads_only_what_is_asked_for(tmp_path: Path) -> None:
    good = saved(tmp_path / "a.png", noise(8, 8, 1))
    other = saved(tmp_path / "b.png", noise(8, 8, 2))
    prepared = Prepared(PictureFolder((good, other, tmp_path / "gone.png")), PLAIN)
    assert len(prepared) == 3
    np.testing.assert_array_equal(prepared[1:2][0], noise(8, 8, 2))
    assert prepared[:2].shape == (2, 8, 8, 3)
    with pytest.raises(DataError, match=r"gone\.png: no such picture"):
        prepared[1:]
    with pytest.raises(DataError, match="no picture at"):
        prepared[3:]


def test_pictures_of_another_size_are_named(tmp_path: Path) -> None:
    paths = (saved(tmp_path / "a.png", noise(8, 8)), saved(tmp_path / "b.png", noise(6, 8)))
    with pytest.raises(DataError, match=r"b\.png: 8 x 6 pixels after .*, 8 x 8 are needed"):
        Prepared(PictureFolder(paths), PLAIN)[:]
    with pytest.raises(DataError, match=r"a\.png: 8 x 8 .* 5 x 4 are needed.*resize=None"):
        Prepared(PictureFolder(paths), PLAIN, (4, 5))[:1]


def test_chosen_pictures_keep_their_labels(tmp_path: Path) -> None:
    root = class_folders(tmp_path, "a", "b", "c")
    every = open_pictures(root)
    odd = Chosen(every, range(1, 6, 2))
    assert len(odd) == 3
    assert odd.labels is not None
    assert odd.labels.tolist() == [1, 2, 2]
    assert odd.classes == ("a", "b", "c")
    assert [odd.name(i) for i in range(3)] == [every.name(i) for i in (1, 3, 5)]
    np.testing.assert_array_equal(Prepared(odd, PLAIN)[2:3][0], every.pixels(5))


def small_spec() -> ModelSpec:
    inputs = (TensorSpec("input", (1, 3, 4, 4)),)
    return ModelSpec("m:f", inputs=inputs, classes=("a", "b"), preprocess=Preprocess(resize=4))


def test_splits_of_folders_and_arrays(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for name in "ab":
            saved(tmp_path / part / name / "1.png", noise(8, 8))
    np.savez(tmp_path / "test.npz", x=noise(4, 4)[None], y=np.array([1]))
    data = open_splits(tmp_path, small_spec())
    assert [len(split) for split in (data.train, data.val, data.test)] == [2, 2, 1]
    assert data.train.images.shape == (2, 4, 4, 3)
    assert data.train.labels.tolist() == [0, 1]
    np.testing.assert_array_equal(data.test.images[0], noise(4, 4))
    saved(tmp_path / "test" / "b" / "1.png")
    with pytest.raises(DataError, match=r"2 of test and test\.npz; one is needed"):
        open_splits(tmp_path, small_spec())


def test_splits_need_labels(tmp_path: Path) -> None:
    saved(tmp_path / "train" / "1.png", noise(8, 8))
    with pytest.raises(DataError, match=r"training needs labels, .*1\.png has none"):
        open_splits(tmp_path, small_spec())


# --- torchvision's data sets


class Items:
    """A data set in torchvision's form: item i is (picture, class number)."""

    def __init__(self, items: list[object], targets: object = None) -> None:
        self.items = items
        if targets is not None:
            self.targets = targets

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> object:
        return self.items[index]


def test_torchvisions_instances() -> None:
    colour, grey = pil.fromarray(noise(4, 5)), pil.fromarray(noise(4, 5)[:, :, 0])
    plain = TorchvisionPictures(Items([(colour, 2), (grey, 0)]), CIFAR)
    assert plain.labels.tolist() == [2, 0]
    np.testing.assert_array_equal(plain.pixels(0), noise(4, 5))
    np.testing.assert_array_equal(plain.pixels(1), noise(4, 5)[:, :, 0])
    told = TorchvisionPictures(Items([(colour, 2)], torch.tensor([1])))
    assert told.labels.tolist() == [1]


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ([], "Items: no picture"),
        ([(None, 3)], "Items, picture 0: label 3, class numbers 0 to 2"),
        ([(None, "cat")], "labels of type"),
        ([{"image": 1}], "picture 0: dict, expected"),
    ],
)
def test_other_sets_of_torchvision_are_refused(items: list[object], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        TorchvisionPictures(Items(items), CIFAR)


def test_transformed_items_are_refused() -> None:
    pictures = TorchvisionPictures(Items([(torch.zeros(3, 4, 4), 0)]))
    with pytest.raises(DataError, match="picture 0: Tensor, expected one of Pillow's"):
        pictures.pixels(0)


def test_torchvision_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Digits(Items):
        classes = ("0 - zero", "1 - one")

        def __init__(self, root: str, train: bool = True) -> None:
            if Path(root) != tmp_path:
                raise RuntimeError("Dataset not found or corrupted.\nUse download=True")
            super().__init__([(pil.fromarray(noise(4, 4)), int(train))])

    module = ModuleType("torchvision.datasets")
    module.__dict__.update(Digits=Digits, __all__=("Digits",))
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", module)
    found = torchvision_pictures("Digits", tmp_path, train=False)
    assert found.labels.tolist() == [0]
    assert found.classes == Digits.classes
    assert torchvision_pictures("Digits", tmp_path, CIFAR).classes == CIFAR
    with pytest.raises(DataError, match=r"no data set 'Cats'; it has Digits"):
        torchvision_pictures("Cats", tmp_path)
    with pytest.raises(DataError, match=r"Digits at .*not found or corrupted\.; fetch it first"):
        torchvision_pictures("Digits", tmp_path / "none")
    with pytest.raises(DataError, match="unexpected keyword argument 'colour'"):
        torchvision_pictures("Digits", tmp_path, colour=1)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(MissingExtraError, match="built for the torch that is installed"):
        torchvision_pictures("Digits", tmp_path)


# --- real photographs


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data beside this checkout")
@pytest.mark.parametrize(
    ("name", "count", "first"), [("photos_500", 500, 305), ("imagenet_sample_1000", 1000, 0)]
)
def test_real_photographs(name: str, count: int, first: int) -> None:
    classes = tuple(map(str, range(1000)))
    photos = open_pictures(SHARED / name, classes)
    assert len(photos) == count
    assert photos.labels is not None
    assert photos.labels[0] == first
    found = Prepared(Chosen(photos, range(3)), Preprocess(resize=256, crop=224), (224, 224))[:]
    assert found.shape == (3, 224, 224, 3)
    assert found.std() > 20
