"""curve_fit against SciPy, NIST's certified values, closed forms and central differences."""

import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxreg
from jaxreg import models
from jaxreg.status import Status

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import _firas

DOUBLE = pytest.mark.usefixtures("x64")

# 30 points of a decay, with noise of 0.01.
X = np.linspace(0.0, 1.0, 30)
Y = 2 * np.exp(-3 * X) + 0.01 * np.random.default_rng(0).normal(size=30)
SIGMA = np.linspace(0.5, 2.0, 30)
P0 = {"a": 1.0, "k": 1.0}


def decay(params: Any, x: Any) -> Any:
    return params["a"] * jnp.exp(-params["k"] * x)


def fit_decay(y: Any = Y, sigma: Any = 1.0, **options: Any) -> jaxreg.Fit:
    return jaxreg.curve_fit(decay, X, y, P0, sigma=sigma, **options)


def scipy_decay(sigma: Any = None, absolute_sigma: bool = False) -> tuple[np.ndarray, np.ndarray]:
    def model(x: Any, a: float, k: float) -> Any:
        return a * np.exp(-k * x)

    sigma = None if sigma is None else np.broadcast_to(sigma, 30)
    tight = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15}
    return scipy.optimize.curve_fit(model, X, Y, (1, 1), sigma=sigma, absolute_sigma=absolute_sigma, **tight)


def flat(params: Any) -> np.ndarray:
    return np.array(jax.tree.leaves(params))


def stacked(fits: Iterable[jaxreg.Fit]) -> jaxreg.Fit:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *fits)


# ---- against SciPy ----

SIGMAS = {"none": None, "scalar": 0.3, "each": SIGMA}


@DOUBLE
@pytest.mark.parametrize("absolute_sigma", [False, True])
@pytest.mark.parametrize("sigma", SIGMAS.values(), ids=SIGMAS.keys())
def test_params_and_covariance_equal_those_of_scipy(sigma: Any, absolute_sigma: bool) -> None:
    fit = fit_decay(sigma=sigma, absolute_sigma=absolute_sigma)
    params, covariance = scipy_decay(sigma, absolute_sigma)
    # SciPy differences its Jacobian with a step of √eps.
    np.testing.assert_allclose(flat(fit.params), params, rtol=1e-7)
    np.testing.assert_allclose(fit.covariance, covariance, rtol=1e-5)


@DOUBLE
def test_a_fit_is_the_same_eagerly_jitted_and_in_a_lane(variant: Callable[..., Any]) -> None:
    got = variant(lambda y: fit_decay(y).params)(Y)
    np.testing.assert_allclose(flat(got), scipy_decay()[0], rtol=1e-7)  # SciPy's differences


@DOUBLE
def test_stderr_is_the_root_of_the_covariances_diagonal() -> None:
    fit = fit_decay()
    np.testing.assert_allclose(flat(fit.stderr), np.sqrt(np.diag(fit.covariance)), rtol=1e-14)  # rounding


@DOUBLE
def test_residuals_are_targets_minus_model_unweighted() -> None:
    fit = fit_decay(sigma=SIGMA)
    a, k = flat(fit.params)
    np.testing.assert_allclose(fit.residuals, Y - a * np.exp(-k * X), atol=1e-15)  # rounding


@DOUBLE
def test_chi2_is_the_sum_of_squared_weighted_residuals() -> None:
    fit = fit_decay(sigma=SIGMA)
    np.testing.assert_allclose(fit.chi2, ((np.asarray(fit.residuals) / SIGMA) ** 2).sum(), rtol=1e-13)  # rounding


@DOUBLE
def test_dof_is_points_minus_parameters() -> None:
    assert int(fit_decay().dof) == 28


@DOUBLE
def test_as_many_points_as_parameters_fit_exactly_with_no_relative_errors() -> None:
    fit = jaxreg.curve_fit(decay, X[[5, 20]], Y[[5, 20]], P0)
    k = np.log(Y[5] / Y[20]) / (X[20] - X[5])
    np.testing.assert_allclose(flat(fit.params), [Y[5] * np.exp(k * X[5]), k], rtol=1e-9)  # double precision
    assert (int(fit.status), int(fit.dof)) == (Status.OK, 0)
    assert np.isnan(fit.covariance).all()


@DOUBLE
def test_data_without_noise_give_the_truth() -> None:
    fit = fit_decay(2 * np.exp(-3 * X))
    assert int(fit.status) == Status.OK
    np.testing.assert_allclose(flat(fit.params), [2, 3], rtol=1e-12)  # rounding


