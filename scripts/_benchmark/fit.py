"""The cases of ``benchmark.py fit``: spectra and peaks in float64 with covariance and status, one and many."""

import argparse
import functools
import importlib
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxreg
from _benchmark import curves, distances, measure
from _benchmark.measure import Case, Timing, Verdict
from _benchmark.process import answer_all, other_process, timed_there
from jaxreg import Status

UNIT = "fit"
SIZE = "sets"  # the option that says how large the problem is
# SciPy's and lmfit's defaults stop at a relative change of 1e-8 of χ² or the parameters, and difference the model.
PARAMS_AGREE = 1e-3  # of a standard error
ERRORS_AGREE = 1e-4  # of themselves
ONE_BY_ONE = ("curve_fit", "scipy", "compat", "optimistix", "nlsq")  # competitors for a single fit
SINGLE_FITS = 20  # for one repeat
DRAWN_TOGETHER = 50_000
_ROWS = 10**6  # drawn, or added up, at a time
PROCESSES = 3  # of their own, for first calls

Settings = argparse.Namespace


def planck(settings: Settings) -> Case:
    """Spectra with 2 parameters: at least 30 times as fast as SciPy's loop."""
    return _many("planck", 30, settings)


def gaussian(settings: Settings) -> Case:
    """Peaks with 4 parameters: at least 40 times as fast as SciPy's loop."""
    return _many("gaussian", 40, settings)


def _many(name: str, limit: float, settings: Settings) -> Case:
    case = compared(name, curves.problem(name, settings.sets), settings)
    if not {"scipy", "fit_many"} <= case.timings.keys():
        return case
    verdict = _times_as_fast(name, case, "scipy", limit)
    others = [
        f"{_times_as_fast(name, case, other, 0).value:.3g} × {other}"
        for other in case.timings
        if other not in ("scipy", "fit_many")
    ]
    rate = case.members_steps["fit_many"] / case.timings["fit_many"].minimum
    return case._replace(
        verdicts=[verdict],
        notes=[*case.notes, f"fit_many makes {rate:,.0f} fits a second, as fast as {', '.join(others)}"],
    )


def _times_as_fast(name: str, case: Case, other: str, limit: float) -> Verdict:
    weight = case.members_steps[other] / case.members_steps["fit_many"]
    return measure.ratio(name, case.timings, other, "fit_many", limit, weight=weight)._replace(at_least=True)


def compared(name: str, given: curves.Problem, settings: Settings) -> Case:
    """Check that all competitors find the same parameters and standard errors, then time them in turn."""
    asked = {maker: functools.partial(getattr(curves, maker), given) for maker in settings.only}
    competitors, notes = measure.competitors(asked)
    timings = _timed(name, competitors, settings.repeats, notes)
    return Case(timings, {maker: competitors[maker].num_fits for maker in timings}, [], notes)


def _timed(name: str, competitors: dict[str, curves.Competitor], repeats: int, notes: list[str]) -> dict[str, Timing]:
    """Interleaved times, once the numbers are known to agree; how well they do is noted."""

    def check(results: dict[str, Any]) -> None:
        notes.extend(_agreements(name, {maker: competitors[maker].numbers(found) for maker, found in results.items()}))

    return measure.interleaved({maker: made.run for maker, made in competitors.items()}, repeats, check)


def _agreements(name: str, found: dict[str, tuple[np.ndarray, np.ndarray]]) -> list[str]:
    """How far apart the competitors' numbers are; raises if that is too far."""
    first, *others = found
    notes: list[str] = []
    for other in others:
        common = min(found[first][0].shape[1], found[other][0].shape[1])
        (wanted, errors), (params, stderr) = ([part[:, :common] for part in found[one]] for one in (first, other))
        away, ratio = (params - wanted) / errors, stderr / errors
        measure.close(f"{name}: {other}'s parameters", away, np.zeros_like(away), tolerance=PARAMS_AGREE)
        measure.close(f"{name}: {other}'s standard errors", ratio - 1, np.zeros_like(ratio), tolerance=ERRORS_AGREE)
        notes.append(
            f"{first} and {other} agree, data sets: {common}, parameters: to {np.abs(away).max():.1g} standard errors, "
            f"these: to {np.abs(ratio - 1).max():.1g} of themselves"
        )
    return notes


def one(settings: Settings) -> Case:
    """One warm ``curve_fit``: at most 1.5 times SciPy's time."""
    case = Case({}, {}, [], [])
    for name in curves.LAWS:
        given = curves.problem(name, 1)
        asked = {f"{name}, {other}": functools.partial(getattr(curves, other), given) for other in ONE_BY_ONE}
        made, notes = measure.competitors(asked)
        case.notes.extend(notes)
        case.timings.update(_timed("one", made, SINGLE_FITS * settings.repeats, case.notes))
        ours, theirs = list(made)[:2]
        case.verdicts.append(measure.ratio("one", case.timings, ours, theirs, 1.5))
    case.members_steps.update(dict.fromkeys(case.timings, 1))
    return case


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
        timings = _timed("errors_in_x", made, settings.repeats, case.notes)
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


