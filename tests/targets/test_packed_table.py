"""The packed table: beside the plain file of the same runtime and the container of the same net."""

from __future__ import annotations

from dataclasses import replace

from targets.packed_table import COLUMNS, packed_rows
from targets.render import TABLES
from tests.reports import make_report, make_row


def test_a_packed_file_stands_beside_its_plain_one_and_its_container() -> None:
    plain = make_row("net-fp32.onnx", "fp32", 160_000, 0.05, 0.99)
    other = make_row("net-fp32.tflite", "fp32", 160_000, 5.0, 0.99)
    container = replace(
        make_row("net-shared.dc", "shared", 20_000, 1.0, 0.99),
        file_bytes=20_000,
        download_bytes=20_010,
    )
    packed = replace(
        make_row("net-shared.packed.onnx", "shared", 22_000, 0.051, 0.99),
        format="onnx-packed",
        file_bytes=25_000,
        load_ms=12.6,
    )
    report = make_report(plain, other, container, packed)
    (cells,) = packed_rows([report])
    row = dict(zip(COLUMNS[:4], cells[:4], strict=True))
    assert row["File"] == "onnx, shared"
    assert row["Size"] == "25,000 B"
    assert cells[4:7] == ("1.250", "22,000 B", "1.100")
    assert cells[9].startswith("1.020 (1.020-1.020")
    assert cells[10] == "3.0 (13 ms)"
    assert TABLES["packed"]([report]).count("\n") == 2


def test_without_either_a_cell_says_so() -> None:
    alone = replace(
        make_row("net-int8.packed.tflite", "int8", 22_000, 0.051, 0.99), format="tflite-packed"
    )
    (cells,) = packed_rows([make_report(alone)])
    assert (cells[4], cells[6], cells[9], cells[10]) == ("—",) * 4
