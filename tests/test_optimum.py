"""OK is said of optima only: the share of χ² that an undamped Gauss-Newton step would take is computed in NumPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxreg
from jaxreg import Status, models

pytestmark = pytest.mark.usefixtures("x64")

X = np.linspace(1.0, 10.0, 40)


def decay(params: Any, x: Any) -> Any:
    return params["a"] * jnp.exp(-params["b"] * x)


FAMILIES = {"saturation": 2.0, "power": 1.7, "diode": 2.0}


def any_family(params: Any, x: Any) -> Any:
    """All in one, chosen by a second column, so that every program is compiled once for all."""
    (x, family), (a, b) = x.T, (params["a"], params["b"])
    return jnp.select([family == 0, family == 1], [a * x / (b + x), a * x**b], a * jnp.expm1(x / b))


POINTS = {name: np.stack([X, np.full(40, number)], axis=1) for number, name in enumerate(FAMILIES)}
SEEDS = 30


def noisy(family: str, size: float) -> np.ndarray:
    """A data set for each seed, of amplitude ``size``, with 1 % noise."""
    curve = np.asarray(any_family({"a": 1.0, "b": FAMILIES[family]}, POINTS[family]))
    noise = np.stack([np.random.default_rng(seed).standard_normal(len(X)) for seed in range(SEEDS)])
    return size * curve * (1 + 0.01 * noise)


values_and_slopes = jax.jit(
    jax.vmap(lambda params, x: (any_family(params, x), jax.jacfwd(any_family)(params, x)), in_axes=(0, None))
)


def shares(family: str, params: Any, y: np.ndarray) -> np.ndarray:
    """Of each χ², that the Gauss-Newton step takes away: ‖Qᵀr‖²/‖r‖², by the QR of columns of length 1."""
    values, slopes = jax.tree.map(np.asarray, values_and_slopes(params, POINTS[family]))
    columns = np.stack([slopes["a"], slopes["b"]], axis=2)
    columns = columns / np.abs(columns).max(axis=1, keepdims=True)
    q, _ = np.linalg.qr(columns / np.linalg.norm(columns, axis=1, keepdims=True))
    unit = (values - y) / np.abs(values - y).max(axis=1, keepdims=True)
    return np.sum(np.einsum("mnp,mn->mp", q, unit) ** 2, axis=1) / np.sum(unit**2, axis=1)


@pytest.mark.parametrize("family", FAMILIES)
def test_amplitudes_in_any_unit_are_found_from_one_and_ok_is_an_optimum(family: str) -> None:
    for size in (1e-8, 1e-12, 1e-15, 1e-18):
        y = noisy(family, size)
        fits = jaxreg.fit_many(any_family, POINTS[family], y, {"a": 1.0, "b": 1.0})
        assert (fits.status == Status.OK).all()
        assert shares(family, fits.params, y).max() < 1e-13
        np.testing.assert_allclose(fits.params["a"] / size, 1, atol=0.1)
        np.testing.assert_allclose(fits.params["b"], FAMILIES[family], rtol=0.1)
    for size in (1e-30, 1e-100, 1e12, 1e30):  # where that is too much to ask, nothing else may be called OK
        y = noisy(family, size)
        fits = jaxreg.fit_many(any_family, POINTS[family], y, {"a": 1.0, "b": 1.0})
        said = fits.status == Status.OK
        assert not said.any() or shares(family, fits.params, y)[said].max() < 1e-13


def test_a_saturation_in_pico_units_from_ones_is_that_of_scipy() -> None:
    y = 3e-12 * X / (2 + X) * (1 + 0.01 * np.random.default_rng(5).standard_normal(40))
    model = models.expression("V*x/(K+x)")
    # SciPy's from the same start, and from y·1e12.
    for bounds in (None, (-np.inf, np.inf), (0.0, 10.0)):
        fit = jaxreg.curve_fit(model, X, y, {"V": 1.0, "K": 1.0}, bounds=bounds)
        assert int(fit.status) == Status.OK
        np.testing.assert_allclose(fit.params["K"], 1.96207, rtol=5e-6)
        np.testing.assert_allclose(fit.params["V"], 2.97362e-12, rtol=5e-6)
        np.testing.assert_allclose(fit.chi2, 1.048e-26, rtol=5e-4)


Y = 2.0 * np.exp(-0.4 * X) + 0.05 * np.random.default_rng(0).standard_normal(40)


def scaled(size: float, length: float, dtype: Any = float, **options: Any) -> Any:
    """The decay with y·size and x·length, and as it is read back in the first units."""
    x, y = (X * length).astype(dtype), (Y * size).astype(dtype)
    start = {"a": np.asarray(size, dtype), "b": np.asarray(1 / length, dtype)}
    fit = jax.tree.map(np.asarray, jaxreg.curve_fit(decay, x, y, start, **options).without_data())
    units = np.array([size, 1 / length])
    with np.errstate(all="ignore"):
        return fit.replace(
            params={name: np.asarray(fit.params[name] / unit) for name, unit in zip("ab", units, strict=True)},
            stderr={name: np.asarray(fit.stderr[name] / unit) for name, unit in zip("ab", units, strict=True)},
            covariance=fit.covariance / units[:, None] / units[None],
            residuals=fit.residuals / size,
            chi2=fit.chi2 / size / size,
            scale=None if fit.scale is None else fit.scale / size,
        )


ROBUST = {"loss": "huber", "scale": "mad"}


@pytest.mark.parametrize("options", [{}, ROBUST], ids=["squared", "huber"])
@pytest.mark.parametrize(("size", "length"), [(1e140, 1.0), (1e-140, 1.0), (1.0, 1e140), (1.0, 1e-140)])
def test_units_of_y_and_x_change_no_field(size: float, length: float, options: Any) -> None:
    one, other = scaled(1.0, 1.0, **options), scaled(size, length, **options)
    assert (int(one.status), int(other.status)) == (Status.OK, Status.OK)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), one, other)


@pytest.mark.parametrize(("size", "length"), [(1e14, 1.0), (1e-14, 1.0), (1.0, 1e14), (1.0, 1e-14)])
def test_units_change_no_field_in_single_precision(size: float, length: float) -> None:
    with jax.enable_x64(False):
        one, other = (scaled(*units, np.float32) for units in ((1.0, 1.0), (size, length)))
    assert (int(one.status), int(other.status)) == (Status.OK, Status.OK)
    one, other = (fit.replace(num_steps=0) for fit in (one, other))  # rounding may have asked for one more
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one, other)


@pytest.mark.parametrize("size", [1e300, 1e-300])
def test_status_and_errors_hold_to_the_end_of_the_range(size: float) -> None:
    wanted = scaled(1.0, 1.0)
    for found in (scaled(size, 1.0), scaled(1.0, size), scaled(1.0, 1.0, sigma=size)):
        assert int(found.status) == Status.OK
        for name in "ab":
            np.testing.assert_allclose(found.params[name], wanted.params[name], rtol=1e-7)
            np.testing.assert_allclose(found.stderr[name], wanted.stderr[name], rtol=1e-6)
    with jax.enable_x64(False):
        for unit in (1e30, 1e-30):
            found = scaled(unit, 1.0, np.float32)
            assert int(found.status) == Status.OK
            np.testing.assert_allclose(found.stderr["b"], wanted.stderr["b"], rtol=1e-3)
            assert np.isnan(found.covariance[0, 0])  # its unit's square is out of float32's range
            assert np.isfinite(found.covariance[1, 1])


def test_an_absolute_sigma_in_any_unit_gives_errors_in_it() -> None:
    one = scaled(1.0, 1.0, sigma=1.0, absolute_sigma=True)
    for size in (1e-200, 1e200):
        found = scaled(1.0, 1.0, sigma=size, absolute_sigma=True)
        assert int(found.status) == Status.OK
        for name in "ab":
            np.testing.assert_allclose(found.stderr[name] / size, one.stderr[name], rtol=1e-9)


def test_a_peak_in_attounits_is_fitted_in_single_precision() -> None:
    x = np.linspace(1, 2, 100).astype("f")
    noise = 0.1 * np.random.default_rng(0).standard_normal(100)
    with jax.enable_x64(False):
        for size in (1e-18, 1.0, 1e18):
            y = ((1.2 * np.exp(-0.5 * ((x - 1.4) / 0.11) ** 2) + noise) * size).astype("f")
            one = jaxreg.curve_fit(models.gaussian(), x, y)
            many = jaxreg.fit_many(models.gaussian(), x, y[None])[0]
            for fit in (one, many):
                assert int(fit.status) == Status.OK
                np.testing.assert_allclose(fit.params["amplitude"] / size, 1.2589, rtol=1e-4)
                np.testing.assert_allclose(fit.stderr["amplitude"] / size, 0.02676, rtol=1e-3)
                np.testing.assert_allclose(fit.params["center"], 1.40410, rtol=1e-5)
                np.testing.assert_allclose(fit.stderr["center"], 0.0026229, rtol=1e-3)


LINE = models.expression("a*x+b")


def test_zero_targets_have_a_zero_curve_and_no_error() -> None:
    x, start = np.linspace(1.0, 10.0, 50), {"a": 0.1, "b": 0.1}
    one = jaxreg.curve_fit(LINE, x, 0 * x, start)
    many = jaxreg.fit_many(LINE, x, 0 * x[None], start)[0]
    for fit in (one, many):
        assert int(fit.status) == Status.OK
        np.testing.assert_allclose([fit.params["a"], fit.params["b"]], 0, atol=1e-100)
        assert (float(fit.stderr["a"]), float(fit.stderr["b"]), float(fit.chi2)) == (0, 0, 0)
    # Of a curve that is zero everywhere the data say nothing about its decay.
    fit = jaxreg.curve_fit(decay, X, 0 * X, start)
    assert int(fit.status) == Status.SINGULAR
    np.testing.assert_allclose(fit.undetermined, [0, 1], atol=1e-12)


def test_a_line_over_seconds_since_1970_is_found() -> None:
    n = 50
    x = 1.7e9 + 1e-4 * np.arange(n)
    y = np.arange(n) + 0.3 * np.random.default_rng(0).standard_normal(n)
    fit = jaxreg.curve_fit(LINE, x, y)
    assert int(fit.status) == Status.OK
    # By exact rational arithmetic; b = -1.7e13 rounds by 0.002, 50 residuals of 0.25 with it, so χ² to a few 1e-3.
    np.testing.assert_allclose(fit.chi2, 3.20632, rtol=2e-3)


# NIST's Wampler4 and 5: a polynomial of degree 5 with all coefficients 1, and these deviations times 100 and 10,000.
DEVIATIONS = np.array([759, -2048, 2048, -2048, 2523, -2048, 2048, -2048, 1838, -2048, 2048], float)
DEVIATIONS = np.concatenate([DEVIATIONS, DEVIATIONS[-2::-1]])


@pytest.mark.parametrize(("size", "digits"), [(100, 7.0), (10_000, 5.4)])
def test_the_last_step_is_taken(size: float, digits: float) -> None:
    x = np.arange(21.0)
    y = sum(x**power for power in range(6)) + size * DEVIATIONS
    model = models.expression("b0 + b1*x + b2*x**2 + b3*x**3 + b4*x**4 + b5*x**5")
    names = [f"b{power}" for power in range(6)]
    for start in (None, dict.fromkeys(names, 1 + 1e-6), dict.fromkeys(names, 0.0)):
        fit = jaxreg.curve_fit(model, x, y, start)
        assert int(fit.status) == Status.OK
        assert max(abs(float(value) - 1) for value in fit.params.values()) < 10**-digits


def bent(params: Any, x: Any) -> Any:
    return params["o"] + params["a"] * jnp.exp(params["k"] * x)


def test_a_last_step_that_makes_it_worse_is_not_taken() -> None:
    # A line: as k goes to 0 the curve is one, along a valley in which a whole step is long.
    x = np.linspace(0, 1, 40)
    start = {"o": 1e12, "a": 1.0, "k": 1.0}
    y = np.stack([1e12 + 3 * x + np.random.default_rng(seed).standard_normal(40) for seed in range(12)])
    line = np.stack([np.ones(40), x], axis=1)
    wanted = np.array([np.linalg.lstsq(line, row - 1e12, rcond=None)[1][0] for row in y])
    # What the rounding of y hides in χ², 4 eps ‖y‖ ‖residual‖.
    hidden = 4 * np.finfo(float).eps * np.linalg.norm(y, axis=1) * np.sqrt(wanted)
    many = jaxreg.fit_many(bent, x, y, start)
    assert (many.chi2 < wanted + 2 * hidden).all()
    assert float(jaxreg.curve_fit(bent, x, y[2], start).chi2) < wanted[2] + 2 * hidden[2]


def timed_or_added(params: Any, x: Any) -> Any:
    x, added = x.T
    fallen = jnp.exp(-params["b"] * x)
    return jnp.where(added == 1, params["a"] + fallen, params["a"] * fallen)


@pytest.mark.parametrize("added", [0.0, 1.0], ids=["times", "plus"])
def test_a_model_that_has_died_out_has_no_kink(added: float) -> None:
    x, y = np.stack([np.arange(4.0), np.full(4, added)], axis=1), np.array([1.0, -1.0, -1.0, -1.0])
    fit = jaxreg.curve_fit(timed_or_added, x, y, {"a": 1.0, "b": 0.1})
    assert int(fit.status) == Status.SINGULAR
    np.testing.assert_allclose(np.abs(fit.undetermined), [0, 1], atol=1e-6)


# Optima at which a column of the Jacobian vanishes or two coincide: from anywhere the parameter is driven there, as the
# data want what the model cannot give. Each with the least χ² over the others, and the combination that is not told.
ROOT = np.linspace(0.5, 5, 20)
NOISE = 0.02 * np.random.default_rng(0).standard_normal(20)
TIMES = np.arange(1.0, 11.0)
DEGENERATE = {
    "a square that wants to be negative": (
        lambda p, x: p["a"] * jnp.exp(-(p["b"] ** 2) * x),
        (ROOT, 2 * np.exp(0.1 * ROOT) + NOISE),
        [{"a": 1.0, "b": 0.3}, {"a": 3.0, "b": -1.0}, {"a": 0.5, "b": 2.0}],
        lambda y: np.sum((y - y.mean()) ** 2),
        [0, 1],
    ),
    "a fourth power": (
        lambda p, x: 1 + p["b"] ** 4 * x,
        (ROOT, 1 - 0.1 * ROOT + NOISE),
        [{"b": 0.3}, {"b": -1.0}, {"b": 2.0}],
        lambda y: np.sum((y - 1) ** 2),
        [1],
    ),
    "two that change places": (  # Jennrich and Sampson's, number 6 of Moré, Garbow and Hillstrom's
        lambda p, x: jnp.exp(p["u"] * x) + jnp.exp(p["v"] * x),
        (TIMES, 2 + 2 * TIMES),
        [{"u": 0.3, "v": 0.4}, {"u": 0.1, "v": 0.2}, {"u": 0.25, "v": 0.3}],
        lambda y: (
            scipy.optimize.minimize_scalar(
                lambda u: np.sum((y - 2 * np.exp(u * TIMES)) ** 2), bracket=(0.2, 0.3), tol=1e-12
            ).fun
        ),
        [np.sqrt(0.5), np.sqrt(0.5)],
    ),
}


@pytest.mark.parametrize("kind", DEGENERATE)
def test_an_optimum_where_the_jacobian_is_singular_is_neither_a_kink_nor_out_of_steps(kind: str) -> None:
    model, (x, y), starts, least, direction = DEGENERATE[kind]
    each = {name: np.array([start[name] for start in starts]) for name in starts[0]}
    many = jaxreg.fit_many(model, x, np.tile(y, (len(starts), 1)), each, p0_each=True)
    for fit in (many, jaxreg.curve_fit(model, x, y, starts[0])):
        assert (np.asarray(fit.status) == Status.SINGULAR).all()
        assert (np.asarray(fit.num_steps) < 500).all()
        np.testing.assert_allclose(fit.chi2, least(y), rtol=1e-9)
        np.testing.assert_allclose(np.abs(fit.undetermined) - direction, 0, atol=1e-3)


def above(params: Any, x: Any) -> Any:
    """A decay to an offset, less the second column."""
    return decay(params, x[:, 0]) + params["c"] - x[:, 1]


@pytest.mark.parametrize("noise", [1e-2, 1e-7, 0.0])
def test_data_inside_the_model_are_fitted_as_data_beside_it(noise: float) -> None:
    y = 2.5 * np.exp(-1.3 * X) + 0.5 + noise * np.random.default_rng(0).standard_normal(X.size)
    start, zero = {"a": 1.0, "b": 1.0, "c": 1.0}, np.zeros_like(y)
    beside = jaxreg.curve_fit(above, np.stack([X, zero], axis=1), y, start)
    inside = jaxreg.curve_fit(above, np.stack([X, y], axis=1), zero, start)
    assert int(beside.status) == int(inside.status) == Status.OK
    for one, other in zip(beside.params.values(), inside.params.values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8)
    if noise:
        np.testing.assert_allclose(list(beside.stderr.values()), list(inside.stderr.values()), rtol=1e-4)


def test_a_start_at_which_one_parameter_moves_nothing_lets_the_others_move() -> None:
    x = np.stack([np.arange(4.0), np.zeros(4)], axis=1)
    fit = jaxreg.curve_fit(timed_or_added, x, np.array([2.0, 1.0, 0.5, 0.25]), {"a": 1.0, "b": 100.0})
    assert int(fit.status) == Status.SINGULAR
    np.testing.assert_allclose([fit.params["a"], fit.chi2], [2, 1.3125], rtol=1e-12)  # of the first row alone
    np.testing.assert_allclose(np.abs(fit.undetermined), [0, 1], atol=1e-9)


def logistic(params: Any, x: Any) -> Any:
    return params[0] / (1 + jnp.exp(-params[1] * (x - params[2])))


def two_decays(params: Any, x: Any) -> Any:
    return params[0] * jnp.exp(-params[1] * x) + params[2] * jnp.exp(-params[3] * x)


def test_a_smooth_model_that_a_start_has_killed_has_no_kink() -> None:
    y = 3 / (1 + np.exp(-1.5 * (X - 4))) + np.random.default_rng(0).normal(0, 0.05, X.size)
    fit = jaxreg.curve_fit(logistic, X, y, np.array([3.0, 13.0, -5.0]))
    assert int(fit.status) == Status.SINGULAR
    np.testing.assert_allclose([fit.params[0], fit.chi2], [y.mean(), np.sum((y - y.mean()) ** 2)], rtol=1e-9)


# Starts so far off, and noise as large as the data, that the curve runs off: of a thousand data sets some that were
# called kinks once, or moved about at the optimum for 5,000 steps.
FAR = {
    "a curve that has become a step": (logistic, np.linspace(-3, 5, 40), [2.0, 1.5, 1.0], [235, 312, 345, 546]),
    "two decays that have become one": (two_decays, np.linspace(0, 5, 40), [1.0, 0.5, 2.0, 3.0], [13, 23, 62, 138]),
}


@pytest.mark.parametrize("kind", FAR)
def test_an_optimum_that_has_run_off_is_not_determined(kind: str) -> None:
    model, x, params, rows = FAR[kind]
    random, curve = np.random.default_rng(5), np.asarray(model(np.array(params), x))
    noise = random.standard_normal((1000, x.size))
    starts = np.array(params) * np.exp(2 * random.standard_normal((1000, len(params))))
    for row in rows:
        fit = jaxreg.curve_fit(model, x, curve + curve.std() * noise[row], starts[row])
        assert int(fit.status) == Status.SINGULAR, row
        assert int(fit.num_steps) < 600, row


def test_a_combination_too_weak_for_the_whole_step_is_not_determined() -> None:
    # Of an oscillation two decays make amplitudes of opposite sign that grow for ever as the rates come together.
    y = 2 * np.exp(-0.3 * X) * np.cos(0.5 * X) + np.random.default_rng(0).normal(0, 0.05, X.size)
    fit = jaxreg.curve_fit(two_decays, X, y, np.array([7.0, 0.4, -4.0, 0.3]))
    assert int(fit.status) == Status.SINGULAR
    np.testing.assert_allclose(np.abs(fit.undetermined), [np.sqrt(0.5), 0, np.sqrt(0.5), 0], atol=1e-2)


@pytest.mark.parametrize("start", [5.0, 20.0])
def test_a_start_far_off_does_not_hide_the_optimum_of_data_inside_the_model(start: float) -> None:
    x = np.linspace(0, 10, 50)
    y = 3 * np.exp(-0.5 * x) + np.random.default_rng(0).normal(0, 0.1, 50)
    fit = jaxreg.curve_fit(data_less_decay, np.stack([x, y], axis=1), np.zeros(50), {"a": 1.0, "b": -start})
    assert int(fit.status) == Status.OK
    np.testing.assert_allclose([*fit.params.values(), fit.chi2], [3.02254639, 0.51104163, 0.41761973], rtol=1e-6)


def data_less_decay(params: Any, x: Any) -> Any:
    return x[:, 1] - decay(params, x[:, 0])


@pytest.mark.parametrize("size", [200.0, 1e3])
def test_a_large_residual_does_not_make_a_regular_jacobian_singular(size: float) -> None:
    y = np.array([-size, 0.01])
    fit = jaxreg.curve_fit(lambda p, x: jnp.where(x < 0.5, p[0] ** 2, p[0]), np.arange(2.0), y, np.ones(1))
    assert int(fit.status) == Status.OK
    np.testing.assert_allclose(fit.params, [0.01 / (1 + 2 * size)], rtol=0.02)  # rounding hides the rest in χ²


def test_a_parameter_at_a_bound_that_moves_nothing_is_not_determined() -> None:
    fit = jaxreg.curve_fit(lambda p, x: p["a"] * p["b"] * x, X, 4 * X, {"a": 0.0, "b": 0.0}, bounds=(0, np.inf))
    assert int(fit.status) == Status.SINGULAR
