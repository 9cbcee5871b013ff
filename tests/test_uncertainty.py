"""Intervals, bands, profiles, bootstrap and nonlinearity against closed forms, SciPy, lmfit and published numbers."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

import jaxreg
from jaxreg import models, uncertainty
from jaxreg.status import Status

DOUBLE = pytest.mark.usefixtures("x64")

# Velocity of an enzymatic reaction against substrate concentration, treated with puromycin: M. A. Treloar (1974), as in
# D. M. Bates and D. G. Watts, Nonlinear Regression Analysis and Its Applications (1988), table A1.3.
CONCENTRATION = np.array([0.02, 0.02, 0.06, 0.06, 0.11, 0.11, 0.22, 0.22, 0.56, 0.56, 1.10, 1.10])
VELOCITY = np.array([76.0, 47, 97, 107, 123, 139, 159, 152, 191, 201, 207, 200])

# A line through noise, with its own standard deviations.
X = np.linspace(0.5, 3.5, 12)
SIGMA = np.linspace(0.5, 1.5, 12)
Y = 1.0 + 2.0 * X + SIGMA * np.random.default_rng(0).normal(size=12)
DESIGN = np.stack([np.ones(12), X], axis=1)

# Both models in one, chosen by a second column, so that every program is compiled once for both.
MODEL = models.expression("s*(a + b*x) + (1 - s)*a*x/(b + x)", independent=("x", "s"))
ONE = np.ones(12)
REACTION: dict[str, Any] = {"x": np.stack([CONCENTRATION, 0 * ONE], axis=1), "y": VELOCITY, "sigma": ONE}
REACTION["p0"] = {"a": 200.0, "b": 0.1}
LINE: dict[str, Any] = {"x": np.stack([X, ONE], axis=1), "y": Y, "sigma": SIGMA, "p0": {"a": 1.0, "b": 1.0}}


@pytest.fixture(scope="module")
def puromycin() -> jaxreg.Fit:
    with jax.enable_x64(True):
        return jaxreg.curve_fit(MODEL, **REACTION)


@pytest.fixture(scope="module")
def line() -> jaxreg.Fit:
    with jax.enable_x64(True):
        return jaxreg.curve_fit(MODEL, **LINE)


def weighted_line() -> tuple[np.ndarray, np.ndarray, float]:
    """Estimate, (XᵀWX)⁻¹ and s² by the normal equations."""
    weight = SIGMA**-2
    inverse = np.linalg.inv(DESIGN.T @ (weight[:, None] * DESIGN))
    estimate = inverse @ DESIGN.T @ (weight * Y)
    return estimate, inverse, float(np.sum(weight * (Y - DESIGN @ estimate) ** 2) / 10)


# ---- intervals and bands ----


@DOUBLE
def test_intervals_of_a_line(line: jaxreg.Fit) -> None:
    estimate, inverse, variance = weighted_line()
    half = scipy.stats.t.ppf(0.975, 10) * np.sqrt(variance * np.diagonal(inverse))
    low, high = uncertainty.intervals(line)
    np.testing.assert_allclose([low["a"], low["b"]], estimate - half, rtol=1e-9)
    np.testing.assert_allclose([high["a"], high["b"]], estimate + half, rtol=1e-9)
    low, _ = uncertainty.intervals(line, level=0.6827, distribution="normal")
    np.testing.assert_allclose(low["a"], line.params["a"] - line.stderr["a"], rtol=1e-4)


def test_intervals_of_many_fits_with_parameters_of_any_shape(line: jaxreg.Fit) -> None:
    fit = line.replace(params={"w": jnp.array([1.0, 2.0]), "b": jnp.array(3.0)})
    fit = fit.replace(stderr={"w": jnp.array([0.1, 0.2]), "b": jnp.array(0.3)}, dof=jnp.int32(4))
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf, leaf]), fit).replace(dof=jnp.array([4, 4, 0]))
    low, high = uncertainty.intervals(many)
    half = scipy.stats.t.ppf(0.975, 4) * np.array([0.1, 0.2])
    np.testing.assert_allclose(high["w"], [1 + half[0], 2 + half[1]] * np.array([[1], [1], [np.nan]]), rtol=1e-5)
    np.testing.assert_allclose(low["b"], [3 - 3 * half[0], 3 - 3 * half[0], np.nan], rtol=1e-5)


@DOUBLE
@pytest.mark.parametrize("absolute", [False, True])
def test_bands_of_a_line(absolute: bool) -> None:
    estimate, inverse, variance = weighted_line()
    scale = 1.0 if absolute else variance
    fit = jaxreg.curve_fit(MODEL, **LINE, absolute_sigma=absolute)
    grid = np.array([-2.0, 0.0, 5.0])
    rows = np.stack([np.ones(3), grid], axis=1)
    mean = scale * np.einsum("ki,ij,kj->k", rows, inverse, rows)
    quantile = scipy.stats.norm.ppf(0.95) if absolute else scipy.stats.t.ppf(0.95, 10)
    for sigma, added in ((None, 0.0), (0.7, scale * 0.7**2)):
        kind = "confidence" if sigma is None else "prediction"
        band = uncertainty.band(fit, np.stack([grid, np.ones(3)], axis=1), kind=kind, sigma=sigma, level=0.9)
        np.testing.assert_allclose(band.prediction, rows @ estimate, rtol=1e-9)
        np.testing.assert_allclose(band.upper, rows @ estimate + quantile * np.sqrt(mean + added), rtol=1e-9)
        np.testing.assert_allclose(band.upper - band.prediction, band.prediction - band.lower, rtol=1e-9)


@DOUBLE
def test_a_prediction_band_after_a_robust_fit_is_for_points_that_are_no_outliers() -> None:
    """New points of normal noise: 95 % within, though a tenth of the fitted ones are ten standard deviations off."""
    generator = np.random.default_rng(0)
    x = np.linspace(-1.0, 1.0, 400)
    y = 1 + 2 * x + generator.standard_normal(400) + 10 * (generator.random(400) < 0.1)
    fit = jaxreg.curve_fit(models.linear(1), x[:, None], y, loss="huber", scale="mad")
    found = uncertainty.band(fit, x[:, None], kind="prediction")
    new = 1 + 2 * x + generator.standard_normal((50, 400))
    held = np.mean((np.asarray(found.lower) <= new) & (new <= np.asarray(found.upper)))
    assert 0.94 <= held <= 0.98  # 0.997 and more by the mean square of all residuals


@DOUBLE
def test_a_parameter_at_a_bound_counts_as_known_in_the_band(line: jaxreg.Fit) -> None:
    covariance = jnp.array([[jnp.nan, jnp.nan], [jnp.nan, 0.04]])
    fit = line.replace(covariance=covariance, at_bound={"a": jnp.array(True), "b": jnp.array(False)})
    band = uncertainty.band(fit, np.array([[0.0, 1.0], [3.0, 1.0], [-5.0, 1.0]]))
    np.testing.assert_allclose(band.stderr, [0, 0.6, 1.0], rtol=1e-12)


# ---- profiles ----


@DOUBLE
def test_profiles_of_a_line_are_straight(line: jaxreg.Fit) -> None:
    found = uncertainty.profile(line, num=5, reach=2.0)
    for name in ("a", "b"):
        np.testing.assert_allclose(found.tau[name], [-2, -1, 0, 1, 2], rtol=1e-7, atol=1e-7)
        np.testing.assert_allclose(found.values[name][0], line.params[name] - 2 * line.stderr[name], rtol=1e-12)
    # Held at a, the best b moves by cov(a, b)/var(a) for each unit of a.
    trace = found.params["a"][:, 1] - line.params["b"]
    slope = line.covariance[0, 1] / line.covariance[0, 0]
    np.testing.assert_allclose(trace, slope * (found.values["a"] - line.params["a"]), rtol=1e-6, atol=1e-9)
    assert (np.concatenate(list(found.status.values())) == Status.OK).all()


@DOUBLE
def test_profile_intervals_of_a_line_are_those_of_the_covariance(line: jaxreg.Fit) -> None:
    found = uncertainty.profile_intervals(line)
    low, high = uncertainty.intervals(line)
    for name in ("a", "b"):
        np.testing.assert_allclose([found.lower[name], found.upper[name]], [low[name], high[name]], rtol=1e-7)
        assert found.discrepancy[name] < 1e-7


def refitted_chi2(parameter: str, value: float) -> float:
    """χ² of Michaelis and Menten's law with V = a or K = b held, by SciPy."""

    def chi2(other: float) -> float:
        v, k = (value, other) if parameter == "a" else (other, value)
        return float(np.sum((VELOCITY - v * CONCENTRATION / (k + CONCENTRATION)) ** 2))

    bracket = (0.05, 0.08) if parameter == "a" else (200.0, 220.0)
    return scipy.optimize.minimize_scalar(chi2, bracket=bracket, tol=1e-12).fun


