"""Where a model's derivative jumps, or is not there: kinks at the optimum, poles at a row."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxreg
from jaxreg import Status, uncertainty

pytestmark = pytest.mark.usefixtures("x64")

# Points of a public question on piecewise fits; SciPy's errors at the optimum, c = x[11].
POINTS = """
7228 .874   7620 .893   7730 .8905  7901 .8916  8139 .9095  8370 .9142  8448 .9109  8737 .9185  8824 .9169  9089 .9251
9233 .9290  9321 .9304  9509 .9467  9568 .9378  9642 .9464  9756 .9508  9915 .9583  10601 .9857  10942 .9975
"""
X, Y = np.array(POINTS.split(), float).reshape(-1, 2).T
ERRORS = {"c": 213.7, "y0": 0.0074, "k1": 0.197e-5, "k2": 0.266e-5}


def broken(params: Any, x: Any) -> Any:
    """Written in two ways, chosen by a second column, so that every program is compiled once for both."""
    (x, hinged), c = x.T, params["c"]
    cases = jnp.where(x < c, params["k1"] * (x - c), params["k2"] * (x - c))
    hinges = params["k1"] * jnp.minimum(x - c, 0) + params["k2"] * jnp.maximum(x - c, 0)
    return params["y0"] + jnp.where(hinged == 1, hinges, cases)


CASES = np.stack([X, np.zeros(19)], axis=1)
START = {"c": 9000.0, "y0": 0.92, "k1": 1e-5, "k2": 1e-5}


@pytest.fixture(scope="module")
def kinked() -> Any:
    with jax.enable_x64(True):
        return jaxreg.curve_fit(broken, CASES, Y, START)


def fit_all(x: np.ndarray, y: np.ndarray, starts: Any) -> Any:
    """Each with its own start and the same points, given for each."""
    starts = {name: np.broadcast_to(value, len(y)) for name, value in starts.items()}
    return jaxreg.fit_many(broken, np.tile(x, (len(y), 1, 1)), y, starts, p0_each=True)


def test_the_break_of_a_line_on_a_point_is_a_kink_from_any_start(kinked: Any) -> None:
    fits = fit_all(CASES, np.tile(Y, (24, 1)), START | {"c": np.arange(7700.0, 10001.0, 100.0)})
    for fit in (kinked, fits):
        assert (np.asarray(fit.status) == Status.KINK).all()
        assert (np.asarray(fit.num_steps) < 500).all()
        np.testing.assert_allclose(fit.params["c"], 9321.0, rtol=1e-9)
        np.testing.assert_allclose(fit.params["k1"], 2.582e-5, rtol=1e-3)
        np.testing.assert_allclose(fit.params["k2"], 4.054e-5, rtol=1e-3)
        np.testing.assert_allclose(fit.chi2, 2.3928e-4, rtol=1e-4)
        for name, error in ERRORS.items():
            np.testing.assert_allclose(fit.stderr[name], error, rtol=0.01)


def test_a_kink_is_named_unless_it_is_allowed(kinked: Any) -> None:
    with pytest.raises(RuntimeError, match="the fit failed: KINK"):
        jaxreg.raise_if_failed(kinked)
    jaxreg.raise_if_failed(kinked, allowed=(Status.KINK,))
    assert "KINK: converged to a kink, where the model's derivative jumps" in jaxreg.summary(kinked)


def residual_square(c: float, x: np.ndarray, y: np.ndarray) -> float:
    """The least χ² with the break held: a linear problem."""
    columns = np.stack([np.ones_like(x), np.minimum(x - c, 0), np.maximum(x - c, 0)], axis=1)
    solution = np.linalg.lstsq(columns, y, rcond=None)[0]
    return float(np.sum((columns @ solution - y) ** 2))


def test_hinges_end_at_optima_of_either_kind() -> None:
    x = np.linspace(0, 1, 19)
    truth = np.where(x < 0.5, 0.5 + x, 3 * x - 0.5)
    y = np.stack([truth + 0.1 * np.random.default_rng(seed).standard_normal(19) for seed in range(200)])
    fits = fit_all(np.stack([x, np.ones(19)], axis=1), y, {"y0": 1.0, "k1": 1.0, "k2": 3.0, "c": 0.47})
    kinks = fits.status == Status.KINK
    assert (kinks | (fits.status == Status.OK)).all()
    assert 20 < kinks.sum() < 80
    assert (fits.num_steps < 500).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fits.stderr))
    place = 18 * fits.params["c"][kinks]
    np.testing.assert_allclose(place, place.round(), atol=1e-6)
    for c, chi2, row in zip(fits.params["c"], fits.chi2, y, strict=True):
        near = min(residual_square(c + step, x, row) for step in (-1e-4, -1e-6, 0.0, 1e-6, 1e-4))
        assert chi2 < near * (1 + 1e-9)


def test_a_kink_goes_through_jit_and_a_lane(kinked: Any) -> None:
    def fitted(y: Any) -> Any:
        fit = jaxreg.curve_fit(broken, CASES, y, START)
        return fit.params["k1"], fit

    (_, both), slope = jax.jit(jax.vmap(jax.value_and_grad(fitted, has_aux=True)))(jnp.stack([Y, Y]))
    assert both.status.tolist() == [Status.KINK, Status.KINK]
    np.testing.assert_allclose(both.params["c"], kinked.params["c"], rtol=1e-9)
    assert np.isnan(slope).all()  # no number rather than a wrong one


def either_way(params: Any, x: Any) -> Any:
    return params[0] * jnp.exp(-jnp.abs(params[1]) * x)


def test_steps_to_and_fro_across_a_kink_end_at_it() -> None:
    """A decay by |b| through noise about a level: where the data want growth, the best is the mean, at b = 0."""
    random, x = np.random.default_rng(1), np.linspace(0, 10, 21)
    many, starts = 1 + 0.5 * random.standard_normal((60, 21)), np.exp(random.standard_normal((2, 60)))
    fits = [
        jaxreg.curve_fit(either_way, x, y, np.array([a, 0.01 * b]))
        for y, a, b in zip(many[20:30], *starts[:, 20:30], strict=True)
    ]
    kinks = [row for row, fit in enumerate(fits) if int(fit.status) == Status.KINK]
    assert {int(fit.status) for fit in fits} == {Status.OK, Status.KINK}
    for row in kinks:
        y = many[20 + row]
        np.testing.assert_allclose(fits[row].chi2, np.sum((y - y.mean()) ** 2), rtol=1e-9)


def test_refits_take_a_kink_for_an_optimum(kinked: Any) -> None:
    found = uncertainty.bootstrap(jax.random.key(0), kinked, num=20, kind="residual")
    assert set(found.status.tolist()) <= {Status.OK, Status.KINK}
    assert int(found.num_failed) == 0
    ends = uncertainty.profile_intervals(kinked, level=0.5)
    assert int(ends.status["k1"]) in (Status.OK, Status.KINK)
    assert float(ends.lower["k1"]) < float(kinked.params["k1"]) < float(ends.upper["k1"])


def root(params: Any, x: Any) -> Any:
    return jnp.sqrt(params["a"] * x)


def onset(params: Any, x: Any) -> Any:
    return params["a"] * jnp.sqrt(jnp.maximum(x - params["c"], 0))


def both_ways(model: Any, x: np.ndarray, y: np.ndarray, start: Any) -> Any:
    yield jaxreg.curve_fit(model, x, y, start)
    yield jax.jit(lambda y: jaxreg.curve_fit(model, x, y, start))(y)
    there = np.ones((1, len(y)), bool)
    yield jaxreg.fit_many(model, x, y[None], start, mask=there)[0]


def test_a_derivative_of_zero_times_infinity_is_its_limit() -> None:
    x = np.linspace(0, 4, 30)
    y = 2 * np.sqrt(x) * (1 + 0.01 * np.random.default_rng(0).standard_normal(30))
    for fit in both_ways(root, x, y, {"a": 1.0}):
        assert int(fit.status) == Status.OK
        # With b = √a the model is linear: b = Σ y√x/Σx.
        b = np.sum(y * np.sqrt(x)) / np.sum(x)
        np.testing.assert_allclose(fit.params["a"], b**2, rtol=1e-9)
        error = np.sqrt(np.sum((y - b * np.sqrt(x)) ** 2) / 29 / np.sum(x))
        np.testing.assert_allclose(fit.stderr["a"], 2 * b * error, rtol=1e-6)


def test_rows_before_an_onset_have_no_slope() -> None:
    x = np.linspace(0, 4, 30)
    y = 3 * np.sqrt(np.maximum(x - 1, 0)) + 0.02 * np.random.default_rng(1).standard_normal(30)
    fit = jaxreg.curve_fit(onset, x, y, {"a": 1.0, "c": 0.5})
    assert int(fit.status) == Status.OK
    after = x > float(fit.params["c"])
    # Of the rows after the onset alone it is the same optimum.
    start = [float(fit.params["a"]), float(fit.params["c"])]
    alone, _ = scipy.optimize.curve_fit(lambda x, a, c: a * np.sqrt(x - c), x[after], y[after], start)
    np.testing.assert_allclose(start, alone, rtol=1e-5)


def delayed(params: Any, x: Any) -> Any:
    return params["a"] * jnp.sqrt(x - params["c"])


def delayed_inside(params: Any, x: Any) -> Any:
    return jnp.sqrt(params["a"] * (x - params["c"]))


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"y": 3}, "y is not finite at row 3"),
        ({"x": 5}, "x is not finite at row 5"),
        ({"a": np.inf}, "the start of a is not finite"),
        ({"a": -1.0}, "the model's value at the start is not finite at row 1"),
        ({"c": 0.0}, "the model's derivative by c is not finite at row 0, nor has it a limit there"),
        ({"a": 1e200}, "the sum of their squares is not finite"),
    ],
)
def test_what_is_not_finite_is_named(change: dict[str, Any], wanted: str) -> None:
    x, y, start = np.linspace(0, 4, 30), np.linspace(0, 4, 30), {"a": 1.0, "c": -1.0}
    for name, value in change.items():
        if name in start:
            start[name] = value
        else:
            {"x": x, "y": y}[name][value] = np.nan
    if change.get("a") == -1.0:
        start["c"] = 0.0
    fit = jaxreg.curve_fit(delayed_inside if change.get("a") == -1.0 else delayed, x, y, start)
    assert int(fit.status) == Status.NONFINITE
    assert wanted in jaxreg.summary(fit)
    with pytest.raises(RuntimeError, match=wanted):
        jaxreg.raise_if_failed(fit)


def test_a_masked_row_is_not_named_and_of_many_each_has_its_own() -> None:
    x = np.linspace(0.5, 4, 30)
    y = np.stack([2 * np.sqrt(x)] * 3)
    y[1, 7], y[2, 4] = np.nan, np.inf
    mask = np.ones(y.shape, bool)
    mask[1, 7] = False
    fits = jaxreg.fit_many(root, x, y, {"a": 1.0}, mask=mask)
    assert fits.status.tolist() == [Status.OK, Status.OK, Status.NONFINITE]
    with pytest.raises(RuntimeError, match=r"\[2\] NONFINITE, y is not finite at row 4"):
        jaxreg.raise_if_failed(fits)


def decay(params: Any, x: Any) -> Any:
    return params["a"] * jnp.exp(-params["b"] * x)


def test_a_huge_chi2_is_no_failure() -> None:
    x = np.linspace(0, 590, 30)
    y = 1e160 * np.exp(-0.01 * x) * (1 + 0.1 * np.random.default_rng(0).standard_normal(30))
    fit = jaxreg.curve_fit(decay, x, y, {"a": 1e160, "b": 0.01})
    assert int(fit.status) == Status.OK
    assert np.isinf(fit.chi2)
    assert np.isfinite(fit.stderr["a"])
    assert fit.without_data().with_problem(fit.problem).problem is fit.problem
