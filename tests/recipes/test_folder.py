"""The output folder: ours by its mark alone, and never lost by accident."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from compress.errors import OutputError
from recipes.toolbox.folder import MARK, Identity, open_folder
from recipes.toolbox.job import Job
from tests.recipes.commands import ROOT

RUN = Identity("lenet", 0, False, 2)


def opened(
    folder: Path, run: Identity = RUN, *, resume: bool = False, overwrite: bool = False
) -> Identity:
    """Open and let go again."""
    found = open_folder(folder, run, resume=resume, overwrite=overwrite)
    found.lock.close()
    return found.identity


def filled(folder: Path) -> Path:
    """A folder of an earlier run with files, a folder and a half-written file in it."""
    opened(folder)
    (folder / "steps").mkdir()
    (folder / "steps" / "00.safetensors").write_bytes(b"step")
    (folder / "steps" / ".00.safetensors.x.edgepress-part").write_bytes(b"half")
    (folder / "a.onnx").write_bytes(b"model")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("resume", [False, True])
def test_new_and_empty_folders_are_taken(tmp_path: Path, resume: bool) -> None:
    assert opened(tmp_path / "a" / "b", resume=resume) == RUN
    (tmp_path / "empty").mkdir()
    assert opened(tmp_path / "empty", resume=resume) == RUN
    assert set(contents(tmp_path / "empty")) == {MARK}


def test_a_run_that_failed_before_it_began_is_no_earlier_run(tmp_path: Path) -> None:
    opened(tmp_path / "out")
    other = Identity("resnet", 5, True, 1)
    assert opened(tmp_path / "out", other) == other
    (tmp_path / "out" / MARK).unlink()
    (tmp_path / "out" / f".{MARK}.abc.edgepress-part").write_bytes(b"{")
    assert opened(tmp_path / "out") == RUN
    assert set(contents(tmp_path / "out")) == {MARK}


def test_an_earlier_run_needs_a_word(tmp_path: Path) -> None:
    folder = filled(tmp_path / "out")
    before = contents(folder)
    with pytest.raises(OutputError, match=r"--resume to go on, --overwrite to replace"):
        opened(folder)
    assert contents(folder) == before
    opened(folder, resume=True)
    assert set(contents(folder)) == {MARK, "steps/00.safetensors", "a.onnx"}
    opened(folder, overwrite=True)
    assert set(contents(folder)) == {MARK}


@pytest.mark.parametrize(
    "other",
    [Identity("lenet", 1, False, 2), Identity("vgg", 0, False, 2), Identity("lenet", 0, True, 2)],
)
def test_only_the_same_run_resumes(tmp_path: Path, other: Identity) -> None:
    folder = filled(tmp_path / "out")
    before = contents(folder)
    with pytest.raises(OutputError, match=r"holds a run of lenet with seed 0, not "):
        opened(folder, other, resume=True)
    assert contents(folder) == before


def test_a_resumed_run_takes_the_threads_it_was_begun_with(tmp_path: Path) -> None:
    folder = filled(tmp_path / "out")
    assert opened(folder, Identity("lenet", 0, False, 7), resume=True) == RUN
    before = torch.get_num_threads()
    try:
        Job.open("lenet", folder, resume=True)
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        Job.open("lenet", tmp_path / "new")
        assert json.loads((tmp_path / "new" / MARK).read_text())["threads"] == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_foreign_folder_is_never_touched(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"dear")
    (tmp_path / ".x.edgepress-part").write_bytes(b"looks like ours")
    before = contents(tmp_path)
    with pytest.raises(OutputError, match="not empty and not of an edgepress run"):
        opened(tmp_path, resume=not overwrite, overwrite=overwrite)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "mark",
    [
        "",
        "{",
        "[]",
        "7",
        '{"recipe": "lenet"}',
        '{"recipe": "lenet", "seed": 0, "smoke": false, "threads": 0}',
        '{"recipe": "lenet", "seed": 0, "smoke": false, "threads": "2"}',
        "\udcff",
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_damaged_mark_is_not_ours(tmp_path: Path, mark: str, overwrite: bool) -> None:
    (tmp_path / MARK).write_bytes(mark.encode("utf-8", "surrogateescape"))
    (tmp_path / "a.onnx").write_bytes(b"model")
    before = contents(tmp_path)
    with pytest.raises(OutputError, match="damaged"):
        opened(tmp_path, resume=not overwrite, overwrite=overwrite)
    assert contents(tmp_path) == before


def test_links_are_not_followed(tmp_path: Path) -> None:
    dear = tmp_path / "dear"
    dear.mkdir()
    (dear / "photo.jpg").write_bytes(b"dear")
    folder = filled(tmp_path / "out")
    (folder / "link").symlink_to(dear)
    (folder / "steps" / "link").symlink_to(dear)
    (folder / "file").symlink_to(dear / "photo.jpg")
    opened(folder, overwrite=True)
    assert [p.name for p in folder.iterdir()] == [MARK]
    assert contents(dear) == {"photo.jpg": b"dear"}


def test_overwrite_refuses_a_folder_that_is_a_link(tmp_path: Path) -> None:
    folder = filled(tmp_path / "real")
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(OutputError, match="symbolic link"):
        opened(tmp_path / "link", overwrite=True)
    assert "a.onnx" in contents(folder)


def test_a_mark_that_is_a_link_or_a_folder_is_no_mark(tmp_path: Path) -> None:
    real = filled(tmp_path / "real")
    linked, held = tmp_path / "linked", tmp_path / "held"
    linked.mkdir()
    (linked / MARK).symlink_to(real / MARK)
    (held / MARK).mkdir(parents=True)
    for folder in (linked, held):
        with pytest.raises(OutputError, match="not of an edgepress run"):
            opened(folder, overwrite=True)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("dear")
    with pytest.raises(OutputError, match="is not a folder"):
        opened(tmp_path / "file", overwrite=True)
    with pytest.raises(OutputError, match="cannot be written"):
        opened(tmp_path / "file" / "below")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="cannot be written"):
        opened(tmp_path / "dangling")
    assert (tmp_path / "file").read_text() == "dear"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="Permission denied"):
            opened(tmp_path / "out")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system nobody writes in")
def test_a_file_system_that_cannot_be_written() -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        opened(Path("/proc/self/out"))


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    folder = filled(tmp_path / "out")
    first = open_folder(folder, RUN, resume=True, overwrite=False)
    before = contents(folder)
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from recipes.toolbox.folder import Identity, open_folder\n"
        f"open_folder(Path({str(folder)!r}), Identity('lenet', 0, False, 2), "
        "resume=False, overwrite=True)\n"
    )
    other = [sys.executable, "-c", script]
    refused = subprocess.run(other, check=False, cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "in use by a run that has not ended" in refused.stderr
    assert contents(folder) == before
    first.lock.close()
    assert subprocess.run(other, check=False, cwd=ROOT, capture_output=True).returncode == 0
    assert set(contents(folder)) == {MARK}