@DOUBLE
def test_profile_intervals_are_where_scipys_refits_reach_the_level(puromycin: jaxreg.Fit) -> None:
    found = uncertainty.profile_intervals(puromycin)
    chi2 = float(puromycin.chi2)
    target = chi2 + scipy.stats.t.ppf(0.975, 10) ** 2 * chi2 / 10
    for name in ("a", "b"):
        for end in (found.lower[name], found.upper[name]):
            assert refitted_chi2(name, float(end)) == pytest.approx(target, rel=1e-7)
        half = scipy.stats.t.ppf(0.975, 10) * puromycin.stderr[name]
        sides = (
            np.array([puromycin.params[name] - found.lower[name], found.upper[name] - puromycin.params[name]]) / half
        )
        np.testing.assert_allclose(found.discrepancy[name], np.abs(sides - 1).max(), rtol=1e-6)
    # lmfit 1.3.4, conf_interval(sigmas=[0.95]) of the same fit.
    ends = [found.lower["a"], found.upper["a"], found.lower["b"], found.upper["b"]]
    np.testing.assert_allclose(ends, [197.301933, 229.289056, 0.046920342, 0.086156913], rtol=3e-8)


@DOUBLE
@pytest.mark.parametrize(
    ("distribution", "square"), [("t", 2 * scipy.stats.f.ppf(0.95, 2, 10)), ("normal", scipy.stats.chi2.ppf(0.95, 2))]
)
def test_chi2_along_a_contour_is_its_level(puromycin: jaxreg.Fit, distribution: str, square: float) -> None:
    edge = uncertainty.profile_contour(puromycin, ("b", "a"), distribution=distribution, num=8)
    k, v = np.asarray(edge.points).T
    curves = v[:, None] * CONCENTRATION / (k[:, None] + CONCENTRATION)
    chi2, best = np.sum((VELOCITY - curves) ** 2, axis=1), float(puromycin.chi2)
    np.testing.assert_allclose(chi2, best + square * best / 10, rtol=1e-7)


