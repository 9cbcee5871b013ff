import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import losses, models
from jaxreg.data import Dataset
from jaxreg.objective import empirical_risk

OHM = models.ohm()
PARAMS = {"resistance": jnp.array(2.0)}
X, Y = np.array([1.0, 2.0, 3.0]), np.array([1.0, 5.0, 7.0])
EACH = (2 * X - Y) ** 2 / 2
WEIGHT = np.array([0.5, 2.0, 0.0])


def rows(weight=None):
    return Dataset(jnp.asarray(X), jnp.asarray(Y), None if weight is None else jnp.asarray(weight))


@pytest.mark.parametrize(("reduction", "expected"), [("mean", EACH.mean()), ("sum", EACH.sum())])
def test_risk_reduces_the_losses(reduction, expected, variant):
    risk = empirical_risk(OHM, losses.squared, reduction=reduction)
    np.testing.assert_allclose(variant(risk)(PARAMS, rows()), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("reduction", "expected"), [("mean", np.average(EACH, weights=WEIGHT)), ("sum", EACH @ WEIGHT)]
)
def test_weights_weigh(reduction, expected, variant):
    risk = empirical_risk(OHM, losses.squared, reduction=reduction)
    np.testing.assert_allclose(variant(risk)(PARAMS, rows(WEIGHT)), expected, rtol=1e-6)


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_stands_in_a_row_without_weight_does_not_matter(bad, place):
    risk = jax.jit(jax.value_and_grad(empirical_risk(OHM, losses.squared)))
    weight = WEIGHT if place == 2 else WEIGHT[::-1]
    x, y = (np.where(np.arange(3) == place, bad, value) for value in (X, Y))
    value, gradient = risk(PARAMS, Dataset(x, y, weight))
    np.testing.assert_allclose(value, np.average(EACH, weights=weight), rtol=1e-6)
    np.testing.assert_allclose(gradient["resistance"], np.average((2 * X - Y) * X, weights=weight), rtol=1e-6)


def test_without_any_row_the_risk_is_zero_and_so_is_its_gradient():
    value, gradient = jax.value_and_grad(empirical_risk(OHM, losses.squared))(PARAMS, rows(np.zeros(3)))
    assert (value, gradient["resistance"]) == (0, 0)


def test_a_loss_beyond_the_range_is_infinite_beside_a_row_without_weight():
    assert empirical_risk(OHM, losses.squared)({"resistance": jnp.array(1e30)}, rows(WEIGHT)) == np.inf


def test_a_plain_function_serves_as_model():
    risk = empirical_risk(lambda slope, x: slope * x, losses.absolute)
    np.testing.assert_allclose(risk(2.0, rows()), np.abs(2 * X - Y).mean(), rtol=1e-6)


def test_an_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match="reduction must be one of 'mean', 'sum', got 'max'"):
        empirical_risk(OHM, losses.squared, reduction="max")


def test_a_loss_that_reduces_is_refused():
    risk = empirical_risk(OHM, lambda prediction, target: losses.squared(prediction, target).mean())
    with pytest.raises(ValueError, match=r"the loss of the rows must have shape \(3,\), got \(\)"):
        risk(PARAMS, rows())