@DOUBLE
@pytest.mark.parametrize("absolute_sigma", [False, True])
def test_a_line_equals_the_closed_form(absolute_sigma: bool) -> None:
    generator = np.random.default_rng(1)
    x, sigma = generator.normal(size=(40, 2)), generator.uniform(0.5, 2.0, size=40)
    y = x @ [2.0, -3.4] + 4.2 + sigma * generator.normal(size=40)
    weighted = np.c_[np.ones(40), x] / sigma[:, None]  # b comes before w
    solution, chi2 = np.linalg.lstsq(weighted, y / sigma)[:2]
    covariance = np.linalg.inv(weighted.T @ weighted) * (1 if absolute_sigma else chi2 / 37)

    fit = jaxreg.curve_fit(models.linear(2), x, y, sigma=sigma, absolute_sigma=absolute_sigma)
    np.testing.assert_allclose(np.r_[fit.params["b"], fit.params["w"]], solution, rtol=1e-10)  # stops at 1e-10
    np.testing.assert_allclose(fit.covariance, covariance, rtol=1e-10)


# ---- NIST's certified values ----


class Reference(NamedTuple):
    """A set of NIST's Statistical Reference Datasets, https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml."""

    model: Callable[..., Any]
    x: list[float]
    y: list[float]
    starts: list[list[float]]
    params: list[float]
    stderr: list[float]
    chi2: float


def saturation(b: Any, x: Any) -> Any:
    return b[0] * (1 - jnp.exp(-b[1] * x))


def rational(b: Any, x: Any) -> Any:
    return b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3])


NIST = {
    "Misra1a": Reference(
        saturation,
        x=[77.6, 114.9, 141.1, 190.8, 239.9, 289.0, 332.8, 378.4, 434.8, 477.3, 536.8, 593.1, 689.1, 760.0],
        y=[10.07, 14.73, 17.94, 23.93, 29.61, 35.18, 40.02, 44.82, 50.76, 55.05, 61.01, 66.40, 75.47, 81.78],
        starts=[[500, 0.0001], [250, 0.0005]],
        params=[2.3894212918e02, 5.5015643181e-04],
        stderr=[2.7070075241e00, 7.2668688436e-06],
        chi2=1.2455138894e-01,
    ),
    "BoxBOD": Reference(
        saturation,
        x=[1, 2, 3, 5, 7, 10],
        y=[109, 149, 149, 191, 213, 224],
        starts=[[1, 1], [100, 0.75]],
        params=[2.1380940889e02, 5.4723748542e-01],
        stderr=[1.2354515176e01, 1.0455993237e-01],
        chi2=1.1680088766e03,
    ),
    "MGH09": Reference(
        rational,
        x=[4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625],
        y=[0.1957, 0.1947, 0.1735, 0.16, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246],
        starts=[[25, 39, 41.5, 39], [0.25, 0.39, 0.415, 0.39]],
        params=[1.9280693458e-01, 1.9128232873e-01, 1.2305650693e-01, 1.3606233068e-01],
        stderr=[1.1435312227e-02, 1.9633220911e-01, 8.0842031232e-02, 9.0025542308e-02],
        chi2=3.0750560385e-04,
    ),
}


@DOUBLE
@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("name", NIST)
def test_nist_certified_values_are_reached_to_eight_digits(name: str, start: int) -> None:
    reference = NIST[name]
    x, y, p0 = (np.array(values, float) for values in (reference.x, reference.y, reference.starts[start]))
    fit = jaxreg.curve_fit(reference.model, x, y, p0)
    assert int(fit.status) == Status.OK
    # Eleven digits are certified.
    np.testing.assert_allclose(fit.params, reference.params, rtol=1e-8)
    np.testing.assert_allclose(fit.stderr, reference.stderr, rtol=1e-8)
    np.testing.assert_allclose(fit.chi2, reference.chi2, rtol=1e-8)


# ---- starts ----