@DOUBLE
def test_profiles_with_three_parameters_bounds_a_fixed_one_and_missing_points() -> None:
    model = models.expression("a*exp(-b*x) + c")
    x = jnp.linspace(0.0, 2.0, 11)
    y = 2 * jnp.exp(-1.5 * x) + 0.1 * jnp.cos(7 * x)
    y, mask = y.at[3].set(jnp.nan), jnp.ones(11, bool).at[3].set(False)
    start = {"a": 1.0, "b": 1.0, "c": 0.0}
    bounds = ({"a": 0.0, "b": 0.0, "c": -1.0}, {"a": 2.2, "b": jnp.inf, "c": 1.0})
    fixed = {"a": False, "b": False, "c": True}
    options: dict[str, Any] = {"mask": mask, "bounds": bounds, "fixed": fixed}
    fit = jaxreg.curve_fit(model, x, y, start, **options)
    found = uncertainty.profile_intervals(fit)
    assert found.upper["a"] == pytest.approx(2.2, rel=1e-7)
    assert np.isnan(found.lower["c"])
    kept = np.delete(np.arange(11), 3)

    def chi2(b: float) -> float:
        design = np.exp(-b * np.asarray(x)[kept])
        a = np.clip(design @ np.asarray(y)[kept] / (design @ design), 0, 2.2)
        return float(np.sum((np.asarray(y)[kept] - a * design) ** 2))

    target = float(fit.chi2) * (1 + scipy.stats.t.ppf(0.975, 8) ** 2 / 8)
    assert chi2(float(found.lower["b"])) == pytest.approx(target, rel=1e-7)
    assert chi2(float(found.upper["b"])) == pytest.approx(target, rel=1e-7)

    # A parameter that ends at its bound has no standard error, but an interval that begins there.
    options["bounds"] = (bounds[0], bounds[1] | {"a": 1.8})
    fit = jaxreg.curve_fit(model, x, y, start, **options)
    assert fit.at_bound["a"]
    found = uncertainty.profile_intervals(fit)
    assert found.upper["a"] == 1.8
    assert found.at_bound.upper["a"]
    assert found.status["a"] == Status.OK
    assert np.isnan(found.discrepancy["a"])

    def lowest(a: float) -> float:
        def residual(b: np.ndarray) -> np.ndarray:
            return np.asarray(y)[kept] - a * np.exp(-b * np.asarray(x)[kept])

        return 2 * float(scipy.optimize.least_squares(residual, [1.5], xtol=1e-15, ftol=1e-15, gtol=1e-15).cost)

    limit = float(fit.chi2) * (1 + scipy.stats.t.ppf(0.975, int(fit.dof)) ** 2 / int(fit.dof))
    assert lowest(float(found.lower["a"])) == pytest.approx(limit, rel=1e-7)

    profile = uncertainty.profile(fit, reach=2.0, num=5)
    below, tau = np.asarray(profile.values["a"]) < 1.8, np.asarray(profile.tau["a"])
    costs = [lowest(a) for a in np.asarray(profile.values["a"])[below]]
    np.testing.assert_allclose(tau[below] ** 2, (np.array(costs) / float(fit.chi2) - 1) * int(fit.dof), rtol=1e-6)
    np.testing.assert_array_equal(tau[~below], [0, np.inf, np.inf])

    # The region of it and another is cut off at the bound; rays that leave the box at once end where they begin.
    edge = uncertainty.profile_contour(fit, ("a", "b"), num=8)
    rest = (np.asarray(y)[kept] - a * np.exp(-b * np.asarray(x)[kept]) for a, b in np.asarray(edge.points))
    reached = fit.chi2 * (1 + 2 * scipy.stats.f.ppf(0.95, 2, int(fit.dof)) / int(fit.dof))
    expected = np.where(edge.at_bound, fit.chi2, reached)
    np.testing.assert_allclose([np.sum(each**2) for each in rest], expected, rtol=1e-7)
    np.testing.assert_array_equal(edge.at_bound, [True, True, False, False, False, False, False, True])
    assert (edge.status == Status.OK).all()


