"""Loads, warms up and times one file: the request of a bench, answered."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .counting import CALLS, Counter
from .engine import Fed, Wanted, find
from .host import clocks, describe, memory, pin, reset_peak, throttled
from .timing import timed, times_of, warm_up

_DEFAULTS: Mapping[str, Any] = {
    "engine": "cpu",
    "threads": 1,
    "cpus": None,
    "runs": 100,
    "seed": 0,
    "warmup_s": 2.0,
    "max_s": 1.0,
    "software_gpu": False,
    "edgepress_path": None,
}

# Calls before those that are counted: the runtime still allocates in the first ones.
_UNCOUNTED = 2


def measure(request: Mapping[str, Any]) -> dict[str, Any]:
    """Load, warm up and time request["path"]; times in nanoseconds, memory in bytes.

    Raises ValueError for a request that is not allowed, and whatever the runtime raises.
    """
    wanted = _checked(request)
    if wanted["cpus"]:
        pin([int(cpu) for cpu in wanted["cpus"]])  # before the runtime asks how many there are
    path, threads = str(wanted["path"]), int(wanted["threads"])
    engine = find(path, Wanted.of(wanted))  # imports the runtime, no part of the load time
    # Made before, because numpy's random part is loaded late and is not the file's memory.
    generator = np.random.default_rng(int(wanted["seed"]))
    reset_peak()
    base, begun = memory("VmRSS"), time.perf_counter_ns()
    session = engine.load(path, threads)
    load_ns = time.perf_counter_ns() - begun
    loaded, peak_load = memory("VmRSS"), memory("VmHWM")
    fed = engine.feed(session, generator)
    gc.collect()
    gc.disable()
    return {
        "runtime": engine.runtime,
        "version": engine.version,
        "provider": fed.provider,
        "timed": engine.timed,
        "threads": threads,
        "spinning": False,
        "load_ns": load_ns,
        **_times(fed, wanted),
        "rss_base_bytes": base,
        "rss_load_bytes": loaded,
        "peak_rss_load_bytes": peak_load,
        "peak_rss_bytes": memory("VmHWM"),
        "environment": describe(),
        **fed.more(),
    }


def _checked(request: Mapping[str, Any]) -> dict[str, Any]:
    wanted = {**_DEFAULTS, **request}
    unknown = set(wanted) - set(_DEFAULTS) - {"path"}
    if unknown or "path" not in wanted:
        raise ValueError(f"request needs 'path' and allows {sorted(_DEFAULTS)}; got {request!r}")
    if not Path(str(wanted["path"])).is_file():
        raise FileNotFoundError(f"{wanted['path']} does not exist")
    if Counter.from_environment() is not None and int(wanted["threads"]) != 1:
        # Only the calling thread is counted: the others' share would be missing from the figure.
        raise ValueError(f"instructions are counted with 1 thread, not {wanted['threads']}")
    return wanted


def _times(fed: Fed, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The first call, the warm-up, the times; the clock where they begin and where they end.

    Under an emulator that counts instructions, the counts instead: its time is no latency.
    """
    counter = Counter.from_environment()
    if counter is not None:
        return _counts(fed, counter)
    if fed.untimed is not None:
        return _untimed(timed(fed.call), 1, fed.untimed)
    first_ns = timed(fed.call)
    warmup, settled = warm_up(fed.call, float(wanted["warmup_s"]))
    before = clocks()
    times = times_of(fed.call, int(wanted["runs"]), float(wanted["max_s"]))
    after = clocks()
    resident = [] if fed.resident is None else _resident(fed.resident, wanted)
    return {
        "first_ns": first_ns,
        "warmup": warmup,
        "settled": settled,
        "times_ns": times,
        "resident_ns": resident,
        "untimed": None,
        "clocks": [before, after],
        "throttled": throttled(before, after),
    }


def _resident(call: Callable[[], object], wanted: Mapping[str, Any]) -> list[int]:
    warm_up(call, float(wanted["warmup_s"]))
    return times_of(call, int(wanted["runs"]), float(wanted["max_s"]))


def _counts(fed: Fed, counter: Counter) -> dict[str, Any]:
    first_ns = timed(fed.call)
    for _ in range(_UNCOUNTED):
        fed.call()
    for _ in range(CALLS):
        counter.call(fed.call)
    return {**_untimed(first_ns, _UNCOUNTED, "emulated"), "counts": counter.counts()}


def _untimed(first_ns: int, warmup: int, why: str) -> dict[str, Any]:
    """What is said of calls that are no latency."""
    shown = clocks()
    return {
        "first_ns": first_ns,
        "warmup": warmup,
        "settled": True,
        "times_ns": [],
        "resident_ns": [],
        "untimed": why,
        "clocks": [shown, shown],
        "throttled": None,
    }
