"""The ratios of an earlier run, kept beside the code: times do not travel between machines, ratios within a run do."""

import argparse
import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import _common as common

from _benchmark import measure
from _benchmark.measure import Case

FILE = Path(__file__).with_suffix(".json")
TOLERANCE = 1.3  # two runs of the same code on a machine that does other things too differ by as much


class Change(NamedTuple):
    """A ratio now, and as it was."""

    what: str
    now: float
    before: float
    slowdown: float  # above 1 where jaxreg has lost

    @property
    def slower(self) -> bool:
        """Whether it is slower by more than chance."""
        return not self.slowdown <= TOLERANCE


def save(command: str, size: tuple[str, int], cases: Mapping[str, Case]) -> None:
    """Make what a command has measured its baseline; ``size`` is the option that says how large the problem is.

    Cases that were not measured keep the ratios that they had at that size.
    """
    option, value = size
    before = _all().get(command, {})
    others = before["ratios"] if before.get(option) == value else {}
    kept = {what: ratio for what, ratio in others.items() if what.split(":")[0] not in cases}
    measured = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": measure.machine(),
        option: value,
        "ratios": kept | {f"{one.case}: {one.what}": float(f"{one.value:.4g}") for one in _ratios(cases)},
    }
    common.save_json(FILE, _all() | {command: measured})


def load(command: str, size: tuple[str, int]) -> dict[str, Any]:
    """The baseline of a command; raises where there is none of that size."""
    kept: dict[str, Any] | None = _all().get(command)
    if kept is None:
        raise ValueError(f"there is no baseline of {command} in {FILE}: --save makes one")
    option, value = size
    if kept[option] != value:
        raise ValueError(f"the baseline of {command} is of {option} {kept[option]}, got {value}")
    return kept


def compare(cases: Mapping[str, Case], before: Mapping[str, float]) -> list[Change]:
    """What both have measured."""
    changes = []
    for one in _ratios(cases):
        what = f"{one.case}: {one.what}"
        if what in before:
            factor = one.value / before[what]
            changes.append(Change(what, one.value, before[what], 1 / factor if one.at_least else factor))
    return changes


def report(changes: list[Change], kept: Mapping[str, Any]) -> str:
    """Each ratio beside what it was, and where that was measured."""
    rows = [[one.what, one.now, one.before, one.slowdown, "SLOWER" if one.slower else ""] for one in changes]
    left = kept["ratios"].keys() - {one.what for one in changes}
    return "\n".join(
        [
            common.table(("ratio of minima", "now", "baseline", "slowdown", f"above {TOLERANCE}"), rows),
            *([f"not measured now: {', '.join(sorted(left))}"] if left else []),
            f"baseline of {kept['date']}: {measure.described(kept['machine'])}",
        ]
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of all commands."""
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--compare",
        action="store_true",
        help=f"with {FILE.name}: a ratio worse by more than {TOLERANCE} makes the exit code 1, targets do not",
    )
    chosen.add_argument("--save", action="store_true", help=f"write the ratios that are measured to {FILE.name}")


def _ratios(cases: Mapping[str, Case]) -> list[measure.Verdict]:
    return [one for case in cases.values() for one in case.verdicts if one.compared]


def _all() -> dict[str, Any]:
    return json.loads(FILE.read_text()) if FILE.exists() else {}
