"""How often do intervals hold the truth? Thousands of simulated data sets, each with a fit and intervals of its own.

Planck's law and a peak under the noise that least squares is for; then noise that it is not for: errors that grow with
the curve where sigma does not say so, and cosmic rays, for the parameters and for new points without a ray; at last
lines through the median and through an outer quantile of errors that fan out. Nominal 95 % intervals are honest if 95 %
hold the truth.
"""

import argparse
import functools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import _common as common
import jax
import jax.numpy as jnp
import numpy as np

import jaxreg
from jaxreg import losses, models, uncertainty

LEVELS = (68.3, 95.0)
HOLDS, FAILS, SHOWN = "holds", "fails", "shown"  # what is wanted of a kind of intervals
OUTLIERS = 0.02  # share of the points
NOISE = 0.05  # of a peak of height 2


class Kind(NamedTuple):
    """Intervals to be tried."""

    name: str
    options: dict[str, Any]  # of the fit
    wanted: str  # HOLDS: every parameter within the bound; FAILS: at least one not, at 95 %; SHOWN: either
    bound: float  # in percentage points
    levels: tuple[float, ...]  # that it is for
    new: Any = None  # new(key, curve) -> errors of new points: then it is a prediction band that is tried


class Case(NamedTuple):
    """Data around a curve, and the intervals to be tried on them."""

    model: models.Model
    truth: dict[str, float]
    x: np.ndarray
    noise: Any  # noise(key, curve) -> errors of one data set
    kinds: tuple[Kind, ...]
    share: float = 1.0  # of the data sets that are asked for
    sigma: Any = None  # sigma(curve) that the fits are told


class Row(NamedTuple):
    """What was found for one parameter, or for new points."""

    parameter: str
    percent: dict[float, float]  # level -> intervals that hold the truth
    width: float  # median of the 95 % intervals
    within: bool  # the bound, at the levels that it is for


class Outcome(NamedTuple):
    """What was found for one kind of intervals."""

    case: str
    kind: Kind
    rows: list[Row]
    num_sets: int
    num_failed: int  # fits
    seconds: float  # of the fits

    @property
    def met(self) -> bool:
        """Whether it is as wanted."""
        holds = all(row.within for row in self.rows)
        return self.kind.wanted == SHOWN or holds == (self.kind.wanted == HOLDS)


def one_percent(curve: jax.Array) -> jax.Array:
    """1 % of the curve at each point, as a sigma."""
    return 0.01 * curve


def relative(key: jax.Array, curve: jax.Array) -> jax.Array:
    """1 % of the curve at each point."""
    return one_percent(curve) * jax.random.normal(key, curve.shape)


def constant(key: jax.Array, curve: jax.Array) -> jax.Array:
    """The same at each point."""
    return NOISE * jax.random.normal(key, curve.shape)


def growing(key: jax.Array, curve: jax.Array) -> jax.Array:
    """Four times as large at the top of the curve as at its foot."""
    height = (curve - curve.min()) / (curve.max() - curve.min())
    return (0.5 + 1.5 * height) * constant(key, curve)


def cosmic_rays(key: jax.Array, curve: jax.Array) -> jax.Array:
    """As ``constant``, but one point in fifty has light from elsewhere, ten standard deviations of it."""
    key_noise, key_ray = jax.random.split(key)
    return constant(key_noise, curve) + 10 * NOISE * jax.random.bernoulli(key_ray, OUTLIERS, curve.shape)


def _fan(curve: jax.Array) -> jax.Array:
    """The errors' size along a line: least in the middle, eight times as large at its ends."""
    return 0.3 + 4.2 * jnp.abs(curve - curve.mean()) / jnp.ptp(curve)


def fanning(key: jax.Array, curve: jax.Array) -> jax.Array:
    """Errors that fan out to both sides, the curve being their median."""
    return _fan(curve) * jax.random.normal(key, curve.shape)


def fanning_below(key: jax.Array, curve: jax.Array) -> jax.Array:
    """The same, the curve being their upper decile."""
    return fanning(key, curve) - _fan(curve) * jax.scipy.special.ndtri(0.9)


