"""A write happens whole or not at all, whatever ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from compress.atomic import atomic_path, make_folder, sweep, write_bytes, write_text
from compress.errors import OutputError


def test_a_write_makes_folders_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "file.txt"
    write_text(target, "grüße")
    assert target.read_bytes() == "grüße".encode()
    write_bytes(target, b"\x00\xff")
    assert target.read_bytes() == b"\x00\xff"
    assert [p.name for p in target.parent.iterdir()] == ["file.txt"]


def test_an_error_while_writing_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_bytes(target, b"old")

    def stopped() -> None:
        with atomic_path(target) as aside:
            aside.write_bytes(b"half")
            raise KeyError("stop")

    with pytest.raises(KeyError):
        stopped()
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_new_file_is_not_there_before_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "file"
    with atomic_path(target) as aside:
        aside.write_bytes(b"half")
        assert not target.exists()
        assert aside.parent == target.parent  # another disk could not be renamed from
    assert target.read_bytes() == b"half"


def test_a_kill_while_writing_leaves_the_old_file_whole(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_bytes(target, b"old")
    script = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from compress.atomic import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as aside:\n"
        "    aside.write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(target)], cwd=Path(__file__).parents[2], check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old"
    left = [p for p in tmp_path.iterdir() if p != target]
    assert [p.read_bytes() for p in left] == [b"half"]
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [target]


def test_sweeping_takes_only_our_own_leftovers(tmp_path: Path) -> None:
    for name in (".download.part", "x.part", ".hidden", "y.edgepress-part"):
        (tmp_path / name).write_text("the user's")
    sweep(tmp_path)
    sweep(tmp_path / "absent")
    assert len(list(tmp_path.iterdir())) == 4


def refused(path: Path) -> str:
    """The one line; the block never ran."""
    with pytest.raises(OutputError) as error, atomic_path(path):
        pytest.fail("there is nowhere to write")
    line = str(error.value)
    assert str(path) in line or str(path.parent) in line
    assert "cannot be written" in line
    assert "; give " in line
    assert "\n" not in line
    return line


def test_a_file_where_a_folder_is_needed_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    refused(tmp_path / "file" / "net.onnx")
    refused(tmp_path / "file" / "deeper" / "net.onnx")
    with pytest.raises(OutputError, match="file cannot be written"):
        make_folder(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_where_a_file_is_needed_is_one_line(tmp_path: Path) -> None:
    assert "Is a directory" in refused(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        assert "Permission denied" in refused(tmp_path / "net.onnx")
        assert "Permission denied" in refused(tmp_path / "new" / "net.onnx")
    finally:
        tmp_path.chmod(0o700)


def test_a_name_that_no_disk_takes_is_one_line(tmp_path: Path) -> None:
    assert "name too long" in refused(tmp_path / ("x" * 300)).lower()
    assert list(tmp_path.iterdir()) == []
