"""The paper's accounting: figures counted by hand, and sums that are the file's own bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compress.encoding import Encoded, Masked, int8_codebook
from compress.errors import ReportError
from targets.account import Account, FileAccount
from targets.account_words import ACCOUNT_COLUMNS, account_rows, account_summary
from targets.accounting import account_file
from targets.formats.dc_codes import CODINGS, GAPS
from targets.formats.dc_envelope import read_container, write_container
from tests.containers import sparse_lenet, write_untraced

ABOUT = {"digest": "0" * 64}
ONE = np.ones(1, np.float32)


def account(path: Path, **tensors: object) -> FileAccount:
    write_container(path, ABOUT, tensors)  # type: ignore[arg-type]
    return account_file(path)


def encoded(codes: np.ndarray, bits: int) -> tuple[np.ndarray, Encoded]:
    book = np.r_[0, np.random.default_rng(0).normal(size=(1 << bits) - 1)].astype(np.float32)
    encoding = Encoded(codes, book, ONE)
    return encoding.decode(), encoding


@pytest.fixture
def only_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The coding that the paper has."""
    for number in set(CODINGS) - {GAPS}:
        monkeypatch.delitem(CODINGS, number)


@pytest.mark.usefixtures("only_gaps")
def test_a_sparse_layer_by_hand(tmp_path: Path) -> None:
    """Every tenth of 1,000 weights is kept: gaps of 9 zeros need 4 bits, no filler."""
    codes = np.zeros(1000, np.uint8)
    codes[9::10] = np.arange(100) % 15 + 1
    found = account(tmp_path / "c.dc", w=encoded(codes, 4)).tensors[0]
    assert (found.weights, found.kept, found.coding) == (1000, 100, "gaps")
    assert (found.weight_bits, found.index_bits) == (4, 4)
    assert found.pruned_bytes == 100 * (32 + 4) // 8
    assert found.shared_bytes == 100 * (4 + 4) // 8 + 16 * 4
    # All gaps are alike, so their words take none but the table's two bytes.
    assert found.coded_index_bits == pytest.approx(8 * 2 / 100, abs=0.09)
    # 15 codes of equal number take at most 4 bits and their table.
    assert 3.9 <= (found.coded_weight_bits or 0) <= 4 + 8 * 10 / 100


@pytest.mark.usefixtures("only_gaps")
def test_fillers_count(tmp_path: Path) -> None:
    """One weight after 1,000 zeros: with 8 bits three fillers of 256 places; 4 entries."""
    codes = np.zeros(1001, np.uint8)
    codes[-1] = 1
    found = account(tmp_path / "c.dc", w=encoded(codes, 1)).tensors[0]
    assert found.pruned_bytes == 4 * (32 + 8) // 8
    by_width = [(1 + (1000 >> w)) * (1 + w) for w in range(1, 9)]
    assert found.shared_bytes == (min(by_width) + 7) // 8 + 8
    assert found.index_bits == 1 + by_width.index(min(by_width))


def test_a_dense_layer_has_no_gaps(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).integers(1, 32, 5000).astype(np.uint8)
    found = account(tmp_path / "c.dc", w=encoded(codes, 5)).tensors[0]
    assert (found.index_bits, found.coded_index_bits) == (0, None)
    assert found.pruned_bytes == 4 * 5000
    assert found.shared_bytes == 5000 * 5 // 8 + 32 * 4
    assert 4.9 < (found.coded_weight_bits or 0) < 5.1


@pytest.mark.usefixtures("only_gaps")
def test_pruned_floats_and_integer_grids(tmp_path: Path) -> None:
    mask = np.zeros(800, np.bool_)
    mask[::8] = True
    values = np.where(mask, np.random.default_rng(1).normal(size=800), 0).astype(np.float32)
    indices = mask.astype(np.uint8).reshape(8, 100) * np.uint8(7)
    grid = Encoded(indices, int8_codebook(), np.full(8, 0.5, np.float32), 0)
    tensors = {"m": (values, Masked(mask)), "g": (grid.decode(), grid)}
    found = {a.name: a for a in account(tmp_path / "c.dc", **tensors).tensors}
    # The first is at place 0, so its gap is none; width 3 passes seven zeros.
    assert found["m"].pruned_bytes == found["m"].shared_bytes == (100 * (32 + 3) + 7) // 8
    assert (found["m"].weight_bits, found["m"].index_bits) == (32, 3)
    assert 26 < (found["m"].coded_weight_bits or 0) < 30
    assert found["g"].shared_bytes == (100 * (8 + 3) + 7) // 8 + 256 + 8 * 4


def test_totals_are_the_files_bytes(tmp_path: Path) -> None:
    path = write_untraced(sparse_lenet(grids=True), tmp_path / "c.dc")
    found = account_file(path)
    size = path.stat().st_size
    payload = sum(record.payload_bytes for record in read_container(path).records)
    assert found.file_bytes == size
    assert found.overhead_bytes == size - payload
    assert sum(a.coded_bytes for a in found.tensors) == payload
    assert sum(a.weights for a in found.tensors) == 237_810
    assert found.tensors[-1].name == "3 others, uncoded"
    assert found.tensors[-1].shared_bytes == 4 * 410
    rows = list(account_rows(found))
    assert all(len(row) == len(ACCOUNT_COLUMNS) for row in rows)
    assert rows[-1][-1] == f"{size:,}"
    assert int(rows[-2][-1]) == found.overhead_bytes
    assert account_summary(found).endswith(f"P+Q+H {951_240 / size:.1f}x: {size} bytes")


def test_the_golden_file_of_version_1_adds_up() -> None:
    path = Path(__file__).resolve().parents[1] / "golden" / "sparse_lenet.v1.dc"
    found = account_file(path)
    assert found.file_bytes == path.stat().st_size
    assert {a.coding for a in found.tensors} == {"gaps", "plain"}


def test_a_file_of_nothing(tmp_path: Path) -> None:
    found = account(tmp_path / "c.dc")
    assert list(account_rows(found))[-1][-1] == str(found.file_bytes)
    zero = np.zeros((3, 0), np.float32)
    found = account(tmp_path / "c.dc", w=(zero, Masked(zero != 0)), b=(zero, None))
    assert [a.weights for a in found.tensors] == [0, 0]
    assert next(iter(account_rows(found)))[1:3] == ("0", "—")


def test_accounts_that_contradict_themselves() -> None:
    row = Account("w", "gaps", 10, 5, 4, 3, 3.5, 2.5, 30, 20, 15)
    assert FileAccount("a.dc", "0" * 64, 20, 5, (row,)).tensors == (row,)
    with pytest.raises(ReportError, match="adds up to 19 bytes, the file has 20"):
        FileAccount("a.dc", "0" * 64, 20, 4, (row,))
    for wrong in ({"kept": 11}, {"kept": -1}, {"coded_bytes": -1}, {"weight_bits": -1}):
        with pytest.raises(ReportError, match="account of 'w'"):
            replace(row, **wrong)