@DOUBLE
def test_planck_temperature_and_gain_are_found_from_any_start() -> None:
    wavelength = 1e-9 * np.linspace(300.0, 1999.0, 40)
    exponent = 6.62607015e-34 * 299792458.0 / (wavelength * 1.380649e-23 * 5020.0)
    radiance = 1.03 * 2 * 6.62607015e-34 * 299792458.0**2 / wavelength**5 / np.expm1(exponent)
    radiance *= 1 + 0.01 * np.random.default_rng(0).normal(size=40)
    model = models.planck(gain=True)
    fits = stacked(
        jaxreg.curve_fit(model, wavelength, radiance, {"temperature": temperature, "gain": 1.0})
        for temperature in (300.0, 1000.0, 3000.0, 10_000.0, 50_000.0)
    )
    jaxreg.raise_if_failed(fits)
    expected, _ = scipy.optimize.curve_fit(
        lambda x, t, g: g * 1.191042972e-16 / x**5 / np.expm1(0.01438776877 / (x * t)), wavelength, radiance, (5e3, 1)
    )
    # SciPy's default tolerance of 1.5e-8, and nine digits of the radiation constants.
    np.testing.assert_allclose(fits.params["temperature"], expected[0], rtol=1e-6)
    np.testing.assert_allclose(fits.params["gain"], expected[1], rtol=1e-6)


@DOUBLE
def test_the_temperature_of_the_sky_is_found_from_any_start() -> None:
    rows = _firas.spectrum()
    fits = stacked(_firas.fit(rows, temperature) for temperature in np.geomspace(0.1, 300.0, 30))
    jaxreg.raise_if_failed(fits)
    # COBE/FIRAS's own statistics, to the digits that are given: 2.725015 K ± 0.0000076 K, chi2 45.10, 42 degrees.
    np.testing.assert_allclose(fits.params["temperature"], 2.725015, atol=5e-7)
    np.testing.assert_allclose(fits.stderr["temperature"], 7.6e-6, atol=5e-8)
    np.testing.assert_allclose(fits.chi2, 45.10, atol=5e-3)
    assert (fits.dof == 42).all()


@DOUBLE
def test_the_models_guess_is_the_start_where_none_is_given() -> None:
    def guess(x: Any, y: Any) -> Any:
        del x, y
        return {"root": jnp.array(-1.0)}

    # Two optima, ±√3, and the guess lies on the side of the negative one.
    square = models.Model(models.ohm().init, lambda params, x: params["root"] ** 2 * x, guess)
    np.testing.assert_allclose(jaxreg.curve_fit(square, X, 3 * X).params["root"], -np.sqrt(3), rtol=1e-12)  # no noise


# ---- statuses ----


@DOUBLE
def test_a_spent_budget_says_max_steps() -> None:
    fit = fit_decay(max_steps=2)
    assert (int(fit.status), int(fit.num_steps)) == (Status.MAX_STEPS, 2)


@DOUBLE
@pytest.mark.parametrize("start", [{"a": np.nan, "k": 1.0}, {"a": 1.0, "k": -1e5}], ids=["NaN start", "overflow"])
def test_a_start_that_is_not_finite_comes_back_as_it_was(start: dict[str, float]) -> None:
    fit = jaxreg.curve_fit(decay, X, Y, start)
    np.testing.assert_array_equal(flat(fit.params), list(start.values()))
    assert (int(fit.status), int(fit.num_steps)) == (Status.NONFINITE, 0)


@DOUBLE
def test_a_start_with_an_infinite_slope_is_not_finite() -> None:
    fit = jaxreg.curve_fit(lambda p, x: jnp.sqrt(p * x), X[1:], Y[1:], 0.0)  # the model itself is zero there
    assert (int(fit.status), float(fit.params)) == (Status.NONFINITE, 0.0)


@DOUBLE
def test_a_step_follows_the_bend_of_the_model() -> None:
    # From 0 to log(1 + v): Gauss and Newton's step is v = 0.105, the acceleration takes v²/2 off, and v³/3 is left.
    fit = jaxreg.curve_fit(lambda p, x: jnp.exp(p) * x, X, np.exp(0.1) * X, 0.0, max_steps=1)
    assert int(fit.num_steps) == 1
    np.testing.assert_allclose(fit.params, 0.1, atol=1e-3)


def sum_of_two(params: Any, x: Any) -> Any:
    return (params["a"] + params["b"]) * jnp.exp(-x)


def with_an_unused(params: Any, x: Any) -> Any:
    return params["a"] * jnp.exp(-x) + 0 * params["b"]


@DOUBLE
@pytest.mark.parametrize(("model", "absolute_sigma"), [(sum_of_two, False), (with_an_unused, True)])
def test_undetermined_parameters_are_singular_without_covariance(model: Any, absolute_sigma: bool) -> None:
    fit = jaxreg.curve_fit(model, X, Y, {"a": 1.0, "b": 2.0}, sigma=1.0, absolute_sigma=absolute_sigma)
    assert int(fit.status) == Status.SINGULAR
    assert np.isnan(fit.covariance).all()


