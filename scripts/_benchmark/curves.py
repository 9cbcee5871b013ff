"""Spectra to be fitted, drawn in any number, and the programs that fit them."""

import importlib
import logging
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import jaxreg
from _benchmark import measure
from _benchmark.measure import AbsentError
from jaxreg import models

# SciPy's and lmfit's defaults stop at a relative change of 1e-8 of χ² or the parameters, and difference the model.
PARAMS_AGREE = 1e-3  # of a standard error
ERRORS_AGREE = 1e-4  # of themselves
NUM_ROWS = 64
RADIATION = 2 * models.PLANCK_CONSTANT * models.SPEED_OF_LIGHT**2
EXPONENT = models.PLANCK_CONSTANT * models.SPEED_OF_LIGHT / models.BOLTZMANN_CONSTANT


class Law(NamedTuple):
    """A curve, for JAX and for NumPy, and what its parameters are drawn from. All orders are that of sorted names."""

    model: models.Model
    x: np.ndarray  # (n,)
    curve: Callable[..., np.ndarray]  # of (x, *parameters)
    slope: Callable[..., np.ndarray]  # its derivatives (n, p), of the same
    draw: Callable[[np.random.Generator, int], np.ndarray]  # true parameters (p, count)
    noise: Callable[[np.ndarray], np.ndarray]  # standard deviations, from the curves
    start: dict[str, float]


class Problem(NamedTuple):
    """Data sets of a law."""

    law: Law
    y: np.ndarray  # (m, n)


class Competitor(NamedTuple):
    """A program that fits the first data sets of a problem."""

    num_fits: int
    run: Callable[[], Any]
    numbers: Callable[[Any], tuple[np.ndarray, np.ndarray]]  # of its result: parameters and standard errors (p, fits)


def _planck(x: np.ndarray, gain: Any, temperature: Any) -> np.ndarray:
    return gain * RADIATION / x**5 / np.expm1(EXPONENT / (x * temperature))


def _planck_slope(x: np.ndarray, gain: Any, temperature: Any) -> np.ndarray:
    exponent = EXPONENT / (x * temperature)
    radiance = RADIATION / x**5 / np.expm1(exponent)
    return np.column_stack([radiance, gain * radiance * exponent / temperature / -np.expm1(-exponent)])


def _peak(x: np.ndarray, amplitude: Any, center: Any, offset: Any, width: Any) -> np.ndarray:
    return amplitude * np.exp(-0.5 * ((x - center) / width) ** 2) + offset


def _peak_slope(x: np.ndarray, amplitude: Any, center: Any, offset: Any, width: Any) -> np.ndarray:
    del offset
    away = (x - center) / width
    shape = np.exp(-0.5 * away**2)
    by_center = amplitude * shape * away / width
    return np.column_stack([shape, by_center, np.ones_like(x), by_center * away])


LAWS = {
    "planck": Law(
        models.planck(gain=True),
        np.linspace(3e-7, 2e-6, NUM_ROWS),
        _planck,
        _planck_slope,
        lambda rng, count: np.stack([rng.uniform(0.9, 1.1, count), rng.uniform(4000, 6000, count)]),
        lambda curves: 0.01 * curves,
        {"gain": 1.0, "temperature": 5000.0},
    ),
    "gaussian": Law(
        models.gaussian(offset=True),
        np.linspace(-3.0, 3.0, NUM_ROWS),
        _peak,
        _peak_slope,
        lambda rng, count: np.stack(
            [rng.uniform(2, 3, count), rng.normal(0, 0.3, count), rng.normal(0, 0.1, count), rng.uniform(1, 1.2, count)]
        ),
        lambda curves: np.full_like(curves, 0.02),
        {"amplitude": 2.5, "center": 0.0, "offset": 0.0, "width": 1.1},
    ),
}


def drawn(name: str, num_sets: int, seed: int = 0) -> np.ndarray:
    """Data sets (m, n) of a law."""
    law, rng = LAWS[name], np.random.default_rng(seed)
    curves = law.curve(law.x[None], *law.draw(rng, num_sets)[..., None])
    return curves + law.noise(curves) * rng.normal(size=curves.shape)


def problem(name: str, num_sets: int) -> Problem:
    """Data sets of a law by its name."""
    return Problem(LAWS[name], drawn(name, num_sets))


def stacked(tree: Any) -> np.ndarray:
    """The leaves of a result, (p, fits)."""
    return np.stack([np.asarray(leaf) for leaf in jax.tree.leaves(tree)])


def _numbers(fit: jaxreg.Fit) -> tuple[np.ndarray, np.ndarray]:
    jaxreg.raise_if_failed(fit)
    return stacked(fit.params), stacked(fit.stderr)


def fit_many(given: Problem) -> Competitor:
    """``jaxreg.fit_many``, residuals left out."""
    return _fit_many(given, residuals=False)


def fit_many_residuals(given: Problem) -> Competitor:
    """``jaxreg.fit_many`` as it is called without options."""
    return _fit_many(given, residuals=True)


def _fit_many(given: Problem, **options: Any) -> Competitor:
    def run() -> jaxreg.Fit:
        return jaxreg.fit_many(given.law.model, given.law.x, given.y, given.law.start, progress=False, **options)

    return Competitor(len(given.y), run, _numbers)


def curve_fit(given: Problem) -> Competitor:
    """``jaxreg.curve_fit`` of the first data set."""
    law, y = given.law, given.y[0]

    def numbers(fit: jaxreg.Fit) -> tuple[np.ndarray, np.ndarray]:
        params, stderr = _numbers(fit)
        return params[:, None], stderr[:, None]

    return Competitor(1, lambda: jaxreg.curve_fit(law.model, law.x, y, law.start), numbers)


