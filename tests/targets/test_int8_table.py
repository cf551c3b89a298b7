"""The table of integer files: each beside the fp32 file of its format."""

from __future__ import annotations

from dataclasses import replace

from targets.int8_table import COLUMNS, int8_rows
from targets.render import TABLES
from targets.report_row import Decibels
from tests.reports import make_report, make_row


def test_an_integer_file_stands_beside_the_fp32_one_of_its_format() -> None:
    plain = make_row("net-fp32.onnx", "fp32", 160_000, 0.10, 0.99)
    other = make_row("net-fp32.tflite", "fp32", 160_000, 5.0, 0.99)
    container = make_row("net-int8.dc", "int8", 20_000, 1.0, 0.99)
    int8 = replace(
        make_row("net-int8.onnx", "int8", 40_000, 0.04, 0.98),
        file_bytes=43_200,
        samples=500,
        lost=17,
        won=10,
        agreement=0.926,
        logit_sqnr_db=Decibels(21.04, 20.6, 21.47),
    )
    report = make_report(replace(plain, file_bytes=160_000), other, container, int8)
    (cells,) = int8_rows([report])
    row = dict(zip(COLUMNS, cells, strict=True))
    assert (row["File"], row["Size"], row["Of fp32's"]) == ("net-int8.onnx", "43,200 B", "0.270")
    # Agresti and Min by hand: 7 / 502 +- 1.959964 sqrt(28 - 49 / 502) / 502.
    assert row["Lost - won"] == "7 of 500 (-3 to 17)"
    assert row["Agreement"] == "92.60 % (90.0-94.6)"
    assert row["Logit SQNR"] == "21.0 dB (20.6-21.5)"
    assert row["Faster than fp32"].startswith("2.50× (2.50-2.50")
    assert TABLES["int8"]([report]).count("\n") == 2


def test_times_of_other_devices_or_threads_are_not_compared() -> None:
    plain = make_row("net-fp32.onnx", "fp32", 160_000, 0.10, 0.99)
    int8 = make_row("net-int8.onnx", "int8", 40_000, 0.04, 0.98)
    four = [replace(row, threads=4) for row in (plain, int8)]
    rows = list(int8_rows([make_report(plain, int8, *four)]))
    assert [cells[9][:5] for cells in rows] == ["2.50×"] * 2
    slow = replace(plain, times_ms=tuple(tuple(2 * t for t in run) for run in plain.times_ms))
    rows = list(int8_rows([make_report(slow, int8, *four)]))
    assert [cells[9][:5] for cells in rows] == ["5.00×", "2.50×"]
    (cells,) = int8_rows([make_report(replace(plain, threads=4), int8)])
    assert (cells[3], cells[9]) == ("0.250", "—")


def test_without_them_a_cell_says_so() -> None:
    alone = make_row("net-int8.tflite", "int8", 22_000, 0.051, 0.99)
    alone = replace(alone, logit_sqnr_db=None, agreement=None)
    (cells,) = int8_rows([make_report(alone)])
    assert (cells[3], cells[7], cells[8], cells[9]) == ("—",) * 4
