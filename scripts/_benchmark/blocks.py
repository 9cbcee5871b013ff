"""The cases of ``benchmark.py fit`` whose unknowns come in blocks: global fits, errors in x, and tall fits."""

import argparse
import functools
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxreg
from _benchmark import curves, distances, measure, wells
from _benchmark.measure import Case, Verdict
from _benchmark.process import answer_all, other_process, timed_there

Settings = argparse.Namespace
SETS = 1024
SCALING = (16, 64, 256, 1024, 4096)
_ROWS = 10**6  # drawn, or added up, at a time


def plate(settings: Settings) -> Case:
    """Wells that share 9 parameters and have 7 each: seconds, memory, how both grow, and SciPy of all in one vector."""
    case = Case({}, {}, [], [])
    with other_process(__name__) as call:
        cold, *_ = call({"what": "plate", "sets": SETS})
        warm = [call({"what": "plate", "sets": SETS}) for _ in range(max(settings.repeats // 10, 1))]
        peak = call({"peak": True})[0]
        case.notes.append(f"{SETS} wells in {warm[0][2]:.0f} joint steps")
    seconds, work, _ = zip(*warm, strict=True)
    what = f"s of {SETS} × {wells.ROWS} points"
    case.verdicts.extend(
        [
            Verdict("plate", what, min(seconds), statistics.median(seconds), min(work), 4.0, compared=False),
            measure.single("plate", f"{what}, first call", cold, 7.0),
            measure.single("plate", "peak GB", peak, 0.8),
        ]
    )
    runs = {f"{sets} wells": wells.ours(sets) for sets in SCALING}
    steps: dict[str, int] = {}

    def scaled(results: dict[str, Any]) -> None:
        steps.update({name: int(fit.num_steps) + 1 for name, fit in results.items()})

    timings = measure.interleaved({name: one.run for name, one in runs.items()}, max(settings.repeats // 10, 1), scaled)
    each = {name: timings[name].minimum / steps[name] / one.num_sets for name, one in runs.items()}
    case.timings.update(timings)
    case.members_steps.update({name: steps[name] * one.num_sets for name, one in runs.items()})
    case.notes.append("µs a well and step: " + ", ".join(f"{name}: {1e6 * value:.0f}" for name, value in each.items()))
    spread = max(each.values()) / min(each.values())
    case.verdicts.append(measure.single("plate", "most / least seconds a well and step", spread, 1.25))
    _beside_scipy(case, 16, "lm", 20)
    _beside_scipy(case, 16, "trf", 200)
    _beside_scipy(case, 256, "trf", None, sparse=True, most=60)
    return case


def _beside_scipy(case: Case, sets: int, method: str, limit: float | None, **solver: Any) -> None:
    """SciPy's time by ours, and how near its χ² comes."""
    made, notes = measure.competitors({"scipy": lambda: wells.scipy(sets, method, **solver)})
    case.notes.extend(notes)
    if not made:
        return
    mine, other = wells.ours(sets), made["scipy"]
    kind = "sparse " if solver else ""
    names = f"{sets} wells, scipy's {kind}{method}", f"{sets} wells"
    costs: dict[str, float] = {}

    def agree(results: dict[str, Any]) -> None:
        costs.update({names[0]: other.cost(results[names[0]]), names[1]: mine.cost(results[names[1]])})

    timings = measure.interleaved({names[0]: other.run, names[1]: mine.run}, 1, agree)
    away = costs[names[0]] / costs[names[1]] - 1
    ratio = measure.ratio("plate", timings, *names, limit or 0.0)._replace(at_least=True)
    case.notes.append(f"{names[0]}: χ² is {away:.1g} of itself above ours, after {ratio.value:.3g} times as long")
    case.timings.setdefault(names[0], timings[names[0]])
    case.members_steps[names[0]] = sets
    if limit is not None:
        case.verdicts.append(ratio)


def errors_in_x(settings: Settings) -> Case:
    """Errors in both coordinates: at most half of ODRPACK's time for 1,000 points, 30 times as fast for many sets."""
    case = Case({}, {}, [], [])
    for num_sets, num_rows in ((1, 1000), (settings.sets, 50)):
        what = f"{num_sets} × {num_rows} points"
        asked = {"jaxreg": distances.ours, "odr": distances.odr}
        makers = {f"{what}, {kind}": functools.partial(make, num_sets, num_rows) for kind, make in asked.items()}
        one, other = makers
        made, notes = measure.competitors(makers)
        case.notes.extend(notes)
        timings = curves.timed("errors_in_x", made, settings.repeats, case.notes)
        fits = {name: made[name].num_fits for name in timings}
        case.timings.update(timings)
        case.members_steps.update(fits)
        if len(timings) == 2 and num_sets == 1:
            case.verdicts.append(measure.ratio("errors_in_x", timings, one, other, 0.5))
        elif len(timings) == 2:
            weight = fits[other] / fits[one]
            verdict = measure.ratio("errors_in_x", timings, other, one, 30, weight=weight)
            case.verdicts.append(verdict._replace(at_least=True))
    return case


def tall(settings: Settings) -> Case:
    """A decay of 3 parameters from memory maps: a pass at most 15 times a sum of the file, and under 2 GB of memory."""
    with tempfile.TemporaryDirectory() as folder, other_process(__name__) as call:
        files = [Path(folder) / f"{name}.npy" for name in "xy"]
        x, y = (np.lib.format.open_memmap(file, "w+", np.float64, (settings.points,)) for file in files)
        for seed, first in enumerate(range(0, settings.points, _ROWS)):
            random, part = np.random.default_rng(seed), slice(first, first + _ROWS)
            x[part] = random.uniform(0.0, 5.0, len(x[part]))
            y[part] = 2 * np.exp(-1.3 * x[part]) + 0.5 + 0.1 * random.normal(size=len(x[part]))
        x.flush()
        y.flush()
        asked = {"files": list(map(str, files))}
        runs = {name: functools.partial(call, asked | {"what": name}) for name in ("pass", "sum")}
        timings = timed_there(runs, max(settings.repeats // 10, 1))
        anonymous, passes = call(asked | {"what": "anonymous"})
    return Case(
        timings,
        dict.fromkeys(timings, settings.points),
        [
            measure.ratio("tall", timings, "pass", "sum", 15),
            measure.single("tall", "GB of anonymous memory", anonymous, 2.0),
        ],
        [f"{settings.points:,} points in {passes:.0f} passes and two more"],
    )


def serve() -> None:
    """Fit as it is asked, and answer with the seconds."""
    with jax.enable_x64(True):
        answer_all(_answer)


def _answer(what: str, **asked: Any) -> Sequence[float]:
    if what != "plate":
        return _tall(what, **asked)
    seconds, work, fit = measure.timed(wells.ours(asked["sets"]).run)
    return seconds, work, float(fit.num_steps)


def _tall(what: str, files: list[str]) -> Sequence[float]:
    x, y = (np.load(file, mmap_mode="r") for file in files)
    if what == "sum":
        parts = [slice(first, first + _ROWS) for first in range(0, len(x), _ROWS)]
        return measure.timed(lambda: sum(float(one[part].sum()) for part in parts for one in (x, y)))[:2]
    seconds, work, most = [], [], 0.0

    def look(_: Any) -> None:
        nonlocal most
        seconds.append(time.perf_counter())
        work.append(time.process_time())
        status = Path("/proc/self/status").read_text().split("RssAnon:")
        most = max(most, float(status[1].split()[0]) / 1e6 if len(status) > 1 else math.nan)

    start = {"amp": 1.0, "rate": 1.0, "offset": 0.0}
    fit = jaxreg.curve_fit(_decay, x, y, start, sigma=0.1, chunk_size=2**18, callback=look)
    if int(fit.status):
        raise AssertionError("the fit has failed")
    return [most, len(seconds)] if what == "anonymous" else [min(np.diff(seconds)), min(np.diff(work))]


def _decay(params: Any, x: jax.Array) -> jax.Array:
    return params["amp"] * jnp.exp(-params["rate"] * x) + params["offset"]
