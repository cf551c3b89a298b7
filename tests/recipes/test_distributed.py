"""Two real processes train as one does: gradients, encodings, batch norm; a recipe by torchrun."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from compress.errors import MissingExtraError, OutputError, RangeError, RecipeError
from compress.fake_quant import FARTHEST
from compress.spec import Preprocess
from compress.task import Tuning
from recipes.cli import main
from recipes.toolbox.batches import Share
from recipes.toolbox.distributed import Team, is_first, processes
from recipes.toolbox.folder import Identity, open_folder
from recipes.toolbox.job import Job
from recipes.toolbox.team_job import _team_for
from recipes.toolbox.training import Trainer, _Training
from targets.report import read_report
from tests.digits import digits_task
from tests.forked import Forked
from tests.recipes import launched
from tests.recipes.commands import DIGITS, ROOT, finish

pytest.importorskip("accelerate")
LAUNCHED = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}


def torchrun(*arguments: object, **variables: str) -> tuple[int, str, str]:
    """Run with two processes; (exit code, stdout, stderr)."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launcher, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def two_forks(
    main: Callable[[list[str]], int | None], *arguments: object
) -> list[tuple[int, str, str]]:
    """What torchrun starts, but forked: each one's (exit code, stdout, stderr)."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = str(held.getsockname()[1])
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    place["OMP_NUM_THREADS"] = "1"  # as torchrun does
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    started = [Forked(main, *arguments, **place, **rank) for rank in ranks]
    return [finish(process) for process in started]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes have made of each case."""
    folder = tmp_path_factory.mktemp("two")
    assert two_forks(launched.main, folder) == [(0, "", "")] * 2
    return folder


def state(folder: Path, index: int, case: str) -> dict[str, np.ndarray]:
    return load_file(folder / f"{index}-{case}.safetensors")


@pytest.mark.parametrize("case", launched.CASES)
def test_every_process_has_the_same_net(two: Path, case: str) -> None:
    """Batch norm's running statistics too, of which each process saw only its share."""
    first, second = state(two, 0, case), state(two, 1, case)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@pytest.mark.parametrize("case", ["plain", "all", "constrained"])
def test_two_processes_train_as_one_does(two: Path, case: str) -> None:
    """Without batch norm each step is that of the whole batch, but for the order of sums."""
    alone, begun = launched.trained(case, None), launched_begin(case)
    for name, found in state(two, 0, case).items():
        change = np.abs(alone[name].numpy() - begun[name]).max()
        assert change > 1e-3, name
        np.testing.assert_allclose(found, alone[name], atol=5e-4 * change, err_msg=name)


def launched_begin(case: str) -> dict[str, np.ndarray]:
    spec = launched.digits_plain_spec()
    return launched.begun_with(spec, case == "constrained", 0).network.parameters()


def test_steps_of_grids_are_learnt_together(two: Path) -> None:
    begun = launched.on_grids(launched.begun_with(launched.digits_residual_spec(), False, 0))
    scales = [grid.scale for grid in begun.activations.values()]
    found = state(two, 0, "grids")["activations"]
    assert (found != scales).sum() >= len(scales) - 1
    assert np.abs(np.log(found / scales)).max() <= np.log(FARTHEST) + 1e-6


def test_batch_norm_sees_a_share_at_a_time(two: Path) -> None:
    """After one step: means over the shares are the whole batch's, variances are within them."""
    found, alone = state(two, 0, "norm"), launched.trained("norm", None)
    mean, variance = "stem.1.running_mean", "stem.1.running_var"
    np.testing.assert_allclose(found[mean], alone[mean], atol=1e-7)
    # Of another size than rounding, which is at most 1e-7 here.
    for name in (variance, "bn1.running_mean"):
        assert 1e-6 < np.abs(found[name] - alone[name].numpy()).max() < 1e-3, name


@pytest.mark.parametrize("index", [0, 1])
def test_resumed_after_an_epoch_all_end_with_the_same_bytes(two: Path, index: int) -> None:
    assert torch.load(two / "all.first", weights_only=True)["epoch"] == launched.EPOCHS
    whole = state(two, 0, "all")
    for name, found in state(two, index, "resumed").items():
        assert found.tobytes() == whole[name].tobytes(), name


def test_a_recipe_runs_in_two_processes_and_resumes(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    command = ("-m", "recipes.cli", "run", DIGITS, "--smoke", "--out", folder)
    status, out, err = torchrun(*command, TMPDIR=str(tmp_path))
    assert status == 0, err
    for said in ("PruneMagnitude ", "digits_residual-shared.onnx ", "report: "):
        assert out.count(said) == 1, f"{said} is said by one process"
    rows = {row.path: row.sha256 for row in read_report(folder / "report.json").rows}
    files = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in rows}
    assert rows == files
    assert len(rows) == 3
    assert not list(tmp_path.glob("edgepress-*")), "the others leave nothing behind"
    for status, _, err in two_forks(main, *command[2:], "--resume"):
        assert status == 0, err
    again = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in rows}
    assert again == files
    alone = Identity("digits_recipe", 0, True, 1)
    with pytest.raises(OutputError, match="by 2 processes, not a smoke run of digits_recipe"):
        open_folder(folder, alone, resume=True, overwrite=False)


def test_what_launchers_say() -> None:
    assert (processes({}), is_first({})) == (1, True)
    assert (processes(LAUNCHED), is_first(LAUNCHED)) == (2, False)
    assert is_first({**LAUNCHED, "RANK": "0"})
    assert processes({**LAUNCHED, "WORLD_SIZE": "1"}) == 1
    # A batch system's own variable, not a launcher's.
    assert processes({"WORLD_SIZE": "8"}) == 1


def test_batches_that_are_too_small_to_share() -> None:
    train = launched.digit_splits().train
    trainer = Trainer(train.images[:9], train.labels[:9], Preprocess(), batch_size=3)
    team = Team(torch.device("cpu"), Share(0, 4))
    with pytest.raises(RangeError, match="4 processes cannot share batches of 3 pictures"):
        _Training(trainer, team, torch.nn.Linear(2, 2), Tuning(1, 0.1, 0, None))


def test_alone_nothing_is_imported_or_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    team, model = Team.join("auto"), torch.nn.Linear(2, 2)
    assert team.wrap(model) is model
    assert team.from_first(model) is model
    assert team.leads


def test_a_missing_accelerate_gives_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(MissingExtraError, match=r"pip install 'edgepress\[distributed\]'"):
        Team.join("cpu")


def test_a_loop_of_ones_own_knows_of_no_other_processes(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"trains with train; use recipes\.toolbox"):
        _team_for(Job("r", tmp_path), digits_task(), None)