# Huber's threshold with 95 % of least squares' efficiency under normal errors.
HUBER = {"loss": functools.partial(losses.huber, delta=1.345), "scale": "mad"}
PLANCK = (models.planck(gain=True), {"temperature": 5020.0, "gain": 1.0}, np.linspace(3e-7, 2e-6, 64))
PEAK = (models.gaussian(offset=True), {"amplitude": 2.0, "center": 0.3, "width": 1.0, "offset": 0.5})
CLASSIC = Kind("least squares, classic", {}, HOLDS, 0.7, LEVELS)
TOO_SIMPLE = CLASSIC._replace(wanted=FAILS, bound=1.5, levels=(95.0,))
SANDWICH = TOO_SIMPLE._replace(name="least squares, HC3", options={"covariance": "HC3"}, wanted=HOLDS)
ROBUST = SANDWICH._replace(name="Huber, HC3", options={**HUBER, "covariance": "HC3"})
# With a robust loss "classic" is Huber's second form, which takes the outliers into account.
ROBUST_CLASSIC = ROBUST._replace(name="Huber, classic", options=HUBER, wanted=SHOWN)
PREDICTED = ROBUST_CLASSIC._replace(name="Huber, new points", wanted=HOLDS, new=constant)
LINE = (models.expression("a + b*x"), {"a": 1.0, "b": 2.0}, np.linspace(-2.0, 2.0, 200))
MEDIAN = TOO_SIMPLE._replace(name="median, one density", options={"loss": "absolute"})
# One bandwidth for all rows is wide for those whose errors are small, so the line's height in the middle, where they
# are, has intervals that are too wide: 98.6 %.
MEDIAN_KERNEL = MEDIAN._replace(
    name="median, HC0", options={"loss": "absolute", "covariance": "HC0"}, wanted=HOLDS, bound=4.0
)
DECILE = {"loss": functools.partial(losses.quantile, q=0.9)}
OUTER = MEDIAN._replace(name="upper decile, one density", options=DECILE, wanted=SHOWN)
OUTER_KERNEL = OUTER._replace(name="upper decile, HC0", options={**DECILE, "covariance": "HC0"})
CASES = {
    "Planck": Case(*PLANCK, relative, (CLASSIC,), sigma=one_percent),
    "peak": Case(*PEAK, np.linspace(-4.0, 4.0, 64), constant, (CLASSIC,)),
    "growing errors": Case(*PEAK, np.linspace(-4.0, 4.0, 128), growing, (TOO_SIMPLE, SANDWICH), share=0.1),
    "cosmic rays": Case(
        *PEAK, np.linspace(-4.0, 4.0, 128), cosmic_rays, (TOO_SIMPLE, ROBUST, ROBUST_CLASSIC, PREDICTED), share=0.1
    ),
    "fanning errors": Case(*LINE, fanning, (MEDIAN, MEDIAN_KERNEL), share=0.05),
    "fanning errors, decile": Case(*LINE, fanning_below, (OUTER, OUTER_KERNEL), share=0.05),
}


def simulated(case: Case, num_sets: int, key: jax.Array) -> np.ndarray:
    """Data sets of a case, one a row."""
    curve = _curve(case)
    keys = jax.random.split(key, num_sets)
    return np.asarray(jax.vmap(lambda key: curve + case.noise(key, curve))(keys))


def _curve(case: Case) -> jax.Array:
    return case.model.apply(case.truth, jnp.asarray(case.x))


def studied(name: str, num_sets: int, key: jax.Array) -> list[Outcome]:
    """All kinds of intervals of a case, on the same data."""
    case = CASES[name]
    num_sets = max(round(case.share * num_sets), 1)
    y = simulated(case, num_sets, key)
    sigma = None if case.sigma is None else np.asarray(case.sigma(_curve(case)))
    outcomes = []
    for kind in case.kinds:
        began = time.perf_counter()
        fits = jaxreg.fit_many(case.model, case.x, y, sigma=sigma, residuals=False, progress=False, **kind.options)
        seconds = time.perf_counter() - began
        failed = int(np.count_nonzero(fits.status))
        rows = _rows(fits, case.truth, kind) if kind.new is None else [_new_points(fits, case, kind, key)]
        outcomes.append(Outcome(name, kind, rows, num_sets, failed, seconds))
    return outcomes


def _rows(fits: jaxreg.Fit, truth: dict[str, float], kind: Kind) -> list[Row]:
    """An interval of a fit that failed is NaN and holds nothing."""
    percent: dict[str, dict[float, float]] = {name: {} for name in truth}
    for level in LEVELS:
        lower, upper = uncertainty.intervals(fits, level=level / 100)
        for name, value in truth.items():
            inside = (np.asarray(lower[name]) <= value) & (value <= np.asarray(upper[name]))
            percent[name][level] = 100 * float(np.mean(inside))
    widths = {name: float(np.nanmedian(upper[name] - lower[name])) for name in truth}  # of the last level, 95 %
    return [Row(name, percent[name], widths[name], _within(percent[name], kind)) for name in truth]