@DOUBLE
def test_an_end_that_the_data_do_not_set_is_infinite() -> None:
    x = jnp.linspace(1.0, 6.0, 9)
    y = 1 - jnp.exp(-5.0 * x) + 0.02 * jnp.cos(9 * x)  # saturated from the first point on: the rate has no upper limit
    model = models.expression("1 - exp(-k*x)")
    fit = jaxreg.curve_fit(model, x, y, {"k": 2.0})
    found = uncertainty.profile_intervals(fit)
    assert np.isposinf(found.upper["k"])
    assert np.isfinite(found.lower["k"])
    assert found.status["k"] == Status.OK


@DOUBLE
def test_an_end_is_infinite_also_where_a_derivative_overflows() -> None:
    """Biochemical oxygen demand (BOD in R) by the logarithm of its rate: at 99 % the rate has no upper limit."""
    x, y = np.array([1.0, 2, 3, 4, 5, 7]), np.array([8.3, 10.3, 19.0, 16.0, 15.6, 19.8])
    model = models.expression("a*(1 - exp(-exp(b)*x))")
    fit = jaxreg.curve_fit(model, x, y, {"a": 20.0, "b": -0.5})
    found = uncertainty.profile_intervals(fit, level=0.99)
    assert np.isposinf(found.upper["b"])
    assert found.status["b"] == Status.OK
    assert not found.at_bound.upper["b"]
    bounded = fit.with_problem(fit.problem.replace(bounds=(-2.0, 100.0)))
    held = uncertainty.profile_intervals(bounded, level=0.99)
    assert (float(held.lower["b"]), float(held.upper["b"])) == (-2.0, 100.0)
    assert held.at_bound.lower["b"]
    assert held.at_bound.upper["b"]
    assert not held.at_bound.lower["a"]
    np.testing.assert_allclose(held.lower["a"], found.lower["a"], rtol=1e-6)


