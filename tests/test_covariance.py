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


@pytest.mark.parametrize(("kind", "power"), [("classic", 1), ("H1", 2)])
def test_rows_that_are_not_there_have_no_curvature_either(kind: str, power: int) -> None:
    """Huber's two forms, of the first 40 rows; where a fit leaves a row out, its residual is 0 and its ψ' is 1."""
    there, inside = np.arange(50) < 40, np.abs(RESIDUAL) < 0.8
    psi, bend = np.where(there, np.clip(RESIDUAL, -0.8, 0.8), 0), np.where(there, inside, 1).astype(float)
    jacobian = np.where(there, DESIGN.T, 0)
    got = jax.jit(partial(covariance.estimate, kind))(jacobian, psi, bend, counted=there)
    mean, weight = bend[:40].mean(), bend if kind == "classic" else 1
    factor = (1 + 3 / 40 * bend[:40].var() / mean**2) ** power * (psi @ psi) / 37 / mean**power
    np.testing.assert_allclose(got.matrix, factor * np.linalg.inv((jacobian * weight) @ jacobian.T), rtol=1e-9)


def test_units_do_not_matter() -> None:
    units = np.array([1e-12, 1.0, 1e15])
    run = jax.jit(lambda jacobian: covariance.estimate("HC3", jacobian, jnp.asarray(RESIDUAL)).matrix)
    scaled = np.asarray(run((DESIGN * units).T)) * np.outer(units, units)
    np.testing.assert_allclose(scaled, run(DESIGN.T), rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", ["classic", "H1", "HC0", "HC1", "HC2", "HC3"])
def test_units_that_squares_do_not_survive_change_nothing_but_units(kind: str, dtype: Any) -> None:
    powers = {np.float64: (160, 250, 290), np.float32: (21, 25, 30)}[dtype]
    run = jax.jit(lambda jacobian, slope: covariance.estimate(kind, jacobian, slope))
    jacobian, slope = DESIGN.T.astype(dtype), RESIDUAL.astype(dtype)
    expected = run(jacobian, slope)
    np.testing.assert_allclose(expected.stderr**2, np.diagonal(expected.matrix), rtol=1e-5)
    for power in powers:
        for rows, columns in ((power, power), (-power, -power), (0, power), (0, -power), (power, 0), (-power, 0)):
            unit, column = (dtype(10.0**exponent) for exponent in (rows, columns))
            got = run(jacobian * column, slope * unit)
            assert got.regular
            np.testing.assert_allclose(got.stderr * (column / unit), expected.stderr, rtol=100 * np.finfo(dtype).eps)
            assert (np.isfinite if rows == columns else np.isnan)(got.matrix).all()  # never 0, never infinite


@pytest.mark.parametrize("power", [300, -300])
def test_errors_that_leave_the_range_are_infinite_and_never_zero(power: int) -> None:
    got = jax.jit(partial(covariance.estimate, "HC0"))(
        *map(jnp.asarray, (DESIGN.T * 10.0**power, RESIDUAL * 10.0**-power))
    )
    assert np.isinf(got.stderr).all()


@pytest.mark.parametrize("kind", ["HC2", "HC3"])
def test_nothing_is_said_of_what_rests_on_one_row_alone(kind: str) -> None:
    """19 rows at one place and one at another: the slope rests on the last, the value at the first does not."""
    away = np.arange(20) == 19
    run = jax.jit(lambda design, slope: covariance.estimate(kind, design, slope))
    for place in (1.7, 1e4, 0.3001):
        line = np.stack([np.ones(20), np.where(away, place, 0.3)])
        slope = np.where(away, 0.0, RESIDUAL[:20] - RESIDUAL[:19].mean())
        assert np.isnan(run(line, slope).stderr).all()
        apart = np.stack([~away, 3 * away]).astype(float)
        errors = run(apart, slope).stderr
        square = np.sum(slope**2 / (18 / 19) ** (1 if kind == "HC2" else 2))
        np.testing.assert_allclose(errors, [np.sqrt(square) / 19, np.nan], rtol=1e-9)


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


@pytest.mark.parametrize("loss", ["huber", "cauchy", "tukey"])
def test_the_hessian_of_a_robust_fit_holds_its_scale(loss: str) -> None:
    """Central differences of the cost's gradient, the scale being what the fit has found."""
    fit = jaxreg.curve_fit(decay, X, DECAYED, np.ones(2), loss=loss, scale="mad", covariance="hessian")
    assert int(fit.status) == Status.OK
    delta = {"huber": 1.0, "cauchy": 1.0, "tukey": 4.685}[loss] * float(fit.scale)
    psi = {
        "huber": lambda r: np.clip(r, -delta, delta),
        "cauchy": lambda r: r / (1 + (r / delta) ** 2),
        "tukey": lambda r: np.where(abs(r) < delta, r * (1 - (r / delta) ** 2) ** 2, 0),
    }[loss]

    def gradient(params: Any) -> Any:
        decayed = np.exp(-params[1] * X)
        return np.stack([decayed, -params[0] * X * decayed]) @ psi(params[0] * decayed - DECAYED)

    params, step = np.asarray(fit.params), 1e-6 * np.eye(2)
    hessian = np.stack([(gradient(params + one) - gradient(params - one)) / 2e-6 for one in step])
    residual = params[0] * np.exp(-params[1] * X) - DECAYED
    slope = psi(residual)
    curvature = (psi(residual + 1e-7) - psi(residual - 1e-7)) / 2e-7
    mean = curvature.mean()
    variance = (1 + 2 / 30 * curvature.var() / mean**2) * (slope @ slope) / 28 / mean
    np.testing.assert_allclose(fit.covariance, np.linalg.inv(hessian) * variance, rtol=1e-5)


def test_a_parameter_that_is_held_bends_nothing() -> None:
    bending, free = np.diag([5.0, 9.0, 3.0]) + np.full((3, 3), 4.0), np.array([True, False, True])
    got = jax.jit(partial(covariance.estimate, "hessian"))(DESIGN.T, RESIDUAL, bending=bending, free=free).matrix
    hessian = (DESIGN.T @ DESIGN + bending)[np.ix_(free, free)]
    np.testing.assert_allclose(got[::2, ::2], np.linalg.inv(hessian) * (RESIDUAL @ RESIDUAL) / 48, rtol=1e-9)
    assert (got[1] == 0).all()


def test_the_hessian_of_a_line_is_that_of_its_linearisation() -> None:
    def error(kind: str) -> Any:
        line = lambda p, x: p[0] + p[1] * x  # noqa: E731
        fit = jaxreg.curve_fit(line, X, DECAYED, np.array([1.0, -1.0]), loss="huber", scale="mad", covariance=kind)
        assert int(fit.status) == Status.OK
        return fit.stderr

    np.testing.assert_allclose(error("hessian"), error("classic"), rtol=1e-12)


def test_a_singular_fit_names_its_combination_and_so_does_the_error() -> None:
    fit = jaxreg.curve_fit(
        lambda p, x: (p["a"] + p["b"]) * jnp.exp(-p["k"] * x), X, DECAYED, {"a": 1.0, "b": 1.0, "k": 1.0}
    )
    assert int(fit.status) == Status.SINGULAR
    np.testing.assert_allclose(np.abs(fit.undetermined), [np.sqrt(0.5), np.sqrt(0.5), 0], atol=1e-9)
    with pytest.raises(RuntimeError, match=r"SINGULAR, not determined: (0\.707 a - 0\.707 b|- 0\.707 a \+ 0\.707 b)$"):
        jaxreg.raise_if_failed(fit)
