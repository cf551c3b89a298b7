"""The command line: edgepress run | bench | check | classify | ...

Nothing heavy is imported before a command is chosen, so --help is quick. An error of the user's is
one line on standard error and exit code 2.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from compress.errors import EdgepressError
from recipes.shrinking.options import add_shrink
from recipes.toolbox.file_options import add_check, add_classify, add_compare

USER_ERROR = 2
INTERRUPTED = 130
BROKEN_PIPE = 141
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give the exit code: 0, or what the command says (check: 1)."""
    arguments = _parser().parse_args(argv)
    try:
        command = importlib.import_module(f"recipes.commands.{arguments.command}")
        status: int | None = command.execute(arguments)
        print(end="", flush=True)  # a full pipe or disk shows here, not at exit
    except EdgepressError as error:
        return _end(str(error), USER_ERROR)
    except KeyboardInterrupt:
        hint = "; `edgepress run ... --resume` goes on from the last finished epoch or stage"
        resumable = hint if arguments.command == "run" else ""
        return _end(f"interrupted; every file there is whole{resumable}", INTERRUPTED)
    except BrokenPipeError:
        # The reader (head, less) has had enough. Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        place = "" if error.filename is None else f" at {error.filename}"
        hint = ", then --resume goes on" if arguments.command == "run" else ""
        return _end(f"{error.strerror}{place}; make room{hint}", USER_ERROR)
    return status or 0


def _end(message: str, status: int) -> int:
    """Say why in one line, and pass the exit code on."""
    print(f"edgepress: {' '.join(message.split())}", file=sys.stderr)
    return status


class _Parser(argparse.ArgumentParser):
    """Errors in one line, as everywhere else, instead of below a whole synopsis."""

    def error(self, message: str) -> NoReturn:
        self.exit(_end(f"{message}; see {self.prog} --help", USER_ERROR))


def _parser() -> _Parser:
    parser = _Parser(
        prog="edgepress",
        description="Make a trained convolutional net small and fast for stock mobile runtimes, "
        "and measure the very files.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_plan(commands)
    add_shrink(commands)
    bench = commands.add_parser("bench", help="latency, load time and memory of model files")
    bench.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help=".onnx or .tflite, or a folder of them"
    )
    _add_targets(bench, "where to measure (default local)")
    bench.add_argument(
        "--cpus", type=_cpus, default=(), metavar="N,N", help="keep the process on these cpus"
    )
    bench.add_argument("--rounds", type=_positive, default=5, help="processes a file (default 5)")
    bench.add_argument("--runs", type=_positive, default=50, help="timed runs each (default 50)")
    bench.add_argument(
        "--timeout", type=_positive, default=120, metavar="S", help="for a process (default 120)"
    )
    bench.add_argument("--json", action="store_true", help="print JSON with the raw times")
    bench.add_argument(
        "--out", type=Path, metavar="FILE", help="append each result; a repeated call goes on"
    )
    bench.add_argument(
        "--against", type=Path, metavar="FILE", help="the --out of an earlier bench to compare with"
    )
    _add_devices(commands)
    _add_unpack(commands)
    inspect = commands.add_parser("inspect", help="what a file holds, layer by layer")
    inspect.add_argument(
        "file", type=Path, metavar="FILE", help=".dc, .onnx, .tflite, .safetensors"
    )
    inspect.add_argument(
        "--run", action="store_true", help="load it too: what runs in int8, load time, memory"
    )
    inspect.add_argument("--json", action="store_true", help="print JSON")
    add_classify(commands, _positive)
    add_check(commands, _positive)
    add_compare(commands, _positive)
    report = commands.add_parser("report", help="render report.json of a folder again")
    report.add_argument("folder", type=Path, metavar="DIR", help="a folder with report.json")
    table = commands.add_parser("table", help="one Markdown table of several reports")
    table.add_argument("reports", nargs="+", type=Path, metavar="REPORT", help="report.json files")
    table.add_argument("--into", type=Path, metavar="FILE", help="put it between FILE's marks")
    only = table.add_mutually_exclusive_group()
    kinds = {
        "containers": "only .dc files, by size",
        "packed": "only packed files",
        "int8": "only integer files, beside fp32 ones",
        "devices": "only files measured on further targets, by target",
        "bench": "of benches' logs (--out of edgepress bench) instead of reports",
    }
    for name, what in kinds.items():
        only.add_argument(f"--{name}", dest="only", action="store_const", const=name, help=what)
    return parser


