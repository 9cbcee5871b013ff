"""Fits with errors in both coordinates, beside ODRPACK through ``scipy.odr``."""

import functools
import importlib
import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np

import jaxreg
from _benchmark.curves import Competitor
from _benchmark.measure import AbsentError

START = {"amplitude": 3.0, "offset": 0.0, "rate": 0.8}
SIGMA, SIGMA_X = 0.1, 0.05
ODR_FITS = 300


def decay(params: Any, x: Any) -> Any:
    """The curve for JAX."""
    return params["amplitude"] * jnp.exp(-params["rate"] * x) + params["offset"]


@functools.cache
def drawn(num_sets: int, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y (m, n), both with errors."""
    rng, x = np.random.default_rng(0), np.linspace(0.0, 4.0, num_rows)
    y = 5.0 * np.exp(-1.1 * x) + 0.5
    shape = num_sets, num_rows
    return x + SIGMA_X * rng.normal(size=shape), y + SIGMA * rng.normal(size=shape)


def ours(num_sets: int, num_rows: int) -> Competitor:
    """``jaxreg.curve_fit`` of one data set, ``jaxreg.fit_many`` of many."""
    x, y = drawn(num_sets, num_rows)
    known: dict[str, Any] = {"sigma": SIGMA, "sigma_x": SIGMA_X, "absolute_sigma": True}

    def run() -> jaxreg.Fit:
        if num_sets == 1:
            return jaxreg.curve_fit(decay, x[0], y[0], START, **known)
        return jaxreg.fit_many(decay, x, y, START, residuals=False, progress=False, **known)

    def numbers(fit: jaxreg.Fit) -> tuple[np.ndarray, np.ndarray]:
        jaxreg.raise_if_failed(fit)
        params, stderr = (np.stack([np.ravel(part[name]) for name in START]) for part in (fit.params, fit.stderr))
        return params, stderr

    return Competitor(num_sets, run, numbers)


def _curve(params: np.ndarray, x: np.ndarray) -> np.ndarray:
    return params[0] * np.exp(-params[2] * x) + params[1]


def _by_params(params: np.ndarray, x: np.ndarray) -> np.ndarray:
    shape = np.exp(-params[2] * x)
    return np.stack([shape, np.ones_like(x), -params[0] * x * shape])


def _by_x(params: np.ndarray, x: np.ndarray) -> np.ndarray:
    return -params[0] * params[2] * np.exp(-params[2] * x)


def odr(num_sets: int, num_rows: int) -> Competitor:
    """ODRPACK with exact derivatives and its own tolerances, one fit after another."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            package = importlib.import_module("scipy.odr")
        except ImportError as error:  # SciPy 1.19 is without it
            raise AbsentError("this SciPy has no odr") from error
    x, y = (part[:ODR_FITS] for part in drawn(num_sets, num_rows))

    def run() -> list[Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            model = package.Model(_curve, fjacb=_by_params, fjacd=_by_x)
            fits = [
                package.ODR(package.RealData(*pair, sx=SIGMA_X, sy=SIGMA), model, list(START.values()))
                for pair in zip(x, y, strict=True)
            ]
            for one in fits:
                one.set_job(fit_type=0, deriv=3)  # those that are given, not checked again
            return [one.run() for one in fits]

    def numbers(found: list[Any]) -> tuple[np.ndarray, np.ndarray]:
        params = np.stack([one.beta for one in found], axis=1)
        return params, np.stack([np.sqrt(np.diag(one.cov_beta)) for one in found], axis=1)

    return Competitor(len(x), run, numbers)
