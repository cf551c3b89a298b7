"""Many devices at once: none loses another's results, and nothing is measured twice."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from compress.errors import OutputError
from targets import bench_log
from targets.bench import Job, jobs_for
from targets.bench_log import BenchLog
from targets.devices.local import LocalDevice
from targets.fleet import measure_all
from targets.measurement import Plan, Target
from tests.reports import write_onnx
from tests.scripted_device import ANSWER, ScriptedDevice

QUICK = Plan(runs=5, rounds=2, warmup_s=0.05, max_s=0.2)


def board(name: str, **settings: object) -> ScriptedDevice:
    return ScriptedDevice(ANSWER, name=name, provenance="measured", **settings)  # type: ignore[arg-type]


def jobs_on(folder: Path, *devices: ScriptedDevice) -> list[Job]:
    files = [
        write_onnx(folder / f"{name}.onnx", width=width) for name, width in (("a", 4), ("b", 5))
    ]
    return jobs_for(files, [Target(device) for device in devices])


def test_every_job_is_measured_in_its_order_with_its_files_in_turn(tmp_path: Path) -> None:
    devices = [board("one"), board("two")]
    calls: list[tuple[int, int, str]] = []
    jobs = jobs_on(tmp_path, *devices)
    found, failures = measure_all(jobs, QUICK, progress=lambda *call: calls.append(call))
    assert failures == ()
    assert [(m.file, m.device) for m in found] == [
        (file, device) for file in ("a.onnx", "b.onnx") for device in ("one", "two")
    ]
    assert all(device.seen == ["a.onnx", "b.onnx", "b.onnx", "a.onnx"] for device in devices)
    assert sorted(done for done, _, _ in calls[:-1]) == list(range(8))
    assert calls[-1] == (8, 8, "")


def test_a_dead_device_loses_only_its_own_rows(tmp_path: Path) -> None:
    dead, alive = board("dead", lives=1), board("alive")
    found, failures = measure_all(jobs_on(tmp_path, dead, alive), QUICK)
    assert [(m.file, m.device) for m in found] == [("a.onnx", "alive"), ("b.onnx", "alive")]
    assert all(len(m.times_ms) == QUICK.rounds for m in found)
    reasons = {failure.job.path.name: failure.reason for failure in failures}
    assert reasons == {
        "a.onnx": "dead was given up: dead does not answer; plug it in again",
        "b.onnx": "dead does not answer; plug it in again",
    }
    assert dead.seen == ["a.onnx"]


def test_a_file_that_fails_is_left_out_and_the_others_go_on(tmp_path: Path) -> None:
    device = board("one", broken_files=("a.onnx",))
    found, failures = measure_all(jobs_on(tmp_path, device), QUICK)
    assert [m.file for m in found] == ["b.onnx"]
    assert device.seen == ["a.onnx", "b.onnx", "b.onnx"]
    assert [f.reason for f in failures] == ["a.onnx cannot be measured on one: no such operator"]


def test_an_emulator_waits_for_this_machine_and_counts_once(tmp_path: Path) -> None:
    counts = [{"insns": 1001, "sdot": 10}, {"insns": 1000, "sdot": 10}]
    answer = {**ANSWER, "times_ns": [], "untimed": "emulated", "counts": counts}
    order: list[str] = []
    local = replace(board("local"), seen=order)
    emulated = ScriptedDevice(answer, name="qemu:x", provenance="emulated", seen=order)
    files = [write_onnx(tmp_path / "a.onnx")]
    found, _ = measure_all(jobs_for(files, [Target(emulated), Target(local)]), QUICK)
    assert len(order) == 3
    assert [(m.device, m.timed, len(m.times_ms)) for m in found] == [
        ("qemu:x", False, 1),
        ("local", True, 2),
    ]
    assert found[0].instructions == {"insns": 1000, "sdot": 10}
    assert found[0].instructions_spread == 0.001


def test_a_repeated_call_does_what_is_missing_only(tmp_path: Path) -> None:
    path = tmp_path / "out" / "bench.jsonl"
    dying = board("one", lives=3)
    jobs = jobs_on(tmp_path, dying)
    found, failures = measure_all(jobs, QUICK, BenchLog(path))
    assert [m.file for m in found] == ["b.onnx"]
    assert len(failures) == 1
    assert len(path.read_text().splitlines()) == 3

    again = board("one")
    jobs = [job._replace(target=Target(again)) for job in jobs]
    found, failures = measure_all(jobs, QUICK, BenchLog(path))
    assert failures == ()
    assert again.seen == ["a.onnx"]
    assert [len(m.times_ms) for m in found] == [2, 2]

    more = board("one")
    jobs = [job._replace(target=Target(more)) for job in jobs]
    found, _ = measure_all(jobs, replace(QUICK, rounds=3), BenchLog(path))
    assert more.seen == ["a.onnx", "b.onnx"]
    assert [len(m.times_ms) for m in found] == [3, 3]


@pytest.mark.parametrize(
    "change",
    [
        {"threads": 2},
        {"engine": "plain"},
        {"cpus": (1,)},
        {"software_gpu": True},
        {"device": board("one", python="python3.9")},
    ],
    ids=["threads", "engine", "cpus", "software", "python"],
)
def test_another_way_of_measuring_is_another_result(
    tmp_path: Path, change: dict[str, object]
) -> None:
    (job,) = jobs_for([write_onnx(tmp_path / "a.onnx")], [Target(board("one"))])
    log = BenchLog(tmp_path / "bench.jsonl")
    log.append(job, QUICK, 0, ANSWER)
    assert log.answer(job, QUICK, 0) == ANSWER
    assert log.answer(job, QUICK, 1) is None
    assert log.answer(job, replace(QUICK, runs=6), 0) is None
    assert log.answer(job._replace(sha256="0" * 64), QUICK, 0) is None
    assert log.answer(job._replace(target=replace(job.target, **change)), QUICK, 0) is None


def test_a_newer_runtime_here_is_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = jobs_for([write_onnx(tmp_path / "a.onnx")], [Target(LocalDevice())])
    log = BenchLog(tmp_path / "bench.jsonl")
    log.append(job, QUICK, 0, ANSWER)
    assert log.answer(job, QUICK, 0) == ANSWER
    monkeypatch.setattr(bench_log, "version", lambda _: "99.0")
    bench_log.this_machine.cache_clear()
    assert log.answer(job, QUICK, 0) is None
    assert BenchLog(tmp_path / "bench.jsonl", past=True).answer(job, QUICK, 0) == ANSWER
    bench_log.this_machine.cache_clear()


def test_a_line_that_a_kill_cut_short_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "bench.jsonl"
    (job,) = jobs_for([write_onnx(tmp_path / "a.onnx")], [Target(board("one"))])
    log = BenchLog(path)
    log.append(job, QUICK, 0, ANSWER)
    log.append(job, QUICK, 1, ANSWER)
    path.write_bytes(path.read_bytes()[:-20])
    log = BenchLog(path)
    assert log.answer(job, QUICK, 1) is None
    log.append(job, QUICK, 1, ANSWER)
    assert BenchLog(path).answer(job, QUICK, 0) == BenchLog(path).answer(job, QUICK, 1) == ANSWER


@pytest.mark.parametrize("content", ["a shopping list\n", "[1, 2]\n", '{"schema": 1}\n'])
def test_another_file_is_never_written_to(tmp_path: Path, content: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(content)
    with pytest.raises(OutputError, match=r"notes\.txt is no log of a bench; give a new file"):
        BenchLog(path)
    assert path.read_text() == content


def test_a_log_on_a_full_disk_costs_no_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, device = BenchLog(tmp_path / "bench.jsonl"), board("one")
    jobs = jobs_on(tmp_path, device)
    log.append(jobs[0], QUICK, 0, ANSWER)
    kept = (tmp_path / "bench.jsonl").read_bytes()
    monkeypatch.setattr("targets.bench_log.os.fsync", full)
    found, failures = measure_all(jobs, QUICK, log)
    assert [len(m.times_ms) for m in found] == [2, 2]
    assert [f.reason for f in failures] == [
        f"{tmp_path / 'bench.jsonl'} cannot be written (No space left on device); what came later "
        "is not in it"
    ]
    assert (tmp_path / "bench.jsonl").read_bytes().startswith(kept)


def full(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_log_of_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bench.jsonl"
    (job,) = jobs_for([write_onnx(tmp_path / "a.onnx")], [Target(board("one"))])
    BenchLog(path).append(job, QUICK, 0, ANSWER)
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 2}) + "\n")
    with pytest.raises(OutputError, match="of schema 2, this edgepress knows 1"):
        BenchLog(path)


def test_what_the_log_holds_outlives_its_device(tmp_path: Path) -> None:
    path = tmp_path / "bench.jsonl"
    jobs = jobs_on(tmp_path, board("one"))
    measure_all(jobs[1:], QUICK, BenchLog(path))
    dead = Target(board("one", lives=0))
    jobs = [job._replace(target=dead) for job in jobs]
    calls: list[tuple[int, int, str]] = []
    found, failures = measure_all(jobs, QUICK, BenchLog(path), lambda *call: calls.append(call))
    assert [m.file for m in found] == ["b.onnx"]
    assert [f.job.path.name for f in failures] == ["a.onnx"]
    assert [call[:2] for call in calls] == [(2, 4), (3, 4), (4, 4)]


def test_two_copies_of_a_file_are_measured_each(tmp_path: Path) -> None:
    device = board("one")
    files = [write_onnx(tmp_path / "a.onnx"), tmp_path / "copy.onnx"]
    files[1].write_bytes(files[0].read_bytes())
    jobs = jobs_for(files, [Target(device)])
    measure_all(jobs, QUICK, BenchLog(tmp_path / "bench.jsonl"))
    assert sorted(device.seen) == ["a.onnx", "a.onnx", "copy.onnx", "copy.onnx"]


def test_what_gives_no_time_runs_once_beside_what_does(tmp_path: Path) -> None:
    """Allowing a program for a GPU takes no rounds from a real one."""
    software = ScriptedDevice(
        {**ANSWER, "times_ns": [], "untimed": "software adapter"}, "local", "measured"
    )
    hardware = board("local")
    (path,) = (write_onnx(tmp_path / "a.onnx"),)
    targets = [
        Target(software, engine="webgpu", software_gpu=True),
        Target(hardware, engine="webgpu", software_gpu=True),
    ]
    calls: list[tuple[int, int, str]] = []
    jobs = jobs_for([path], targets)
    found, _ = measure_all(jobs, QUICK, progress=lambda *call: calls.append(call))
    assert [len(m.times_ms) for m in found] == [1, QUICK.rounds]
    assert all(done <= total for done, total, _ in calls)
    assert calls[-1] == (3, 3, "")


def test_nothing_to_measure_is_nothing_measured() -> None:
    assert measure_all([], QUICK) == ((), ())