def first(settings: Settings) -> Case:
    """The first call in a new process, compilation included: at most 1.5 s for ``curve_fit``."""
    verdicts, notes = [], []
    for name in curves.LAWS:
        for verb, sets in (("curve_fit", 1), ("fit_many", settings.sets)):
            seconds, work = zip(*(_first_call(name, verb, sets) for _ in range(PROCESSES)), strict=True)
            if verb == "curve_fit":
                what = f"s of the first {verb}, {name}"
                verdicts.append(
                    Verdict("first", what, min(seconds), statistics.median(seconds), min(work), 1.5, compared=False)
                )
            else:
                notes.append(f"the first {verb} of {sets} data sets, {name}, takes {min(seconds):.2f} s")
    return Case({}, {}, verdicts, notes)


def _first_call(name: str, verb: str, sets: int) -> list[float]:
    with other_process(__name__) as call:
        call({"what": "drawn", "name": name, "sets": sets})
        return call({"what": verb, "name": name, "sets": sets})


def retrace(settings: Settings) -> Case:
    """A second data set of the same shape traces nothing."""
    law, traced = curves.LAWS["planck"], []

    def model(params: Any, x: jax.Array) -> jax.Array:
        traced.append(True)
        return law.model.apply(params, x)

    verdicts = []
    for verb, shape in (("curve_fit", ()), ("fit_many", (settings.sets,))):
        before = 0
        for seed in range(2):
            before = len(traced)
            y = curves.drawn("planck", math.prod(shape), seed).reshape(*shape, curves.NUM_ROWS)
            getattr(jaxreg, verb)(model, law.x, y, law.start)
        verdicts.append(measure.single("retrace", f"traces of a second {verb}", len(traced) - before, 0))
    return Case({}, {}, verdicts, [])