def vmap(given: Problem) -> Competitor:
    """``jax.jit(jax.vmap(…))`` of ``jaxreg.curve_fit``."""
    law = given.law
    # Without its problem, of which each member would hold a copy.
    run = jax.jit(jax.vmap(lambda y: jaxreg.curve_fit(law.model, law.x, y, law.start).without_data()))
    return Competitor(len(given.y), lambda: run(given.y), _numbers)


SCIPY_FITS = 300


def scipy(given: Problem) -> Competitor:
    """SciPy's ``curve_fit``, one fit after another, with its defaults."""
    return _scipy(given)


def scipy_jacobian(given: Problem) -> Competitor:
    """SciPy's ``curve_fit`` that is given the exact Jacobian."""
    return _scipy(given, jac=given.law.slope)


def _scipy(given: Problem, **options: Any) -> Competitor:
    optimize = importlib.import_module("scipy.optimize")
    return _one_by_one(optimize.curve_fit, given.law.curve, given, **options)


def compat(given: Problem) -> Competitor:
    """``jaxreg.compat.curve_fit``, one fit after another."""
    return _one_by_one(jaxreg.compat.curve_fit, _positional(given.law), given)


def nlsq(given: Problem) -> Competitor:
    """The ``curve_fit`` of an object of NLSQ's, one fit after another; its function compiles each call, for 0.2 s."""
    if sys.version_info < (3, 12):
        raise AbsentError("it needs Python 3.12")
    solver = importlib.import_module("nlsq").CurveFit()
    logging.getLogger("nlsq").propagate = False  # each of its steps, to the terminal
    return _one_by_one(solver.curve_fit, _positional(given.law), given)


def _positional(law: Law) -> Callable[..., jax.Array]:
    """The curve for JAX, of (x, *parameters)."""
    return lambda x, *params: law.model.apply(dict(zip(law.start, params, strict=True)), x)


def _one_by_one(solve: Callable[..., Any], curve: Callable[..., Any], given: Problem, **options: Any) -> Competitor:
    """What has SciPy's call."""
    some, start = given.y[:SCIPY_FITS], list(given.law.start.values())

    def run() -> list[tuple[np.ndarray, np.ndarray]]:
        found = (solve(curve, given.law.x, y, start, **options) for y in some)
        return [(np.asarray(popt), np.asarray(pcov)) for popt, pcov in found]

    def numbers(found: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        params, matrices = zip(*found, strict=True)
        return np.array(params).T, np.sqrt(np.array([np.diag(matrix) for matrix in matrices])).T

    return Competitor(len(some), run, numbers)


def optimistix(given: Problem) -> Competitor:
    """optimistix's Levenberg-Marquardt under ``jit(vmap(…))``, with SciPy's tolerances and errors by a QR.

    Its damping counts in the problem's own units: of spectra in theirs 6 % end elsewhere, so it gets numbers near 1.
    """
    package = importlib.import_module("optimistix")
    solver = package.LevenbergMarquardt(rtol=1e-8, atol=1e-8)
    start, unravel = ravel_pytree(given.law.start)
    unit = jnp.where(start == 0, 1, start)

    @jax.jit
    @jax.vmap
    def solved(y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        def residual(params: jax.Array, _: Any) -> jax.Array:
            curve = given.law.model.apply(unravel(unit * params), jnp.asarray(given.law.x))
            return (curve - y) / jnp.max(jnp.abs(y))

        found = package.least_squares(residual, solver, start / unit, throw=False)
        away, slope = residual(found.value, None), jax.jacfwd(residual)(found.value, None)
        factor = jnp.linalg.inv(jnp.linalg.qr(slope, mode="r")) * jnp.linalg.norm(away)
        stderr = jnp.linalg.norm(factor, axis=1) / (away.size - start.size) ** 0.5
        return unit * found.value, unit * stderr, found.result == package.RESULTS.successful

    def numbers(found: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[np.ndarray, np.ndarray]:
        params, stderr, converged = map(np.asarray, found)
        if not converged.all():
            raise AssertionError(f"optimistix: {np.count_nonzero(~converged)} of {len(params)} fits failed")
        return params.T, stderr.T

    return Competitor(len(given.y), lambda: solved(given.y), numbers)


LMFIT_FITS = 10


def lmfit(given: Problem) -> Competitor:
    """lmfit's ``Model.fit``, one fit after another."""
    package = importlib.import_module("lmfit")
    model, some = package.Model(given.law.curve), given.y[:LMFIT_FITS]

    def run() -> list[Any]:
        return [model.fit(y, x=given.law.x, **given.law.start) for y in some]

    def numbers(found: list[Any]) -> tuple[np.ndarray, np.ndarray]:
        fitted = [[one.params[name] for one in found] for name in given.law.start]
        return np.array([[one.value for one in row] for row in fitted]), np.array(
            [[one.stderr for one in row] for row in fitted]
        )

    return Competitor(len(some), run, numbers)


def timed(name: str, competitors: dict[str, Competitor], repeats: int, notes: list[str]) -> dict[str, measure.Timing]:
    """Interleaved times, once the numbers are known to agree; how well they do is noted."""

    def check(results: dict[str, Any]) -> None:
        notes.extend(agreements(name, {maker: competitors[maker].numbers(found) for maker, found in results.items()}))

    return measure.interleaved({maker: made.run for maker, made in competitors.items()}, repeats, check)


def agreements(name: str, found: dict[str, tuple[np.ndarray, np.ndarray]]) -> list[str]:
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
