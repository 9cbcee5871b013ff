"""What the benchmarks share: interleaved timing, judging ratios against targets, the machine, the report."""

import argparse
import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import _common as common
import jax
import numpy as np

import jaxreg

PACKAGES = (
    "jax",
    "jaxlib",
    "optax",
    "numpy",
    "numba",
    "torch",
    "scikit-learn",
    "scipy",
    "lmfit",
    "optimistix",
    "nlsq",
    "zarr",
    "statsmodels",
)


Made = TypeVar("Made")


class Timing(NamedTuple):
    """Wall times of one competitor, in seconds."""

    first: float  # the first call, with everything that is compiled in it
    times: list[float]  # of the calls after it
    work: list[float]  # the processor time of the same calls, all cores together

    @property
    def median(self) -> float:
        """The median of the calls after the first."""
        return statistics.median(self.times)

    @property
    def minimum(self) -> float:
        """The call that was disturbed least."""
        return min(self.times)

    @property
    def compilation(self) -> float:
        """What the first call took beyond another one."""
        return max(self.first - self.median, 0.0)


class Verdict(NamedTuple):
    """A measured number beside its target."""

    case: str
    what: str
    value: float  # of the minima: what else runs on a machine can only add time
    of_medians: float
    of_work: float  # of the least processor times: what it costs whatever else runs
    limit: float
    at_least: bool = False
    compared: bool = True  # with a baseline: a ratio of times, the same on other machines

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


class Case(NamedTuple):
    """What a case has measured."""

    timings: dict[str, Timing]
    members_steps: dict[str, int]  # steps × members, or fits, of a call of each competitor
    verdicts: list[Verdict]
    notes: list[str]


class AbsentError(Exception):
    """Why a competitor cannot run here."""


def competitors(makers: Mapping[str, Callable[[], Made]]) -> tuple[dict[str, Made], list[str]]:
    """Those that can run here, and a note for each that cannot."""
    made: dict[str, Made] = {}
    notes = []
    for name, make in makers.items():
        try:
            made[name] = make()
        except ImportError as error:
            notes.append(f"without {name}: {error}: pip install 'jaxreg[bench]'")
        except AbsentError as error:
            notes.append(f"without {name}: {error}")
    return made, notes


def timed(run: Callable[[], Any]) -> tuple[float, float, Any]:
    """Wall and processor seconds of a call, and its result; JAX's arrays are waited for."""
    began, worked = time.perf_counter(), time.process_time()
    result = jax.block_until_ready(run())
    return time.perf_counter() - began, time.process_time() - worked, result


def interleaved(
    runs: Mapping[str, Callable[[], Any]], repeats: int, check: Callable[[dict[str, Any]], None] = lambda _: None
) -> dict[str, Timing]:
    """Time competitors in turn, so that a slow second of the machine meets all of them.

    ``check`` sees the results of the first calls and raises if they are not the same; only then is anything timed.
    """
    first = {name: timed(run) for name, run in runs.items()}
    check({name: result for name, (*_, result) in first.items()})
    timings = {name: Timing(seconds, [], []) for name, (seconds, *_) in first.items()}
    del first
    for _ in range(repeats):
        for name, run in runs.items():
            seconds, work, _ = timed(run)
            timings[name].times.append(seconds)
            timings[name].work.append(work)
    return timings


def ratio(
    case: str, timings: Mapping[str, Timing], one: str, other: str, limit: float, *, weight: float = 1.0
) -> Verdict:
    """The time of one competitor by that of another; ``weight`` divides, where the two did not do as much."""
    a, b = timings[one], timings[other]
    return Verdict(
        case,
        f"{one} / {other}",
        value=a.minimum / b.minimum / weight,
        of_medians=a.median / b.median / weight,
        of_work=min(a.work) / min(b.work) / weight,
        limit=limit,
    )


def single(case: str, what: str, value: float, limit: float) -> Verdict:
    """A number that is measured once."""
    return Verdict(case, what, value, value, value, limit, compared=False)