def _new_points(fits: jaxreg.Fit, case: Case, kind: Kind, key: jax.Array) -> Row:
    """A new point at each x, for each data set."""
    curve = _curve(case)
    keys = jax.random.split(jax.random.fold_in(key, 1), len(fits.status))
    new = jax.vmap(lambda key: curve + kind.new(key, curve))(keys)
    percent, width = {}, 0.0
    for level in LEVELS:
        band = functools.partial(uncertainty.band, x=case.x, kind="prediction", level=level / 100)
        found = jax.vmap(lambda fit, band=band: band(fit))(fits)
        percent[level] = 100 * float(np.mean((found.lower <= new) & (new <= found.upper)))
        width = float(np.nanmedian(found.upper - found.lower))
    return Row("new points", percent, width, _within(percent, kind))


def _within(percent: dict[float, float], kind: Kind) -> bool:
    return all(abs(percent[level] - level) <= kind.bound for level in kind.levels)


def table(outcomes: Sequence[Outcome]) -> str:
    """A row for each parameter; the verdict is that of its kind of intervals."""
    header = ("", "parameter", "68.3 %", "95 %", "width", "bound", "within", "wanted", "")
    rows = [
        [
            f"{one.case}: {one.kind.name}" if row is one.rows[0] else "",
            row.parameter,
            *(f"{row.percent[level]:.2f}" for level in LEVELS),
            row.width,
            f"± {one.kind.bound:g}",
            row.within,
            one.kind.wanted if row is one.rows[0] else "",
            ("met" if one.met else "MISSED") if row is one.rows[0] and one.kind.wanted != SHOWN else "",
        ]
        for one in outcomes
        for row in one.rows
    ]
    sizes = [
        f"{one.case}: {one.kind.name}: {one.num_sets} fits, {one.num_failed} failed, {one.seconds:.1f} s"
        for one in outcomes
    ]
    return "\n".join([common.table(header, rows), "", *sizes])


def draw(outcomes: Sequence[Outcome], settings: common.Settings) -> None:
    """The coverage of the 95 % intervals by parameter, with the bounds."""
    labels = [f"{one.case}: {one.kind.name}: {row.parameter}" for one in outcomes for row in one.rows]
    with common.figure(settings, "interval_coverage", size=(8.2, 1.2 + 0.24 * len(labels))) as ax:
        place = 0
        for one in outcomes:
            places = np.arange(place, place + len(one.rows))
            place += len(one.rows)
            ax.fill_betweenx(
                [places[0] - 0.4, places[-1] + 0.4], 95 - one.kind.bound, 95 + one.kind.bound, color="0.85"
            )
            for within, marker in ((True, "o"), (False, "x")):
                shown = [index for index, row in zip(places, one.rows, strict=True) if row.within is within]
                ax.plot([one.rows[index - places[0]].percent[95.0] for index in shown], shown, marker, color="black")
        ax.axvline(95, color="black", linewidth=0.8)
        ax.set_yticks(range(len(labels)), labels, fontsize="x-small")
        ax.set_ylim(len(labels) - 0.5, -0.5)
        ax.set_xlabel("nominal 95 % intervals that hold the truth / %")
        ax.set_title("o within the bound (shaded), x outside it", fontsize="medium")


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, fit, count; print the table, write numbers and figure; the exit code is 1 if a bound is missed."""
    parser = common.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sets",
        type=int,
        default=100_000,
        help="data sets, a tenth of them where errors grow or rays fall, a twentieth where errors fan out; fewer miss "
        "the bounds by chance (%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of all random numbers (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder for numbers and figure (%(default)s)")
    given = common.parsed(parser, arguments)
    try:
        if given.sets < 1:
            raise ValueError(f"sets must be at least 1, got {given.sets}")
        if not 0 <= given.seed < 2**32:
            raise ValueError(f"seed must be between 0 and 2³² - 1, got {given.seed}")
        out = common.writable_folder(given.out)
    except ValueError as error:
        return common.refuse(parser.prog, error)

    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(given.seed), len(CASES))
        outcomes = [one for name, key in zip(CASES, keys, strict=True) for one in studied(name, given.sets, key)]
    draw(outcomes, common.Settings(given.seed, given.sets, out))
    common.save_json(
        out / "interval_coverage.json", {"seed": given.seed, "outcomes": [_numbers(one) for one in outcomes]}
    )
    print(f"{table(outcomes)}\n\nwritten to {out}: interval_coverage.json, interval_coverage.svg/.png")
    return 0 if all(one.met for one in outcomes) else 1


def _numbers(one: Outcome) -> dict[str, Any]:
    return {
        "case": one.case,
        "intervals": one.kind.name,
        "wanted": one.kind.wanted,
        "bound": one.kind.bound,
        "met": one.met,
        "num_sets": one.num_sets,
        "num_failed": one.num_failed,
        "seconds": one.seconds,
        "parameters": [row._asdict() for row in one.rows],
    }


if __name__ == "__main__":
    sys.exit(main())
