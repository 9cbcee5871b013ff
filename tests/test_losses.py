"""Losses against formulas written in NumPy (float64) and SciPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxreg import losses

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

each_loss = pytest.mark.parametrize("name", LOSSES)


def derivative(loss, residual):
    """The derivative by the prediction at the target zero."""
    return jax.vmap(jax.grad(lambda r: loss(r, jnp.zeros_like(r))))(residual)


@each_loss
@pytest.mark.usefixtures("x64")
def test_value(name, variant):
    loss, value, _ = LOSSES[name]
    target = np.linspace(-1, 1, len(RESIDUALS))
    got = variant(loss)(RESIDUALS + target, target)
    np.testing.assert_allclose(got, value(RESIDUALS), rtol=1e-12, atol=1e-15)


@each_loss
@pytest.mark.usefixtures("x64")
def test_derivative(name):
    loss, _, slope = LOSSES[name]
    np.testing.assert_allclose(derivative(loss, jnp.asarray(RESIDUALS)), slope(RESIDUALS), rtol=1e-12, atol=1e-15)


@each_loss
def test_float32_value_is_right_to_rounding_of_the_residual_squared(name):
    loss, value, _ = LOSSES[name]
    # log cosh is a difference of numbers near log 2, so it is only right to its rounding, 1.2e-7.
    got = loss(jnp.asarray(RESIDUALS, jnp.float32), jnp.zeros(len(RESIDUALS)))
    np.testing.assert_allclose(got, value(RESIDUALS), rtol=3e-5, atol=1.2e-7 if name == "log_cosh" else 1e-12)


@each_loss
def test_first_and_second_derivative_at_zero_are_finite(name):
    loss, _, _ = LOSSES[name]
    first = jax.grad(lambda r: loss(r, 0.0 * r))
    assert first(0.0) == 0
    assert np.isfinite(jax.grad(first)(0.0))


@pytest.mark.parametrize("name", ["squared", "huber", "pseudo_huber", "cauchy", "tukey"])
def test_small_residuals_have_exact_gradients_in_float32(name):
    loss, _, _ = LOSSES[name]
    small = jnp.array([1e-8, -3e-6])
    np.testing.assert_allclose(derivative(loss, small), small, rtol=1e-6)


@pytest.mark.parametrize("size", [1e30, np.inf])
@pytest.mark.parametrize(
    ("name", "slope"), [("absolute", 1.0), ("huber", DELTA), ("pseudo_huber", DELTA), ("cauchy", 0.0), ("tukey", 0.0)]
)
def test_huge_residuals_keep_finite_gradients(name, slope, size):
    loss, _, _ = LOSSES[name]
    np.testing.assert_allclose(derivative(loss, jnp.array([size, -size])), [slope, -slope], atol=1e-20)
    assert not np.isnan(loss(jnp.array([size]), jnp.zeros(1)))[0]


@each_loss
def test_a_nan_residual_stays_nan(name):
    if name == "tukey":  # beyond every threshold, by comparison
        return
    loss, _, _ = LOSSES[name]
    assert np.isnan(loss(jnp.array([jnp.nan]), jnp.zeros(1)))[0]


@each_loss
def test_shapes_that_differ_are_refused_with_both_named(name):
    loss, _, _ = LOSSES[name]
    with pytest.raises(ValueError, match=r"must have the same shape, got \(4, 1\) and \(4,\)"):
        loss(jnp.zeros((4, 1)), jnp.zeros(4))


@each_loss
def test_integers_are_refused(name):
    loss, _, _ = LOSSES[name]
    with pytest.raises(ValueError, match="prediction must be of a floating dtype, got int32"):
        loss(jnp.zeros(4, int), jnp.zeros(4))
    with pytest.raises(ValueError, match="target must be of a floating dtype, got int32"):
        loss(jnp.zeros(4), jnp.zeros(4, int))


@pytest.mark.parametrize(("name", "threshold"), THRESHOLDS.items())
def test_thresholds_may_be_traced(name, threshold):
    loss = getattr(losses, name)
    values = jnp.array([0.2, 0.7])
    got = jax.jit(jax.vmap(lambda value: loss(jnp.array([0.5]), jnp.array([0.0]), **{threshold: value})))(values)
    alone = [loss(jnp.array([0.5]), jnp.array([0.0]), **{threshold: float(value)}) for value in values]
    np.testing.assert_allclose(got, alone, rtol=1e-6)


def test_the_quantile_loss_is_least_at_the_quantile():
    target = jax.random.normal(jax.random.key(0), (999,))
    candidates = jnp.sort(target)
    total = jax.vmap(lambda value: losses.quantile(jnp.full(999, value), target, q=0.8).sum())(candidates)
    assert candidates[jnp.argmin(total)] == np.quantile(np.asarray(target), 0.8, method="inverted_cdf")


@pytest.mark.parametrize("name", ["squared", "absolute", "huber", "pseudo_huber", "cauchy", "tukey", "log_cosh"])
@pytest.mark.usefixtures("x64")
def test_irls_weights_are_slope_over_residual(name):
    loss, _, slope = LOSSES[name]
    residual = np.array([1e-3, -0.4, 1.0, 5.0])
    got = losses.irls_weight(loss, jnp.asarray(residual), jnp.zeros(4))
    np.testing.assert_allclose(got, slope(residual) / residual, rtol=1e-9, atol=1e-15)


def test_irls_weights_stop_growing_at_the_floor():
    got = losses.irls_weight(losses.absolute, jnp.array([0.0, 1e-9, 0.5]), jnp.zeros(3), floor=0.01)
    np.testing.assert_allclose(got, [0.0, 100.0, 2.0], rtol=1e-6)


def test_soft_l1_is_scipys_name_of_pseudo_huber():
    assert losses.soft_l1 is losses.pseudo_huber