@DOUBLE
@pytest.mark.parametrize("change", ["smaller sigma", "larger sigma", "another y", "robust"])
def test_what_a_fit_did_not_minimise_has_no_profile(line: jaxreg.Fit, change: str) -> None:
    problem = line.problem
    other = {
        "smaller sigma": problem.replace(sigma=SIGMA / 10),
        "larger sigma": problem.replace(sigma=SIGMA * 10),
        "another y": problem.replace(y=Y + np.sin(X)),
        "robust": problem,
    }[change]
    fit = (jaxreg.curve_fit(MODEL, **LINE, loss="huber") if change == "robust" else line).replace(problem=other)
    found = uncertainty.profile_intervals(fit)
    for name in ("a", "b"):
        assert found.status[name] == Status.NOT_OPTIMUM
        assert np.isnan([found.lower[name], found.upper[name]]).all()
    curve = uncertainty.profile(fit, num=5)
    assert (curve.status["a"] == Status.NOT_OPTIMUM).all()
    assert np.isnan(curve.tau["a"]).all()
    if change != "robust":  # which has the χ² that it has
        with pytest.raises(ValueError, match=r"the fit has χ² 5\.69982, and .*: it was made of another"):
            fit.with_problem(other)


@DOUBLE
def test_an_interval_that_there_cannot_be_is_not_out_of_steps(line: jaxreg.Fit) -> None:
    failed = line.replace(status=jnp.int32(Status.SINGULAR), covariance=jnp.full((2, 2), jnp.nan))
    exact = line.replace(dof=jnp.int32(0))
    for fit, status in ((failed, Status.SINGULAR), (exact, Status.INVALID_INPUT)):
        found = uncertainty.profile_intervals(fit)
        assert list(found.status.values()) == [status, status]
        assert np.isnan([*found.lower.values(), *found.upper.values()]).all()


@DOUBLE
@pytest.mark.parametrize("scale", [None, "mad"])
def test_profiles_of_a_robust_fit_are_where_scipys_refits_of_its_cost_reach_the_level(scale: str | None) -> None:
    """Huber's loss of a line with two outliers, the scale held as the fit has found it."""
    y = Y + 9 * (np.arange(12) % 7 == 2)
    fit = jaxreg.curve_fit(MODEL, **(LINE | {"y": y}), loss="huber", scale=scale)
    delta = 1.0 if scale is None else float(fit.scale)

    def cost(a: float, b: float) -> float:
        size = np.abs((y - a - b * X) / SIGMA)
        return float(2 * np.sum(np.where(size < delta, size**2 / 2, delta * (size - delta / 2))))

    def refitted(parameter: str, value: float) -> float:
        held = (lambda other: cost(value, other)) if parameter == "a" else (lambda other: cost(other, value))
        other = float(fit.params["b" if parameter == "a" else "a"])
        return scipy.optimize.minimize_scalar(held, bracket=(other - 0.5, other + 0.5), tol=1e-10).fun

    # By how much the cost grows at one standard error, the s² of Huber's classic covariance.
    residual = (y - fit.params["a"] - fit.params["b"] * X) / SIGMA
    inside = np.mean(np.abs(residual) < delta)
    square = np.sum(np.clip(residual, -delta, delta) ** 2) / 10
    variance = (1 + 2 / 12 * (1 - inside) / inside) * square / inside
    best = cost(float(fit.params["a"]), float(fit.params["b"]))

    ends = uncertainty.profile_intervals(fit)
    curve = uncertainty.profile(fit, num=2, reach=1.0)
    for name in ("a", "b"):
        assert ends.status[name] == Status.OK
        for value in (ends.lower[name], ends.upper[name]):
            grown = scipy.stats.t.ppf(0.975, 10) ** 2 * variance
            assert refitted(name, float(value)) - best == pytest.approx(grown, rel=1e-6)
        grown = [refitted(name, float(value)) - best for value in curve.values[name]]
        np.testing.assert_allclose(curve.tau[name] ** 2 * variance, grown, rtol=1e-6)