@DOUBLE
def test_undetermined_parameters_have_no_errors_without_noise_either() -> None:
    fit = jaxreg.curve_fit(with_an_unused, X, np.zeros(30), {"a": 0.0, "b": 2.0})
    assert int(fit.status) == Status.SINGULAR
    assert np.isnan(flat(fit.stderr)).all()


@DOUBLE
def test_undetermined_parameters_still_fit_their_sum() -> None:
    fit = jaxreg.curve_fit(sum_of_two, X, Y, {"a": 1.0, "b": 2.0}, sigma=1.0)
    unit = np.exp(-X)
    np.testing.assert_allclose(flat(fit.params).sum(), unit @ Y / (unit @ unit), rtol=1e-9)  # stops at 1e-10


@pytest.fixture(scope="module")
def lanes() -> jaxreg.Fit:
    """One fit for each of five sigmas, of which three are none, and a sixth from a start of NaN."""
    with jax.enable_x64(True):

        @jax.jit
        @jax.vmap
        def fit(sigma: Any, a: Any) -> Any:
            return jaxreg.curve_fit(decay, X, Y, {"a": a, "k": 1.0}, sigma=sigma)

        sigmas = jnp.array([1.0, 0.0, -1.0, jnp.nan, 2.0, 1.0])
        return fit(sigmas, jnp.ones(6).at[5].set(jnp.nan))


def test_sigmas_that_are_not_positive_are_invalid_under_vmap(lanes: jaxreg.Fit) -> None:
    invalid = [Status.INVALID_INPUT] * 3
    assert lanes.status.tolist() == [Status.OK, *invalid, Status.OK, Status.NONFINITE]


def test_bad_lanes_leave_the_others_alone(lanes: jaxreg.Fit) -> None:
    for index in (0, 4):
        got = [lanes.params["a"][index], lanes.params["k"][index]]
        np.testing.assert_allclose(got, scipy_decay()[0], rtol=1e-7)  # SciPy's differences


def test_an_invalid_lane_returns_its_start(lanes: jaxreg.Fit) -> None:
    assert (float(lanes.params["a"][1]), int(lanes.num_steps[1])) == (1, 0)


def test_raise_if_failed_names_the_bad_lanes(lanes: jaxreg.Fit) -> None:
    sigma = "INVALID_INPUT, sigma is not positive and finite at row 0"
    wanted = rf"^4 of 6 fits failed: \[1\] {sigma}, \[2\] {sigma}, \[3\] {sigma}, \[5\] NONFINITE, the start"
    with pytest.raises(RuntimeError, match=wanted):
        jaxreg.raise_if_failed(lanes)


# ---- derivatives ----


def central_difference(fn: Callable[[Any], Any], point: np.ndarray, direction: np.ndarray) -> np.ndarray:
    # A step of 1e-5 leaves 1e-10 of the third derivative; the fits stop at 1e-10 of their residuals of 0.01.
    return (fn(point + 1e-5 * direction) - fn(point - 1e-5 * direction)) / 2e-5


@DOUBLE
def test_derivatives_in_reverse_by_targets_and_sigma_equal_central_differences() -> None:
    of_y, of_sigma = np.random.default_rng(3).normal(size=(2, 30))
    got = jax.jit(jax.jacrev(lambda y, sigma: fit_decay(y, sigma).params, (0, 1)))(Y, SIGMA)
    by_y, by_sigma = zip(*(got[name] for name in P0), strict=True)
    expected = central_difference(lambda y: flat(fit_decay(y, SIGMA).params), Y, of_y)
    np.testing.assert_allclose(np.array(by_y) @ of_y, expected, rtol=1e-5)
    expected = central_difference(lambda sigma: flat(fit_decay(sigma=sigma).params), SIGMA, of_sigma)
    np.testing.assert_allclose(np.array(by_sigma) @ of_sigma, expected, rtol=1e-5)


@DOUBLE
def test_forward_derivatives_of_params_and_covariance_by_targets_equal_central_differences() -> None:
    direction = np.random.default_rng(5).normal(size=30)

    def both(y: Any) -> Any:
        fit = fit_decay(y)
        return fit.params, fit.covariance

    params, covariance = jax.jit(jax.jacfwd(both))(Y)
    expected = central_difference(lambda y: flat(fit_decay(y).params), Y, direction)
    np.testing.assert_allclose(flat(params) @ direction, expected, rtol=1e-5)
    expected = central_difference(lambda y: np.asarray(fit_decay(y).covariance), Y, direction)
    np.testing.assert_allclose(covariance @ direction, expected, rtol=1e-5)


