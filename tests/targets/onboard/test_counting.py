"""Counts of an emulator read back: exact, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from targets.onboard.counting import VARIABLE, Counter, fewest, spread
from targets.onboard.measure import measure


def appending(path: Path, line: str) -> Any:
    """A call after which the emulator's line is there."""

    def call() -> None:
        with path.open("a") as file:
            file.write(line)

    return call


def test_nothing_counts_on_real_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert Counter.from_environment() is None


def test_each_call_has_its_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "counts"
    path.write_text("a line of before\n")
    monkeypatch.setenv(VARIABLE, str(path))
    counter = Counter.from_environment()
    assert counter is not None
    counter.call(appending(path, '{"insns": 1010, "sdot": 7}\n'))
    counter.call(appending(path, '{"insns": 1000, "sdot": 7}\n'))
    counts = counter.counts()
    assert counts == [{"insns": 1010, "sdot": 7}, {"insns": 1000, "sdot": 7}]
    assert fewest(counts) == counts[1]
    assert spread(counts) == 0.01


def test_marks_without_an_emulator_are_harmless_and_found_out(tmp_path: Path) -> None:
    path = tmp_path / "counts"
    path.touch()
    counter = Counter(path)
    counter.call(lambda: None)
    with pytest.raises(ValueError, match=r"^1 calls were marked, but .* has 0 lines for them; is"):
        counter.counts()


def test_a_call_that_fails_is_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "counts"
    path.touch()
    counter = Counter(path)
    with pytest.raises(ZeroDivisionError):
        counter.call(lambda: 1 / 0)
    assert counter.counts() == []


@pytest.mark.parametrize(
    "line",
    [
        "[]\n",
        "{}\n",
        '{"insns": -1}\n',
        '{"insns": 1.5}\n',
        '{"insns": true}\n',
        '{"insns": 9223372036854775808}\n',
        '{"insns": 1, "sdot": "2"}\n',
        '{"insns": 1\n',
        '{"insns": 1}\n{"insns": 1}\n',
        '{"insns": 1' + " " * 5000 + "}\n",
        "",
    ],
)
def test_anything_else_in_the_file_is_refused(line: str, tmp_path: Path) -> None:
    path = tmp_path / "counts"
    path.touch()
    counter = Counter(path)
    counter.call(appending(path, line))
    with pytest.raises(ValueError, match=r"."):
        counter.counts()


def test_several_threads_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the calling one is counted: the figure would leave the others' work out."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "counts"))
    net = tmp_path / "net.onnx"
    net.touch()
    with pytest.raises(ValueError, match=r"^instructions are counted with 1 thread, not 2$"):
        measure({"path": str(net), "threads": 2})