def machine() -> dict[str, Any]:
    """The machine and the versions of what computes on it."""
    versions = {"jaxreg": jaxreg.__version__}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "absent"
    device = jax.devices()[0]
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "device": f"{device.platform}: {device.device_kind}",
        "system": platform.platform(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": {"python": platform.python_version(), **versions},
    }


def described(about: Mapping[str, Any]) -> str:
    """The machine in a line."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items() if version != "absent")
    load = "" if about["load"] is None else f", load {about['load']:.1f}"
    return f"{about['processor']}, {about['cores']} cores{load}; {versions}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        fields = dict(line.split(":", 1) for line in info.read_text().split("\n\n")[0].splitlines() if ":" in line)
        named = {name.strip(): value.strip() for name, value in fields.items()}
        if "model name" in named:
            return f"{named['model name']} (family {named.get('cpu family')}, model {named.get('model')})"
    return platform.processor() or platform.machine()


def report(cases: Mapping[str, Case], unit: str) -> str:
    """Both tables: what was timed, and the targets; ``unit`` is what a call makes many of."""
    timings = [
        [
            f"{name}: {competitor}",
            timing.compilation,
            1e3 * timing.median,
            1e3 * timing.minimum,
            1e3 * min(timing.work),
            1e9 * timing.minimum / case.members_steps[competitor],
        ]
        for name, case in cases.items()
        for competitor, timing in case.timings.items()
    ]
    verdicts = [
        [
            f"{one.case}: {one.what}",
            one.value,
            one.of_medians,
            one.of_work,
            f"{'≥' if one.at_least else '≤'} {one.limit:g}",
            "met" if one.met else "MISSED",
        ]
        for case in cases.values()
        for one in case.verdicts
    ]
    notes = [f"{name}: {note}" for name, case in cases.items() for note in case.notes]
    timing_header = ("", "compile s", "median ms", "minimum ms", "work ms", f"ns/{unit}")
    verdict_header = ("", "of minima", "of medians", "of work", "target", "")
    return "\n\n".join(
        [
            common.table(timing_header, timings),
            common.table(verdict_header, verdicts),
            *(["\n".join(notes)] if notes else []),
        ]
    )


def as_json(cases: Mapping[str, Case]) -> dict[str, Any]:
    """All numbers, the machine named."""
    return {
        "machine": machine(),
        "cases": {
            name: {
                "timings": {
                    competitor: {
                        "compile_seconds": timing.compilation,
                        "seconds": timing.times,
                        "processor_seconds": timing.work,
                        "median": timing.median,
                        "minimum": timing.minimum,
                        "steps_times_members": case.members_steps[competitor],
                    }
                    for competitor, timing in case.timings.items()
                },
                "targets": [{**one._asdict(), "met": one.met} for one in case.verdicts],
                "notes": case.notes,
            }
            for name, case in cases.items()
        },
    }


def names(parser: argparse.ArgumentParser, option: str, known: Sequence[str], meaning: str) -> None:
    """An option that takes some of the known names, separated by commas."""

    def chosen(text: str) -> list[str]:
        given = text.split(",")
        unknown = [name for name in given if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)} is none of {', '.join(known)}")
        return [name for name in known if name in given]

    parser.add_argument(option, type=chosen, default=list(known), metavar="NAME[,NAME…]", help=meaning)


def close(name: str, found: Any, wanted: Any, *, tolerance: float, share: float = 1.0) -> None:
    """Raise unless a share of the members (last axis) have |found - wanted| ≤ tolerance·(1 + |wanted|) throughout."""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    within = np.abs(found - wanted) <= tolerance * (1 + np.abs(wanted))
    agree = within.reshape(-1, within.shape[-1]).all(axis=0).mean()
    if not agree >= share:
        raise AssertionError(
            f"{name} differ: {100 * agree:.1f} % of the members agree to {tolerance:g}, not {100 * share:g} %"
        )