# ---- precision and retracing ----


def test_float64_arrays_in_single_precision_warn_with_the_remedy() -> None:
    with pytest.warns(UserWarning, match=r"float64 .* float32.*jax_enable_x64"):
        fit = fit_decay()
    np.testing.assert_allclose(flat(fit.params), scipy_decay()[0], rtol=1e-4)  # float32


@pytest.mark.parametrize("double", [False, True])
def test_arrays_of_the_working_precision_do_not_warn(double: bool) -> None:
    dtype = np.float64 if double else np.float32
    with jax.enable_x64(double), warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = jaxreg.curve_fit(decay, X.astype(dtype), Y.astype(dtype), P0)
    assert fit.params["a"].dtype == dtype


@DOUBLE
def test_a_float32_start_serves_float64_data() -> None:
    fit = jaxreg.curve_fit(decay, X, Y, {"a": np.float32(1), "k": np.float32(1)})
    assert int(fit.status) == Status.OK
    np.testing.assert_allclose(flat(fit.params), scipy_decay()[0], rtol=1e-6)  # at worst rounded to float32


@DOUBLE
def test_a_start_of_mixed_precision_serves_float64_data() -> None:
    fit = jaxreg.curve_fit(decay, X, Y, {"a": np.float32(1), "k": np.float64(1)})
    assert int(fit.status) == Status.OK
    np.testing.assert_allclose(flat(fit.params), scipy_decay()[0], rtol=1e-6)  # at worst rounded to float32


@pytest.fixture(scope="module")
def traces() -> Callable[..., int]:
    """How often curve_fit calls the model, once it has been called with the same objects and shapes. The first call is
    made each time: between two tests the suite may have let all programs go.
    """
    calls = []

    def model(params: Any, x: Any) -> Any:
        calls.append(1)
        return decay(params, x)

    def count(y: Any = Y, p0: Any = P0, **options: Any) -> int:
        with jax.enable_x64(True):
            jaxreg.curve_fit(model, X, Y, P0)
            before = len(calls)
            jaxreg.curve_fit(model, X, y, p0, **options)
        return len(calls) - before

    return count


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="nothing new"),
        pytest.param({"y": Y + 1}, id="new targets"),
        pytest.param({"p0": {"a": np.array(3.0), "k": np.array(2.0)}}, id="arrays for Python floats"),
        pytest.param({"sigma": 3.0}, id="scalar sigma"),
    ],
)
def test_a_second_call_does_not_retrace(traces: Callable[..., int], changes: dict[str, Any]) -> None:
    assert traces(**changes) == 0


def test_a_start_of_weak_type_makes_no_second_program(traces: Callable[..., int]) -> None:
    with jax.enable_x64(True):
        start = {"a": jnp.asarray(3.0), "k": jnp.asarray(2.0)}
    assert start["a"].weak_type
    assert traces(p0=start) == 0


def test_another_budget_retraces(traces: Callable[..., int]) -> None:
    assert traces(max_steps=7) > 0  # so that the counter above does count


@DOUBLE
@pytest.mark.parametrize(
    ("error", "shift"),
    [
        *((error, (1.0, -0.5, 2.0)) for error in (1e-3, 1e-5, 1e-7)),
        (1e-5, (-4.1, -0.91, -4.6)),  # whose gain grows as damping falls, which is no stalling
        (1e-5, (1.2, 1.0, 0.8)),
    ],
)
def test_a_start_right_in_all_but_a_weak_combination_is_left(error: float, shift: Any) -> None:
    """Years, whose powers are nearly parallel: the gain from there drowns in the rounding of the cost."""
    years = np.arange(1947.0, 1963.0)
    model = models.expression("a + b*x + c*x**2")
    y = 1000 + 3 * (years - 1955) + 0.1 * (years - 1955) ** 2 + np.random.default_rng(0).standard_normal(16)
    c, b, a = np.polynomial.polynomial.polyfit(years - 1955, y, 2)[::-1]  # well-conditioned, then moved back
    expected = {"a": a - 1955 * b + 1955**2 * c, "b": b - 2 * 1955 * c, "c": c}
    fit = jaxreg.curve_fit(
        model, years, y, {name: expected[name] * (1 + error * part) for name, part in zip("abc", shift, strict=True)}
    )
    for name, value in expected.items():
        # 1e-6 of the standard error: ten digits of 1e7 standard deviations' worth of level.
        np.testing.assert_allclose(fit.params[name], value, atol=1e-6 * float(fit.stderr[name]))


