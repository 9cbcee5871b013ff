"""Losses against formulas written in NumPy (float64) and SciPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxreg import losses
from jaxreg.losses._kinds import is_elementwise

DELTA = 1.3
# name -> (loss, its value as a function of the residual, its derivative)
LOSSES = {
    "squared": (losses.squared, lambda r: r**2 / 2, lambda r: r),
    "absolute": (losses.absolute, np.abs, np.sign),
    "huber": (
        partial(losses.huber, delta=DELTA),
        lambda r: scipy.special.huber(DELTA, r),
        lambda r: np.clip(r, -DELTA, DELTA),
    ),
    "pseudo_huber": (
        partial(losses.pseudo_huber, delta=DELTA),
        lambda r: scipy.special.pseudo_huber(DELTA, r),
        lambda r: r / np.sqrt(1 + (r / DELTA) ** 2),
    ),
    "log_cosh": (losses.log_cosh, lambda r: np.log(np.cosh(r)), np.tanh),
    "quantile": (
        partial(losses.quantile, q=0.9),
        lambda r: np.where(r > 0, 0.1 * r, -0.9 * r),
        lambda r: np.where(r > 0, 0.1, np.where(r < 0, -0.9, 0.0)),
    ),
    "cauchy": (
        partial(losses.cauchy, delta=DELTA),
        lambda r: DELTA**2 / 2 * np.log(1 + (r / DELTA) ** 2),
        lambda r: r / (1 + (r / DELTA) ** 2),
    ),
    "tukey": (
        partial(losses.tukey, delta=DELTA),
        lambda r: np.where(np.abs(r) > DELTA, DELTA**2 / 6, DELTA**2 / 6 * (1 - (1 - (r / DELTA) ** 2) ** 3)),
        lambda r: np.where(np.abs(r) > DELTA, 0.0, r * (1 - (r / DELTA) ** 2) ** 2),
    ),
}
THRESHOLDS = {"huber": "delta", "pseudo_huber": "delta", "cauchy": "delta", "tukey": "delta", "quantile": "q"}
RESIDUALS = np.array([0.0, 1e-3, -0.4, 1.0, -1.2999, 1.3001, 5.0, -30.0])

# In float32: zero, small, huge, infinite and none at all.
EXTREMES = jnp.array([0.0, 1e-8, -3e-6, 1e30, -1e30, jnp.inf, -jnp.inf, jnp.nan])

each_loss = pytest.mark.parametrize("name", LOSSES)


def derivative(fn):
    """Of an elementwise function."""
    return lambda values: jax.vmap(jax.grad(fn))(values)


@pytest.fixture(scope="module")
def doubles():
    """The values of each loss jitted and in the lanes of a vmap, and its derivatives by the prediction: one program."""
    target = np.linspace(-1, 1, len(RESIDUALS))

    @jax.jit
    def run(prediction, target):
        return {
            name: (
                loss(prediction, target),
                jax.vmap(loss)(prediction, target),
                derivative(lambda r, loss=loss: loss(r, jnp.zeros_like(r)))(RESIDUALS),
            )
            for name, (loss, _, _) in LOSSES.items()
        }

    with jax.enable_x64(True):
        return run(RESIDUALS + target, target)


@pytest.fixture(scope="module")
def singles():
    """At the extremes in float32: the values of each loss, its first and its second derivatives."""

    @jax.jit
    def run(residual):
        found = {}
        for name, (loss, _, _) in LOSSES.items():
            first = jax.grad(lambda r, loss=loss: loss(r, jnp.zeros_like(r)))
            found[name] = (
                loss(residual, jnp.zeros_like(residual)),
                jax.vmap(first)(residual),
                derivative(first)(residual),
            )
        return found

    return jax.tree.map(np.asarray, run(EXTREMES))


@each_loss
@pytest.mark.usefixtures("x64")
def test_value(name, doubles):
    loss, value, _ = LOSSES[name]
    target = np.linspace(-1, 1, len(RESIDUALS))
    jitted, lanes, _ = doubles[name]
    for got in (loss(RESIDUALS + target, target), jitted, lanes):
        np.testing.assert_allclose(got, value(RESIDUALS), rtol=1e-12, atol=1e-15)


@each_loss
def test_derivative(name, doubles):
    np.testing.assert_allclose(doubles[name][2], LOSSES[name][2](RESIDUALS), rtol=1e-12, atol=1e-15)


@each_loss
def test_float32_value_is_right_to_rounding_of_the_residual_squared(name):
    loss, value, _ = LOSSES[name]
    # log cosh is a difference of numbers near log 2, so it is only right to its rounding, 1.2e-7.
    got = loss(jnp.asarray(RESIDUALS, jnp.float32), jnp.zeros(len(RESIDUALS)))
    np.testing.assert_allclose(got, value(RESIDUALS), rtol=3e-5, atol=1.2e-7 if name == "log_cosh" else 1e-12)


@each_loss
def test_first_and_second_derivative_at_zero_are_finite(name, singles):
    _, first, second = singles[name]
    assert first[0] == 0
    assert np.isfinite(second[0])


@pytest.mark.parametrize("name", ["squared", "huber", "pseudo_huber", "cauchy", "tukey"])
def test_small_residuals_have_exact_gradients_in_float32(name, singles):
    np.testing.assert_allclose(singles[name][1][1:3], EXTREMES[1:3], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "slope"), [("absolute", 1.0), ("huber", DELTA), ("pseudo_huber", DELTA), ("cauchy", 0.0), ("tukey", 0.0)]
)
def test_huge_residuals_keep_finite_gradients(name, slope, singles):
    value, first, _ = singles[name]
    np.testing.assert_allclose(first[3:7], [slope, -slope, slope, -slope], atol=1e-20, rtol=1e-6)
    assert not np.isnan(value[3:7]).any()


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "tukey"])  # which is a constant far away
def test_a_nan_residual_stays_nan(name, singles):
    assert np.isnan(singles[name][0][7])


@each_loss
def test_shapes_that_differ_are_refused_with_both_named(name):
    loss, _, _ = LOSSES[name]
    with pytest.raises(ValueError, match=r"must have the same shape, got \(4, 1\) and \(4,\)"):
        loss(jnp.zeros((4, 1)), jnp.zeros(4))


@each_loss
def test_complex_numbers_are_refused(name):
    loss, _, _ = LOSSES[name]
    with pytest.raises(ValueError, match="prediction must be of real numbers, got complex64"):
        loss(jnp.zeros(4, complex), jnp.zeros(4))
    with pytest.raises(ValueError, match="target must be of real numbers, got complex64"):
        loss(jnp.zeros(4), jnp.zeros(4, complex))


def test_thresholds_may_be_traced():
    def each(value):
        ones = jnp.full(1, 0.5)
        return {name: getattr(losses, name)(ones, 0 * ones, **{key: value}) for name, key in THRESHOLDS.items()}

    values = np.array([0.2, 0.7], np.float32)
    got = jax.jit(jax.vmap(each))(values)
    for index, value in enumerate(values.tolist()):
        for name, alone in each(value).items():
            np.testing.assert_allclose(got[name][index], alone, rtol=1e-6, err_msg=name)


@pytest.mark.usefixtures("x64")
def test_the_derivative_of_hubers_loss_by_its_threshold_is_what_lies_beyond():
    slope = jax.jit(jax.vmap(jax.grad(lambda delta, r: losses.huber(r, 0 * r, delta=delta)), (None, 0)))
    np.testing.assert_allclose(slope(DELTA, RESIDUALS), np.maximum(np.abs(RESIDUALS) - DELTA, 0), rtol=1e-12)


def test_the_quantile_loss_is_least_at_the_quantile():
    target = jax.random.normal(jax.random.key(0), (999,))
    candidates = jnp.sort(target)
    total = jax.vmap(lambda value: losses.quantile(jnp.full(999, value), target, q=0.8).sum())(candidates)
    assert candidates[jnp.argmin(total)] == np.quantile(np.asarray(target), 0.8, method="inverted_cdf")


@pytest.mark.usefixtures("x64")
def test_irls_weights_are_slope_over_residual():
    residual = np.array([1e-3, -0.4, 1.0, 5.0])
    names = ["squared", "absolute", "huber", "pseudo_huber", "cauchy", "tukey", "log_cosh"]
    weights = jax.jit(lambda r: {name: losses.irls_weight(LOSSES[name][0], r, jnp.zeros_like(r)) for name in names})
    for name, got in weights(residual).items():
        np.testing.assert_allclose(got, LOSSES[name][2](residual) / residual, rtol=1e-9, atol=1e-15, err_msg=name)


def test_irls_weights_stop_growing_at_the_floor():
    got = losses.irls_weight(losses.absolute, jnp.array([0.0, 1e-9, 0.5]), jnp.zeros(3), floor=0.01)
    np.testing.assert_allclose(got, [0.0, 100.0, 2.0], rtol=1e-6)


def test_soft_l1_is_scipys_name_of_pseudo_huber():
    assert losses.soft_l1 is losses.pseudo_huber


def test_a_threshold_for_each_row_makes_a_loss_that_couples_them() -> None:
    scalar, rows = partial(losses.huber, delta=0.5), partial(losses.huber, delta=np.ones(4))
    assert is_elementwise(partial(scalar))
    assert not is_elementwise(rows)
    assert not is_elementwise(partial(rows))


def test_a_named_loss_has_no_weights_and_is_told_what_has() -> None:
    with pytest.raises(ValueError, match=r"loss must be a function such as losses\.tukey, got 'tukey'"):
        losses.irls_weight("tukey", jnp.zeros(3), jnp.ones(3))
