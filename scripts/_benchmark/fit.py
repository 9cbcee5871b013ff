"""The cases of ``benchmark.py fit``: spectra and peaks in float64 with covariance and status, one and many."""

import argparse
import functools
import importlib
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxreg
from _benchmark import blocks, curves, measure
from _benchmark.measure import Case, Timing, Verdict
from _benchmark.process import answer_all, other_process, timed_there
from jaxreg import Status

UNIT = "fit"
SIZE = "sets"  # the option that says how large the problem is
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
    timings = curves.timed(name, competitors, settings.repeats, notes)
    return Case(timings, {maker: competitors[maker].num_fits for maker in timings}, [], notes)


def one(settings: Settings) -> Case:
    """One warm ``curve_fit``: at most 1.5 times SciPy's time."""
    case = Case({}, {}, [], [])
    for name in curves.LAWS:
        given = curves.problem(name, 1)
        asked = {f"{name}, {other}": functools.partial(getattr(curves, other), given) for other in ONE_BY_ONE}
        made, notes = measure.competitors(asked)
        case.notes.extend(notes)
        case.timings.update(curves.timed("one", made, SINGLE_FITS * settings.repeats, case.notes))
        ours, theirs = list(made)[:2]
        case.verdicts.append(measure.ratio("one", case.timings, ours, theirs, 1.5))
    case.members_steps.update(dict.fromkeys(case.timings, 1))
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


CASES: dict[str, Callable[[Settings], Case]] = {
    case.__name__: case
    for case in (
        planck,
        gaussian,
        one,
        blocks.plate,
        blocks.errors_in_x,
        first,
        retrace,
        million,
        blocks.tall,
        isolation,
        precision,
    )
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