def _add_run(commands: argparse._SubParsersAction[_Parser]) -> None:
    run = commands.add_parser("run", help="run a recipe: files and a report")
    _add_recipe(run)
    run.add_argument(
        "--plan", type=Path, metavar="FILE", help="a plan.json to hold the figures against"
    )
    run.add_argument(
        "--train-on", metavar="DEVICE", help="cpu (default), cuda, mps, or auto: the best there is"
    )
    run.add_argument(
        "--train-only", action="store_true", help="no files: another machine resumes in a copy"
    )
    _add_targets(run, "where to measure besides local with one thread")
    run.add_argument("--smoke", action="store_true", help="tiny and quick; figures mean nothing")
    again = run.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on from the last finished epoch")
    again.add_argument("--overwrite", action="store_true", help="replace an earlier run's output")


def _add_plan(commands: argparse._SubParsersAction[_Parser]) -> None:
    plan = commands.add_parser(
        "plan", help="a recipe run dry: what each file will be worth, before any training"
    )
    _add_recipe(plan)
    plan.add_argument("--overwrite", action="store_true", help="replace an earlier plan")


def _add_recipe(command: argparse.ArgumentParser) -> None:
    """The recipe, and what it is given."""
    add = command.add_argument
    add("recipe", metavar="RECIPE", help="a recipe's name, or a path to a .py file")
    add("--out", type=Path, help="output folder (default build/RECIPE)")
    add("--data", type=Path, metavar="DIR", help="for recipes that ask for pictures")
    add("--test", type=Path, metavar="DIR", help="labelled, scored once, at the end")
    add("--weights", type=Path, metavar="FILE", help="for recipes that ask for them")
    add("--net", metavar="NAME", help="for recipes that know several nets")
    add("--seed", type=_seed, default=0, help="default 0")


def _add_targets(command: argparse.ArgumentParser, what: str) -> None:
    forms = "local, ssh:user@board, adb:SERIAL, qemu:CPU, +ENGINE as in local+webgpu"
    more = f"{what}: {forms}; repeat it for several"
    command.add_argument("--target", action="append", metavar="TARGET", help=more)
    _add_python(command)
    command.add_argument(
        "--allow-software-gpu",
        action="store_true",
        help="outputs by a GPU's driver that is a program; never a latency",
    )
    command.add_argument("--threads", type=_counts, default=(1,), help="e.g. 1,2 (default 1)")


def _add_python(command: argparse.ArgumentParser) -> None:
    command.add_argument("--python", metavar="PATH", help="on boards (default python3)")


def _add_devices(commands: argparse._SubParsersAction[_Parser]) -> None:
    devices = commands.add_parser("devices", help="what can be measured on; set one up")
    actions = devices.add_subparsers(dest="action", metavar="ACTION")
    for action, what in (
        ("show", "ask a device what it is"),
        ("setup", "make an emulated ARM machine ready: setup qemu"),
        ("clean", "remove what was pushed to a board"),
    ):
        one = actions.add_parser(action, help=what)
        one.add_argument("device", metavar="DEVICE", help="as in a target")
        _add_python(one)


def _add_unpack(commands: argparse._SubParsersAction[_Parser]) -> None:
    unpack = commands.add_parser("unpack", help="write a container as a file that others load")
    unpack.add_argument("file", type=Path, metavar="FILE", help=".dc")
    kinds = ("onnx", "onnx-packed", "state-dict", "tflite", "tflite-packed")
    unpack.add_argument("--to", choices=kinds, default="onnx", help="default onnx")
    unpack.add_argument(
        "--profile",
        choices=("compatible", "modern"),
        help="of onnx-packed: opset 18 (default), or 21 with tensors of 4 bits",
    )
    unpack.add_argument("--out", type=Path, metavar="PATH", help="default beside FILE")
    unpack.add_argument("--overwrite", action="store_true", help="replace PATH if it is there")


def _positive(text: str) -> int:
    return _whole(text, 1, 1_000_000)


def _seed(text: str) -> int:
    return _whole(text, 0, 2**31 - 1)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(_whole(part, 1, 1024) for part in text.split(","))


def _cpus(text: str) -> tuple[int, ...]:
    return tuple(_whole(part, 0, 4095) for part in text.split(","))


def _whole(text: str, low: int, high: int) -> int:
    """An integer of [low, high]; argparse turns the error into one line and exit code 2."""
    if not text.isdecimal() or not low <= int(text) <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
