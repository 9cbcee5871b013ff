"""Bounds, fixed parameters, missing points and the covariance of the errors, against SciPy and fits without them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxreg
from jaxreg import models
from jaxreg.status import Status

pytestmark = pytest.mark.usefixtures("x64")

X = np.linspace(0.0, 3.0, 40)
Y = 2 * np.exp(-1.5 * X) + 0.3 + 0.05 * np.random.default_rng(0).normal(size=40)
P0 = {"a": 1.0, "c": 0.0, "k": 1.0}
ORDER = ("a", "c", "k")


def decay(params: Any, x: Any) -> Any:
    return params["a"] * jnp.exp(-params["k"] * x) + params["c"]


def guess(x: Any, y: Any) -> Any:
    del x, y
    return {"a": jnp.array(1.0), "c": jnp.array(0.0), "k": jnp.array(1.0)}


MODEL = models.Model(lambda key: guess(key, key), decay, guess)


def flat(params: Any) -> np.ndarray:
    return np.array(jax.tree.leaves(params))


def fit(y: Any = Y, p0: Any = P0, **options: Any) -> jaxreg.Fit:
    return jaxreg.curve_fit(MODEL, X, y, p0, **options)


def scipy_curve(x: Any, a: float, c: float, k: float) -> Any:
    return a * np.exp(-k * x) + c


def scipy_slope(x: Any, a: float, c: float, k: float) -> Any:
    del c
    return np.stack([np.exp(-k * x), np.ones_like(x), -x * a * np.exp(-k * x)], axis=1)


TIGHT: dict[str, Any] = {"jac": scipy_slope, "ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15}


# ---- bounds ----

BOUNDS = {
    "inactive": (-10.0, 10.0),
    "k at its upper": ({"a": 0.0, "c": -1.0, "k": 0.0}, {"a": 5.0, "c": 1.0, "k": 1.2}),
    "c at its lower": ({"a": 0.0, "c": 0.4, "k": 0.0}, {"a": np.inf, "c": 2.0, "k": np.inf}),
    "a and c at bounds": ({"a": -np.inf, "c": 0.35, "k": 0.0}, {"a": 1.7, "c": 2.0, "k": np.inf}),
}


@pytest.mark.parametrize("bounds", BOUNDS.values(), ids=BOUNDS.keys())
def test_bounded_params_equal_those_of_scipy(bounds: Any) -> None:
    lower, upper = (np.full(3, bound) if np.isscalar(bound) else flat(bound) for bound in bounds)
    p0 = np.clip(flat(P0), lower, upper)
    expected = scipy.optimize.least_squares(
        lambda p: scipy_curve(X, *p) - Y,
        p0,
        jac=lambda p: scipy_slope(X, *p),
        bounds=(lower, upper),
        x_scale="jac",
        ftol=1e-15,
        xtol=1e-15,
        gtol=1e-15,
    )
    got = fit(p0=dict(zip(ORDER, p0, strict=True)), bounds=bounds)
    assert int(got.status) == Status.OK
    # SciPy's interior method stops at a distance to the bounds.
    np.testing.assert_allclose(flat(got.params), expected.x, rtol=1e-6)
    np.testing.assert_array_equal(flat(got.at_bound), (flat(got.params) == lower) | (flat(got.params) == upper))
    np.testing.assert_array_equal(flat(got.at_bound), expected.active_mask != 0)


def test_a_parameter_at_a_bound_leaves_the_covariance_to_the_others() -> None:
    bounded = fit(bounds=BOUNDS["k at its upper"])
    assert (flat(bounded.at_bound).tolist(), int(bounded.dof)) == ([False, False, True], 38)
    line = np.c_[np.exp(-1.2 * X), np.ones(40)]  # what is left is linear
    _, chi2, *_ = np.linalg.lstsq(line, Y)
    np.testing.assert_allclose(bounded.covariance[:2, :2], chi2 / 38 * np.linalg.inv(line.T @ line), rtol=1e-8)
    assert np.isnan(bounded.covariance[2]).all()
    assert np.isnan(bounded.stderr["k"])


def misfit(params: Any, x: Any) -> Any:
    return params[0] * jnp.exp(-params[1] * x) + params[2] + params[3] * x


def test_a_bound_that_makes_the_residuals_large_still_lets_it_end() -> None:
    # Half the curvature of chi2 is in what Gauss-Newton leaves out, so that undamped steps swing past the optimum.
    y = 2.0 * np.exp(-2.5 * X) - 0.9 + 0.3 * X
    got = jaxreg.curve_fit(
        misfit, X, y, np.array([1.0, 1.0, 0.0, 0.9]), bounds=([-9.0, -9.0, -9.0, 0.8], [1.2, 2.8, 9.0, 2.0])
    )
    assert int(got.status) == Status.OK
    assert int(got.num_steps) < 60


def test_a_guess_is_moved_into_the_box() -> None:
    got = fit(p0=None, bounds=({"a": 0.0, "c": 0.4, "k": 0.0}, {"a": np.inf, "c": 2.0, "k": np.inf}))
    assert (int(got.status), float(got.params["c"])) == (Status.OK, 0.4)


# ---- fixed parameters ----


@pytest.fixture(scope="module")
def fixed() -> Callable[..., Any]:
    """The rate, its derivative by the value at which c is fixed, and the fit."""

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def run(value: Any) -> Any:
        choice = {"a": False, "c": True, "k": False}
        got = fit(p0={**P0, "c": value}, fixed=choice, sigma=0.05, absolute_sigma=True)
        return got.params["k"], got

    return run


def test_a_fixed_parameter_keeps_its_start_and_has_no_error(fixed: Callable[..., Any]) -> None:
    (_, got), _ = fixed(0.25)
    params, covariance = scipy.optimize.curve_fit(
        lambda x, a, k: a * np.exp(-k * x) + 0.25, X, Y, (1, 1), sigma=np.full(40, 0.05), absolute_sigma=True
    )
    # SciPy differences its Jacobian.
    np.testing.assert_allclose(flat(got.params), [params[0], 0.25, params[1]], rtol=1e-6)
    np.testing.assert_allclose(got.covariance[np.ix_([0, 2], [0, 2])], covariance, rtol=1e-5)
    np.testing.assert_array_equal(got.covariance[1], np.zeros(3))
    assert (float(got.stderr["c"]), int(got.dof)) == (0, 38)


def test_the_derivative_by_a_fixed_value_equals_central_differences(fixed: Callable[..., Any]) -> None:
    expected = (fixed(0.25 + 1e-5)[0][0] - fixed(0.25 - 1e-5)[0][0]) / 2e-5
    np.testing.assert_allclose(fixed(0.25)[1], expected, rtol=1e-6)  # stops at 1e-10


# ---- missing points, and the errors' covariance ----


def test_masked_points_take_no_part_even_if_they_are_nan() -> None:
    there = np.ones(40, bool)
    there[[0, 7, 33]] = False
    holes = np.where(there, Y, np.nan)
    x = np.where(there, X, np.nan)
    got = jaxreg.curve_fit(MODEL, x, holes, P0, mask=there, sigma=np.where(there, 0.05, 0.0))
    params, covariance = scipy.optimize.curve_fit(scipy_curve, X[there], Y[there], (1, 0, 1), **TIGHT)
    np.testing.assert_allclose(flat(got.params), params, rtol=1e-8)
    np.testing.assert_allclose(got.covariance, covariance, rtol=1e-6)
    assert int(got.dof) == 34
    np.testing.assert_array_equal(np.isnan(got.residuals), ~there)


@pytest.fixture(scope="module")
def traced() -> Callable[..., Any]:
    @jax.jit
    def run(p0: Any, lower: Any, upper: Any, mask: Any, sigma: Any) -> Any:
        return fit(p0=p0, bounds=(lower, upper), mask=mask, sigma=sigma)

    return run


# Correlated neighbours.
ERRORS = 0.05**2 * 0.6 ** np.abs(np.subtract.outer(np.arange(40), np.arange(40)))
FINE: dict[str, Any] = {"p0": P0, "lower": -9.0, "upper": 9.0, "mask": np.ones(40, bool), "sigma": ERRORS}


@pytest.mark.parametrize("there", [np.ones(40, bool), np.arange(40) % 5 != 2], ids=["all", "some"])
def test_correlated_errors_of_the_points_that_are_there_equal_those_of_scipy(
    traced: Callable[..., Any], there: np.ndarray
) -> None:
    got = traced(**(FINE | {"sigma": np.where(there[:, None] & there, ERRORS, np.nan), "mask": there}))
    params, covariance = scipy.optimize.curve_fit(
        scipy_curve, X[there], Y[there], (1, 0, 1), sigma=ERRORS[np.ix_(there, there)], **TIGHT
    )
    assert int(got.status) == Status.OK
    np.testing.assert_allclose(flat(got.params), params, rtol=1e-8)
    np.testing.assert_allclose(got.covariance, covariance, rtol=1e-6)


def test_params_and_covariance_equal_those_of_scipy_on_random_problems() -> None:
    generator = np.random.default_rng(1)
    truths = generator.uniform([1, -1, 0.5], [3, 1, 3], (20, 3))
    y = scipy_curve(X[None], *truths.T[..., None]) + 0.05 * generator.normal(size=(20, 40))
    sigma = generator.uniform(0.5, 2.0, (20, 40))
    for k in range(20):
        got = fit(y[k], sigma=sigma[k])
        assert int(got.status) == Status.OK
        params, covariance = scipy.optimize.curve_fit(scipy_curve, X, y[k], (1, 0, 1), sigma=sigma[k], **TIGHT)
        # SciPy stops up to 1e-8 from the optimum, on which processor it is; jaxreg 4e-12 (Newton in long doubles).
        np.testing.assert_allclose([got.params[name] for name in ORDER], params, rtol=1e-7)
        np.testing.assert_allclose(got.covariance, covariance, rtol=1e-6)


def test_a_model_written_as_scipys_fits_the_same() -> None:
    calls = []

    def curve(x: Any, a: Any, c: Any, k: Any) -> Any:
        calls.append(1)
        return a * jnp.exp(-k * x) + c

    got = jaxreg.curve_fit(models.positional(curve), X, Y, (1.0, 0.0, 1.0))
    params, _ = scipy.optimize.curve_fit(scipy_curve, X, Y, (1, 0, 1), **TIGHT)
    np.testing.assert_allclose(got.params, params, rtol=1e-8)
    traced = len(calls)
    jaxreg.curve_fit(models.positional(curve), X, Y + 1, (1.0, 0.0, 1.0))
    assert len(calls) == traced  # another adapter of the same function is the same program


# ---- what only a trace finds ----


INVALID = {
    "bounds crossed": {"lower": 9.0, "upper": -9.0},
    "start outside": {"lower": 0.5},
    "too few points": {"mask": np.arange(40) < 2},
    "an indefinite covariance": {"sigma": -ERRORS},
}


@pytest.mark.parametrize("change", [{}, *INVALID.values()], ids=["fine", *INVALID.keys()])
def test_values_out_of_range_are_invalid_under_a_trace(traced: Callable[..., Any], change: dict[str, Any]) -> None:
    got = traced(**(FINE | change))
    assert int(got.status) == (Status.INVALID_INPUT if change else Status.OK)
    assert np.isnan(flat(got.stderr)).all() == bool(change)


def test_bounds_by_name_are_those_of_a_pair():
    x = np.arange(5.0)
    model, start = models.expression("a + b*x"), {"a": 1.0, "b": 1.0}
    by_name = jaxreg.problem(model, x, x, start, bounds={"b": (0.0, 5.0)})
    pair = jaxreg.problem(model, x, x, start, bounds=({"b": 0.0}, {"b": 5.0}))
    jax.tree.map(np.testing.assert_array_equal, by_name.bounds, pair.bounds)
    many = jaxreg.fit_many(model, x, np.stack([x, -x]), start, bounds={"b": (0.0, 5.0)})
    np.testing.assert_allclose(many.params["b"], [1.0, 0.0], atol=1e-6)


# ---- bad arguments ----

BAD_ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "bounds crossed": ({"bounds": (1.0, -1.0)}, r"bounds\['a'\] must be in order, lower ≤ upper = -1.0, got 1.0"),
    "start outside": ({"bounds": (0.5, 9.0)}, r"p0\['c'\] must be between its bounds 0.5 and 9.0, got 0.0"),
    "NaN bound": ({"bounds": (np.nan, 1.0)}, r"bounds\['a'\] must be in order, .*got nan"),
    "half of a name's": ({"bounds": {"a": 1.0}}, r"bounds must have a pair \(lower, upper\) for 'a', got 1.0"),
    "one bound": ({"bounds": 1.0}, r"bounds must be a pair \(lower, upper\), got 1.0"),
    "bounds of others": (
        {"bounds": ({"rate": 0.0}, {"rate": 1.0})},
        "bounds must name parameters, of 'a', 'c', 'k', got 'rate'",
    ),
    "bounds of no shape": ({"bounds": ([0.0, [0.0, 0.0]], 1.0)}, "bounds must be one array, got a list that is none"),
    "bounds too long": ({"bounds": ([0.0, 0.0], 1.0)}, "bounds must be one number or shaped like p0"),
    "bounds of another shape": (
        {"p0": {"v": np.ones(2)}, "bounds": ({"v": np.zeros(3)}, 9.0), "model": lambda p, x: p["v"].sum() * x},
        r"bounds\['v'\] must be one for all or have shape \(2,\), got shape \(3,\)",
    ),
    "fixed numbers": (
        {"fixed": {"a": 0.0, "c": 0.0, "k": 1.0}},
        "fixed must be of booleans, got float64: {'name': True} keeps a",
    ),
    "all fixed": ({"fixed": True}, "fixed must leave at least one parameter free, got none"),
    "fixed without start": (
        {"p0": None, "fixed": True},
        "p0 must be given where parameters are fixed",
    ),
    "mask of floats": ({"mask": np.ones(40)}, "mask must be of booleans, .*got float64"),
    "a short mask": ({"mask": np.ones(3, bool)}, r"mask must have shape \(40,\), got \(3,\)"),
    "too few there": (
        {"mask": np.arange(40) < 2},
        "y must have at least as many points as there are parameters, 3, got 2",
    ),
    "sigma (n, 2)": (
        {"sigma": np.ones((40, 2))},
        r"sigma must .* have y's shape \(40,\), or be a covariance of shape \(40, 40\), got shape \(40, 2\)",
    ),
    "an indefinite covariance": ({"sigma": np.ones((40, 40))}, "sigma must be symmetric and positive definite"),
    "an asymmetric covariance": ({"sigma": np.triu(np.ones((40, 40)))}, "sigma must be symmetric"),
    "unknown covariance": ({"covariance": "HC4"}, "covariance must be one of 'classic', 'H1', .*got 'HC4'"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS.keys())
def test_a_bad_argument_is_named_with_what_was_wanted_and_got(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        jaxreg.curve_fit(**({"model": MODEL, "x": X, "y": Y, "p0": P0} | arguments))


def test_a_traced_choice_of_fixed_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="fixed chooses the program, so it cannot be a traced value"):
        jax.jit(lambda fixed: fit(fixed=fixed))(True)