# ---- bad arguments ----

FIT: dict[str, Any] = {"model": decay, "x": X, "y": Y, "p0": P0}

BAD_ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "fewer points than parameters": (
        {"x": X[:1], "y": Y[:1]},
        "y must have at least as many points as there are parameters, 2, got 1",
    ),
    "targets (n, 1)": ({"y": Y[:, None]}, r"the model's prediction must have y's shape \(30, 1\), got \(30,\)"),
    "lengths": ({"y": Y[:5]}, r"the model's prediction must have y's shape \(5,\), got \(30,\)"),
    "no points": ({"x": X[:0], "y": Y[:0]}, r"y must have at least one point, got shape \(0,\)"),
    "sigma (5,)": (
        {"sigma": SIGMA[:5]},
        r"sigma must be a number, have y's shape \(30,\), or be a covariance of .* \(30, 30\), got shape \(5,\)",
    ),
    "sigma zero": ({"sigma": 0.0}, "sigma must be positive and finite, got .*0"),
    "a negative sigma": ({"sigma": SIGMA - 1}, "sigma must be positive and finite, got .*-0.5"),
    "infinite sigma": ({"sigma": np.inf}, "sigma must be positive and finite, got .*inf"),
    "no parameters": ({"p0": {}}, "p0 must hold at least one number, got none"),
    "no start for a function": ({"p0": None}, "p0 must be given where the model has no guess"),
    "no start for a model": ({"p0": None, "model": models.Model(models.ohm().init, decay)}, "p0 must be given"),
    "predictions (n, 1)": (
        {"model": lambda params, x: decay(params, x)[:, None]},
        r"the model's prediction must have y's shape \(30,\), got \(30, 1\)",
    ),
    "one prediction": (
        {"model": lambda params, x: params["a"] * x.sum()},
        r"the model's prediction must have y's shape \(30,\), got \(\)",
    ),
    "negative budget": ({"max_steps": -1}, "max_steps must be at least 0, got -1"),
    "a wrong name": ({"p0": {"a": 1.0, "rate": 1.0}}, "params must have 'k', which the model reads, got a, rate"),
    "SciPy's order": (
        {"model": lambda x, a, k: a * jnp.exp(-k * x)},
        r"a function f\(params, x\), got one of \(x, a, k\): models.positional makes one",
    ),
    "bounds of other names": (
        {"bounds": ({"b": 0.0}, {"b": 1.0})},
        "bounds must name parameters, of 'a', 'k', got 'b'",
    ),
    "no model": ({"model": "decay"}, r"model must be a Model or a function f\(params, x\), got str"),
}


@DOUBLE
@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS.keys())
def test_a_bad_argument_is_named_with_what_was_wanted_and_got(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        jaxreg.curve_fit(**(FIT | arguments))


@DOUBLE
def test_a_traced_budget_is_sent_to_static() -> None:
    with pytest.raises(ValueError, match=r"max_steps fixes shapes, .* put it in static="):
        jax.jit(lambda budget: fit_decay(max_steps=budget))(3)


@pytest.mark.parametrize("unit", [1e-25, 1e25])
def test_squares_beyond_the_range_of_the_dtype_leave_the_fit_as_it_is(unit):
    x = jnp.linspace(-1.0, 1.0, 20)
    y = unit * (jnp.exp(-(x**2)) + 0.01 * jax.random.normal(jax.random.key(0), x.shape))
    fit = jaxreg.curve_fit(lambda p, x: p * jnp.exp(-(x**2)), x, y, jnp.asarray(2 * unit))
    assert fit.status == Status.OK
    np.testing.assert_allclose(fit.params, unit, atol=4 * fit.stderr)
    assert 0 < fit.stderr < 0.01 * unit
    assert jnp.isnan(fit.covariance[0, 0])  # its square is out of range
    with_sigma = jaxreg.curve_fit(lambda p, x: p * unit * jnp.exp(-(x**2)), x, y, jnp.asarray(2.0), sigma=0.01 * unit)
    assert with_sigma.status == Status.OK
    np.testing.assert_allclose(with_sigma.params, 1, atol=4 * with_sigma.stderr)