def million(settings: Settings) -> Case:
    """A hundred times the spectra from a memory map, with and without a store: peak memory, and the time of a fit."""
    few, many = settings.sets, 100 * settings.sets
    timings: dict[str, Timing] = {}
    verdicts = []
    kinds, notes = measure.competitors({"memory": lambda: None, "store": lambda: importlib.import_module("zarr")})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "spectra.npy"
        spectra = np.lib.format.open_memmap(file, "w+", np.float64, (many, curves.NUM_ROWS))
        for seed, place in enumerate(range(0, many, DRAWN_TOGETHER)):
            part = spectra[place : place + DRAWN_TOGETHER]
            part[:] = curves.drawn("planck", len(part), seed)
        spectra.flush()
        del spectra
        for kind in kinds:
            names = f"{few} in {kind}", f"{many} in {kind}"
            with other_process(__name__) as call:
                asked = {"what": "streamed", "file": str(file), "stored": kind == "store"}
                runs = {
                    names[0]: functools.partial(call, asked | {"sets": few, "stored": False}),
                    names[1]: functools.partial(call, asked | {"sets": many}),
                }
                timings |= timed_there(runs, max(settings.repeats // 15, 1))
                peak = call({"peak": True})[0]
            verdicts += [
                measure.ratio("million", timings, names[1], names[0], 1.3, weight=many / few),
                measure.single("million", f"peak GB of {names[1]}", peak, 2.0),
            ]
    return Case(timings, {name: int(name.split()[0]) for name in timings}, verdicts, notes)


def isolation(settings: Settings) -> Case:
    """A NaN, zeros, an absurd start and too few points among the spectra: four statuses, and the rest to the bit."""
    law, y = curves.LAWS["planck"], curves.drawn("planck", settings.sets)
    starts = {name: np.full(settings.sets, value) for name, value in law.start.items()}
    mask = np.ones(y.shape, bool)
    places = [place * settings.sets // 4 + settings.sets // 8 for place in range(4)]
    wanted = dict(zip(places, (Status.NONFINITE, Status.SINGULAR, Status.SINGULAR, Status.INVALID_INPUT), strict=True))

    def fitted() -> jaxreg.Fit:
        fits = jaxreg.fit_many(law.model, law.x, y, starts, p0_each=True, mask=mask, progress=False)
        return fits.without_data()

    good = fitted()
    y[places[0], 5] = np.nan
    y[places[1]] = 0.0
    starts["temperature"][places[2]] = 1.0  # kelvin, where the model is 0 throughout
    mask[places[3], 1:] = False
    found = fitted()
    others = np.delete(np.arange(settings.sets), places)
    changed = np.zeros(len(others), bool)
    for before, after in zip(jax.tree.leaves(good), jax.tree.leaves(found), strict=True):
        bits = [leaf[others].reshape(len(others), -1).view(np.uint8) for leaf in (before, after)]
        changed |= (bits[0] != bits[1]).any(axis=1)
    wrong = sum(found.status[place] != status for place, status in wanted.items())
    errors = curves.stacked(found.stderr)[:, places]
    said = ", ".join(Status(int(found.status[place])).name for place in places)
    return Case(
        {},
        {},
        [
            measure.single("isolation", "other fits that changed by a bit", int(changed.sum()), 0),
            measure.single("isolation", "wrong statuses", int(wrong), 0),
            measure.single("isolation", "failed fits with an error bar", int(np.isfinite(errors).any(axis=0).sum()), 0),
        ],
        [f"a NaN, zeros, a start at 1 K and one point end as {said}"],
    )


def precision(settings: Settings) -> Case:
    """float32 beside float64, on whatever device there is."""

    def fitted(name: str, x64: bool) -> jaxreg.Fit:
        given, dtype = sets[name], np.float64 if x64 else np.float32
        x, y = given.law.x.astype(dtype), given.y.astype(dtype, copy=False)
        with jax.enable_x64(x64):
            return jaxreg.fit_many(given.law.model, x, y, given.law.start, residuals=False, progress=False)

    def check(results: dict[str, jaxreg.Fit]) -> None:
        failed = {name: int(np.count_nonzero(fit.status)) for name, fit in results.items()}
        notes.extend(f"{name}: {count} of {settings.sets} fits failed" for name, count in failed.items() if count)

    notes: list[str] = []
    sets = {name: curves.problem(name, settings.sets) for name in curves.LAWS}
    runs = {
        f"{name}, float{64 if x64 else 32}": functools.partial(fitted, name, x64)
        for name in curves.LAWS
        for x64 in (False, True)
    }
    timings = measure.interleaved(runs, settings.repeats, check)
    rates = [f"{name}: {settings.sets / timing.minimum:,.0f}" for name, timing in timings.items()]
    notes.append(f"fits a second: {'; '.join(rates)}")
    return Case(timings, dict.fromkeys(timings, settings.sets), [], notes)


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


CASES: dict[str, Callable[[Settings], Case]] = {
    case.__name__: case
    for case in (planck, gaussian, one, errors_in_x, first, retrace, million, tall, isolation, precision)
}
COMPETITORS = ("fit_many", "fit_many_residuals", "vmap", "optimistix", "scipy", "scipy_jacobian", "lmfit", "nlsq")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    measure.names(parser, "--case", list(CASES), f"some of {', '.join(CASES)} (all)")
    measure.names(parser, "--only", COMPETITORS, f"competitors, some of {', '.join(COMPETITORS)} (all)")
    parser.add_argument("--points", type=int, default=10**7, help="of a tall fit (%(default)s)")
    parser.add_argument("--sets", type=_at_least_eight, default=10_000, help="data sets to a call (%(default)s)")


def _at_least_eight(text: str) -> int:
    """So that four bad data sets have good ones between them."""
    if not text.isdecimal() or int(text) < 8:
        raise argparse.ArgumentTypeError(f"sets must be a whole number of at least 8, got {text!r}")
    return int(text)


def run(settings: Settings) -> dict[str, Case]:
    """Run the cases that are asked for."""
    found = {}
    with jax.enable_x64(True):
        for name in settings.case:
            print(f"{name} …", file=sys.stderr, flush=True)
            found[name] = CASES[name](settings)
    return found


# What runs in processes of its own.


def serve() -> None:
    """Fit as it is asked, and answer with the seconds."""
    with jax.enable_x64(True):
        answer_all(_answer)


def _answer(what: str, **asked: Any) -> Sequence[float]:
    if what == "drawn":
        return [float(len(_drawn(**asked)))]
    if what in ("pass", "sum", "anonymous"):
        return _tall(what, **asked)
    if what == "streamed":
        return _streamed(**asked)
    law, y = curves.LAWS[asked["name"]], _drawn(**asked)
    if what == "curve_fit":
        return measure.timed(lambda: jaxreg.curve_fit(law.model, law.x, y[0], law.start))[:2]
    return measure.timed(lambda: jaxreg.fit_many(law.model, law.x, y, law.start, residuals=False))[:2]


@functools.cache
def _drawn(name: str, sets: int) -> np.ndarray:
    return curves.drawn(name, sets)


def _streamed(file: str, sets: int, stored: bool) -> Sequence[float]:
    law, spectra = curves.LAWS["planck"], np.load(file, mmap_mode="r")[:sets]
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/fits.zarr" if stored else None
        seconds, work, fit = measure.timed(
            lambda: jaxreg.fit_many(law.model, law.x, spectra, law.start, residuals=False, progress=False, store=path)
        )
        if np.any(np.asarray(fit.status)):
            raise AssertionError("a fit has failed")
    return seconds, work


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