@DOUBLE
def test_a_loss_that_does_not_bend_has_no_profile() -> None:
    fit = jaxreg.curve_fit(models.linear(1), X[:, None], Y, loss="absolute")
    with pytest.raises(ValueError, match=r"a profile needs a loss that bends, .*: take bootstrap\(key, fit\)"):
        uncertainty.profile_intervals(fit)


@DOUBLE
def test_a_fit_short_of_the_optimum_has_no_profile_interval(puromycin: jaxreg.Fit) -> None:
    worse = puromycin.replace(params={"a": jnp.float64(200.0), "b": jnp.float64(0.07)}, chi2=puromycin.chi2 * 1.2)
    found = uncertainty.profile_intervals(worse)
    assert found.status["b"] == Status.NOT_OPTIMUM
    assert np.isnan(found.lower["b"])


# ---- bootstrap ----

OHM = models.ohm()


def resampled_lines(num: int) -> np.ndarray:
    """Estimates (num, 2) of a plain loop over resampled points."""
    rng, estimates = np.random.default_rng(1), []
    for _ in range(num):
        rows = rng.integers(0, 12, 12)
        design = DESIGN[rows] / SIGMA[rows, None]
        estimates.append(np.linalg.lstsq(design, Y[rows] / SIGMA[rows], rcond=None)[0])
    return np.array(estimates)


@DOUBLE
@pytest.mark.parametrize("kind", ["pairs", "residual", "parametric"])
def test_the_bootstrap_of_a_line_has_the_standard_errors_of_its_theory(line: jaxreg.Fit, kind: str) -> None:
    found = uncertainty.bootstrap(jax.random.key(1), line, kind=kind, num=2000)
    assert (found.status == Status.OK).all()
    if kind == "pairs":
        # Quartiles, since a few draws hold nearly one point only; of 2,000 and 4,000 draws they are known to 4 %.
        expected = np.subtract(*np.percentile(resampled_lines(4000), [75, 25], axis=0))
        spread = [np.subtract(*np.percentile(found.params[name], [75, 25])) for name in ("a", "b")]
        np.testing.assert_allclose(spread, expected, rtol=0.12)
    else:
        expected = np.sqrt(np.diagonal(np.asarray(line.covariance)))
        # 2,000 draws know a standard deviation to 1.6 % (three times that); centring the residuals takes 1/n of s².
        tolerance = {"residual": 0.07, "parametric": 0.05}[kind]
        np.testing.assert_allclose([found.stderr["a"], found.stderr["b"]], expected, rtol=tolerance)
    np.testing.assert_allclose(found.stderr["a"], np.std(found.params["a"], ddof=1), rtol=1e-12)
    np.testing.assert_allclose(found.upper["b"], np.quantile(found.params["b"], 0.975), rtol=1e-12)


@DOUBLE
@pytest.mark.parametrize("kind", ["pairs", "residual"])
def test_rows_that_are_not_there_are_not_drawn(line: jaxreg.Fit, kind: str) -> None:
    """Each row twice, of which one is not there and holds nonsense."""
    there = np.arange(24) % 2 == 0
    data = {name: np.repeat(LINE[name], 2, axis=0) for name in ("x", "y", "sigma")}
    data["y"][~there] = np.nan
    fit = jaxreg.curve_fit(MODEL, **data, p0=LINE["p0"], mask=there)
    found = uncertainty.bootstrap(jax.random.key(1), fit, kind=kind, num=500)
    plain = uncertainty.bootstrap(jax.random.key(1), line, kind=kind, num=2000)
    assert found.num_failed == 0
    np.testing.assert_allclose(found.stderr["b"], plain.stderr["b"], rtol=0.15)  # 500 draws know it to 3 %


@DOUBLE
def test_refits_that_fail_are_counted_and_said() -> None:
    """Of 5 draws of 5 points, in which the slope rests on one, that one is missing in (4/5)⁵ = 33 %."""
    x, y = np.array([0.0, 0, 0, 0, 1]), np.array([1.0, 2, 3, 4, 7])
    fit = jaxreg.curve_fit(OHM, x, y, sigma=0.2, absolute_sigma=True)
    with pytest.warns(
        UserWarning, match=r"of 300 refits not all converged, [0-9]+ SINGULAR: the errors are of the othe"
    ):
        found = uncertainty.bootstrap(jax.random.key(0), fit, num=300)
    assert 70 < int(found.num_failed) < 130
    assert int(found.num_failed) == int(np.isnan(found.params["resistance"]).sum())


