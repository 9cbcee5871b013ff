"""Covariances against statsmodels and closed forms."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg
from jaxreg import covariance
from jaxreg.status import Status

pytestmark = pytest.mark.usefixtures("x64")

GENERATOR = np.random.default_rng(0)
DESIGN = np.c_[np.ones(50), GENERATOR.normal(size=(50, 2))]
Y = DESIGN @ [1.0, 2.0, 3.0] + (0.1 + np.abs(DESIGN[:, 1])) * GENERATOR.normal(size=50)
RESIDUAL = DESIGN @ np.linalg.lstsq(DESIGN, Y)[0] - Y


@pytest.fixture(scope="module")
def estimates() -> dict[str, Any]:
    """All kinds but the Hessian's, of the rows and of twice as many, half of which are not there."""
    there = np.arange(100) < 50
    jacobian = np.where(there, np.tile(DESIGN.T, 2), 0.0)
    slope = np.where(there, np.tile(RESIDUAL, 2), 0.0)

    @jax.jit
    def run(jacobian: Any, slope: Any, counted: Any) -> dict[str, Any]:
        kinds = [kind for kind in covariance.KINDS if kind != "hessian"]
        return {kind: covariance.estimate(kind, jacobian, slope, counted=counted).matrix for kind in kinds}

    with jax.enable_x64(True):
        return run(jacobian, slope, there)


@pytest.mark.parametrize("kind", ["classic", "HC0", "HC1", "HC2", "HC3"])
def test_linear_models_have_the_covariances_of_statsmodels(estimates: dict[str, Any], kind: str) -> None:
    statsmodels = pytest.importorskip("statsmodels.api")
    fit = statsmodels.OLS(Y, DESIGN).fit()
    expected = fit.cov_params() if kind == "classic" else getattr(fit, f"cov_{kind}")
    np.testing.assert_allclose(estimates[kind], expected, rtol=1e-10)


def test_units_do_not_matter() -> None:
    units = np.array([1e-12, 1.0, 1e15])
    run = jax.jit(lambda jacobian: covariance.estimate("HC3", jacobian, jnp.asarray(RESIDUAL)).matrix)
    scaled = np.asarray(run((DESIGN * units).T)) * np.outer(units, units)
    np.testing.assert_allclose(scaled, run(DESIGN.T), rtol=1e-9)


def test_the_combination_that_is_not_determined_is_named() -> None:
    twice = np.stack([DESIGN[:, 0], DESIGN[:, 1], 3 * DESIGN[:, 0]])
    got = jax.jit(partial(covariance.estimate, "classic"))(twice, RESIDUAL)
    assert not got.regular
    assert np.isnan(got.matrix).all()
    np.testing.assert_allclose(got.undetermined, np.array([3, 0, -1]) / np.sqrt(10), atol=1e-12)


# ---- through curve_fit ----

X = np.linspace(0.0, 2.0, 30)
DECAYED = 2 * np.exp(-1.5 * X) + 0.2 * np.random.default_rng(1).normal(size=30)


def decay(params: Any, x: Any) -> Any:
    return params[0] * jnp.exp(-params[1] * x)


def test_the_full_hessian_has_the_models_second_derivatives() -> None:
    fit = jaxreg.curve_fit(decay, X, DECAYED, np.ones(2), covariance="hessian")
    a, k = np.asarray(fit.params)
    decayed = np.exp(-k * X)
    jacobian = np.c_[decayed, -a * X * decayed]
    residual = a * decayed - DECAYED
    cross, twice = residual @ (-X * decayed), residual @ (a * X**2 * decayed)
    hessian = jacobian.T @ jacobian + [[0, cross], [cross, twice]]
    expected = np.linalg.inv(hessian) * (residual @ residual) / 28
    np.testing.assert_allclose(fit.covariance, expected, rtol=1e-9)


def test_a_singular_fit_names_its_combination_and_so_does_the_error() -> None:
    fit = jaxreg.curve_fit(
        lambda p, x: (p["a"] + p["b"]) * jnp.exp(-p["k"] * x), X, DECAYED, {"a": 1.0, "b": 1.0, "k": 1.0}
    )
    assert int(fit.status) == Status.SINGULAR
    np.testing.assert_allclose(np.abs(fit.undetermined), [np.sqrt(0.5), np.sqrt(0.5), 0], atol=1e-9)
    with pytest.raises(RuntimeError, match=r"SINGULAR, not determined: (0\.707 a - 0\.707 b|- 0\.707 a \+ 0\.707 b)$"):
        jaxreg.raise_if_failed(fit)
