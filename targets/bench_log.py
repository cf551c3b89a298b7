"""The log of a bench: one line of JSON for each process, appended as they come.

A repeated bench reads it and does only what is missing; more rounds go on where it ended.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple, cast

from compress.atomic import make_folder
from compress.errors import OutputError
from targets.bench import Answer, Job
from targets.devices.local import LocalDevice
from targets.measurement import Plan
from targets.onboard.host import describe
from targets.runner_file import runner_file

SCHEMA = 1
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "ai-edge-litert", "onnxruntime-ep-webgpu", "torch")
Part = int | str
"""Which of a job's processes: the round of a measurement, or what else was asked."""


class Line(NamedTuple):
    """One process's answer; here: this_machine() of where a local target was, None of others."""

    key: str
    part: Part
    here: object
    answer: Answer


_KEYS = {"schema", "file", "key", "part", "answer", "at"}


class BenchLog:
    """The log at `path`, made by the first line. OutputError where something else is there.

    What was measured here with other runtimes than now is measured again, but for a `past` log,
    which is read to compare with.
    """

    def __init__(self, path: Path, past: bool = False) -> None:
        self._path = path
        self._past = past
        self._found: dict[tuple[str, Part], tuple[object, Answer]] = {}
        make_folder(path.parent)
        try:
            lines = path.read_bytes().split(b"\n") if path.exists() else []
        except OSError as error:
            raise OutputError(f"{path} cannot be read ({error.strerror}); give another") from error
        read = list(_ours(path, lines))
        if any(lines) and not read:
            raise OutputError(f"{path} is no log of a bench; give a new file, or that of a bench")
        self._lines = [Line(str(r["key"]), r["part"], r.get("here"), r["answer"]) for r in read]
        for line in self._lines:
            self._found[(line.key, line.part)] = line.here, line.answer
        # What a kill left of a line: the next begins on its own.
        self._torn = bool(lines) and lines[-1] != b""

    def answer(self, job: Job, plan: Plan, part: Part) -> Answer | None:
        """What that process said, if it has run."""
        here, answer = self._found.get((_key(job, plan), part), (None, None))
        return answer if self._past or here == _here(job) else None

    def lines(self) -> Sequence[Line]:
        """What was in it when it was opened, in its order, repeated ones too."""
        return self._lines

    def append(self, job: Job, plan: Plan, part: Part, answer: Answer) -> None:
        """Keep an answer, on the disk when this returns."""
        key = _key(job, plan)
        line = {
            "schema": SCHEMA,
            "file": job.name,
            "key": key,
            "part": part,
            "here": _here(job),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "answer": answer,
        }
        text = ("\n" if self._torn else "") + json.dumps(line, sort_keys=True) + "\n"
        try:
            with self._path.open("ab") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(f"{self._path} cannot be written ({error.strerror})") from error
        self._torn = False
        self._found[(key, part)] = _here(job), answer


def _ours(path: Path, lines: list[bytes]) -> Iterator[Mapping[str, Any]]:
    """The lines that are whole; OutputError for one of a newer edgepress."""
    for raw in lines:
        try:
            line: object = json.loads(raw)
        except ValueError:
            continue
        if not isinstance(line, dict) or not set(cast("dict[str, Any]", line)) >= _KEYS:
            continue
        fields = cast("dict[str, Any]", line)
        if fields["schema"] != SCHEMA:
            raise OutputError(
                f"{path} is a log of a bench of schema {fields['schema']}, this edgepress knows "
                f"{SCHEMA}; give a new file"
            )
        if isinstance(fields["answer"], dict) and isinstance(fields["part"], int | str):
            yield fields


def _key(job: Job, plan: Plan) -> str:
    """What an answer depends on: file, target, how it was measured, and by which runner.

    A copy under another name is a file of its own: two alike tell how much a measurement varies.
    """
    target = job.target
    emulated = target.device.provenance == "emulated"
    python = None if emulated else target.device.python  # an emulator brings its own
    how = [target.name, python, target.software_gpu, target.threads, list(target.cpus)]
    measured = [plan.runs, plan.warmup_s, plan.max_s, plan.seed, runner_file().stem]
    return json.dumps([job.name, job.sha256, *how, *measured])


def _here(job: Job) -> list[str] | None:
    return this_machine() if isinstance(job.target.device, LocalDevice) else None


@cache
def this_machine() -> list[str]:
    """Its processor, and the runtimes as they are installed: a newer one is measured again."""
    return [str(describe()["cpu"]), *map(_installed, _RUNTIMES)]


def _installed(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"no {name}"