@DOUBLE
def test_parametric_noise_is_an_absolute_sigma_whatever_the_residuals_say() -> None:
    x, y = np.array([1.0, 2, 3, 4, 5]), np.array([1.0, 2, 3, 4, 5.5])
    fit = jaxreg.curve_fit(OHM, x, y, sigma=7.0, absolute_sigma=True)
    found = uncertainty.bootstrap(jax.random.key(0), fit, kind="parametric", num=300)
    np.testing.assert_allclose(found.stderr["resistance"], 7 / np.sqrt(x @ x), rtol=0.13)  # known to 4 %


@DOUBLE
@pytest.mark.parametrize("kind", ["residual", "parametric"])
def test_the_bootstrap_of_correlated_errors_has_the_standard_errors_of_their_theory(kind: str) -> None:
    """(XᵀV⁻¹X)⁻¹, of a V of which the diagonal alone would give errors that are half as large or twice."""
    errors = 0.8 ** np.abs(np.subtract.outer(np.arange(12), np.arange(12)))
    inverse = np.linalg.inv(DESIGN.T @ np.linalg.solve(errors, DESIGN))
    fit = jaxreg.curve_fit(MODEL, **(LINE | {"sigma": errors}), absolute_sigma=kind == "parametric")
    found = uncertainty.bootstrap(jax.random.key(0), fit, kind=kind, num=2000)
    square = 1.0 if kind == "parametric" else float(fit.chi2) / 10
    tolerance = {"residual": 0.08, "parametric": 0.05}[kind]  # as above
    expected = np.sqrt(square * np.diagonal(inverse))
    np.testing.assert_allclose([found.stderr["a"], found.stderr["b"]], expected, rtol=tolerance)


@DOUBLE
def test_the_bootstrap_refuses_what_it_cannot_draw_from(line: jaxreg.Fit) -> None:
    with pytest.raises(ValueError, match="kind must be one of 'pairs', 'residual', 'parametric', got 'rows'"):
        uncertainty.bootstrap(jax.random.key(0), line, kind="rows")
    correlated = jaxreg.curve_fit(MODEL, **(LINE | {"sigma": np.eye(12)}))
    with pytest.raises(ValueError, match="kind must be 'residual' or 'parametric' where sigma is a covariance: pairs"):
        uncertainty.bootstrap(jax.random.key(0), correlated, kind="pairs")


# ---- nonlinearity ----


@DOUBLE
def test_a_known_sigma_takes_the_quantile_of_chi2(puromycin: jaxreg.Fit) -> None:
    """Against the published number, which takes F and the residuals' own size, by the ratio of the regions' radii."""
    known = uncertainty.nonlinearity(jaxreg.curve_fit(MODEL, **(REACTION | {"sigma": 9.0}), absolute_sigma=True))
    found = uncertainty.nonlinearity(puromycin)
    square = 81 * scipy.stats.chi2.ppf(0.95, 2) / 2
    expected = np.sqrt(square / (puromycin.chi2 / 10 * scipy.stats.f.ppf(0.95, 2, 10)))
    np.testing.assert_allclose(known.intrinsic / found.intrinsic, expected, rtol=1e-9)
    np.testing.assert_allclose(known.parameter_effects / found.parameter_effects, expected, rtol=1e-9)


@DOUBLE
def test_nonlinearity_of_the_puromycin_data_as_published(puromycin: jaxreg.Fit) -> None:
    """W. N. Venables and B. D. Ripley, the example of rms.curv in R's package MASS: 0.2121 and 0.092."""
    found = uncertainty.nonlinearity(puromycin)
    np.testing.assert_allclose(found.parameter_effects, 0.2121, atol=5e-5)
    np.testing.assert_allclose(found.intrinsic, 0.0920, atol=5e-5)


@DOUBLE
def test_intrinsic_nonlinearity_does_not_depend_on_the_parameters_and_a_line_has_none(
    puromycin: jaxreg.Fit,
) -> None:
    other = models.expression("x/(p + q*x)")  # Lineweaver and Burk's parameters: q = 1/V, p = K/V
    v, k = float(puromycin.params["a"]), float(puromycin.params["b"])
    fit = jaxreg.curve_fit(other, CONCENTRATION, VELOCITY, {"p": k / v, "q": 1 / v})
    found = uncertainty.nonlinearity(fit)
    same = uncertainty.nonlinearity(puromycin)
    np.testing.assert_allclose(found.intrinsic, same.intrinsic, rtol=1e-6)
    assert not np.isclose(found.parameter_effects, same.parameter_effects, rtol=0.1)
    flat = uncertainty.nonlinearity(jaxreg.curve_fit(MODEL, **(LINE | {"sigma": np.diag(SIGMA**2)})))
    np.testing.assert_allclose(flat, [0, 0], atol=1e-12)
    failed = puromycin.replace(status=jnp.int32(Status.SINGULAR))
    assert np.isnan(uncertainty.nonlinearity(failed).intrinsic)


# ---- arguments ----


@DOUBLE
def test_arguments_that_do_not_fit(line: jaxreg.Fit) -> None:
    with pytest.raises(ValueError, match="the fit was made of y of shape"):
        line.with_problem(jaxreg.problem(MODEL, np.ones((3, 2)), np.ones(3), LINE["p0"]))
    with pytest.raises(ValueError, match="parameters must be two of a, b, got"):
        uncertainty.profile_contour(line, ("a", "q"))
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), line)
    with pytest.raises(ValueError, match=r"fit must be one fit, such as fits\[0\] .*, got leading axes \(2,\)"):
        uncertainty.profile(many)
    with pytest.raises(ValueError, match="kind must be one of 'confidence', 'prediction', got 'both'"):
        uncertainty.band(line, LINE["x"], kind="both")
    with pytest.raises(ValueError, match="sigma is of a new observation, for kind 'prediction', got 'confidence'"):
        uncertainty.band(line, LINE["x"], sigma=1.0)
    with pytest.raises(ValueError, match=r"sigma of a new observation must be given where the points .* one each"):
        uncertainty.band(line, LINE["x"], kind="prediction")


AFTER: dict[str, Callable[[Any], Any]] = {
    "band": lambda fit: uncertainty.band(fit, LINE["x"], distribution="t"),
    "profile": uncertainty.profile,
    "profile_intervals": partial(uncertainty.profile_intervals, distribution="t"),
    "profile_contour": lambda fit: uncertainty.profile_contour(fit, ("a", "b"), distribution="t"),
    "bootstrap": lambda fit: uncertainty.bootstrap(jax.random.key(0), fit),
    "nonlinearity": uncertainty.nonlinearity,
}


@pytest.mark.parametrize("name", AFTER)
def test_a_fit_without_its_problem_says_how_to_give_it_back(line: jaxreg.Fit, name: str) -> None:
    with pytest.raises(ValueError, match=r"this fit is without its problem, .*: fit\.with_problem\(problem\)"):
        AFTER[name](line.without_data())


@DOUBLE
def test_intervals_of_a_fit_without_its_problem_need_their_distribution(line: jaxreg.Fit) -> None:
    with pytest.raises(ValueError, match="say distribution='t' or 'normal', or give it back"):
        uncertainty.intervals(line.without_data())
    low, _ = uncertainty.intervals(line.without_data(), distribution="t")
    np.testing.assert_allclose(low["a"], uncertainty.intervals(line).lower["a"])


def test_what_the_fit_knows_is_not_said_again(line: jaxreg.Fit) -> None:
    with pytest.raises(ValueError, match=r"the fit knows its model and data: profile\(fit, …\) takes no other"):
        uncertainty.profile(MODEL, LINE["x"], LINE["y"], line)  # type: ignore[arg-type, call-arg]
    with pytest.raises(ValueError, match=r"the fit knows its sigma: bootstrap\(key, fit, …\) takes no other"):
        uncertainty.bootstrap(jax.random.key(0), line, sigma=SIGMA)  # type: ignore[call-arg]
