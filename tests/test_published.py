"""The published single runs of the exercises lie within 200 replicates of them.

The numbers are those of narcissuskid, "3.4. Linear Regression Implementation from Scratch" (solutions to the exercises
of Dive into Deep Learning, section 3.4), 2023-08-14. One run is one draw of data, start and order, so it is held
against the 0.5 and 99.5 percentiles of draws of the same set-up.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxreg
from jaxreg import data, losses, models

KEYS = jax.random.split(jax.random.key(0), 200)
TRAINING = functools.partial(jaxreg.train, epochs=3, batch_size=32)  # as published


def line_data(key: jax.Array) -> data.Dataset:
    return data.linear(key, 1000, jnp.array([2.0, -3.4]), 4.2, noise=0.01)


def assert_within_replicates(published: list[float], samples: Any) -> None:
    """Published numbers (p,) against finite replicates (200, p)."""
    low, high = np.percentile(samples, [0.5, 99.5], axis=0)
    assert (low <= published).all(), (low, published)
    assert (published <= high).all(), (published, high)


def columns(result: jaxreg.Training) -> np.ndarray:
    """w and b of each replicate: (…, d + 1)."""
    return np.concatenate([result.params["w"], result.params["b"][..., None]], axis=-1)


# Squared loss (½), mean over the batch.
LEARNING_RATES = {
    0.003: [0.4372, -0.8910, 1.0680],
    0.03: [1.8396, -3.2372, 3.9771],
    0.3: [2.0009, -3.3990, 4.1986],
    3.0: [-3.2974e29, 4.5504e29, -7.8700e28],
}


@pytest.fixture(scope="module")
def squared() -> Callable[[float], jaxreg.Training]:
    """200 replicates at a learning rate; one program for all rates."""

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 0))
    def fit(learning_rate: Any, key: jax.Array) -> jaxreg.Training:
        key_data, key_fit = jax.random.split(key)
        optimizer = optax.sgd(learning_rate)
        return TRAINING(models.linear(2), losses.squared, line_data(key_data), optimizer=optimizer, key=key_fit)

    return lambda learning_rate: fit(learning_rate, KEYS)


@pytest.mark.parametrize(("learning_rate", "published"), LEARNING_RATES.items())
def test_squared_loss_at_each_learning_rate(
    squared: Callable[[float], jaxreg.Training], learning_rate: float, published: list[float]
) -> None:
    assert_within_replicates(published, columns(squared(learning_rate)))


def test_at_learning_rate_3_every_loss_was_infinite_long_before_the_published_params(
    squared: Callable[[float], jaxreg.Training],
) -> None:
    result = squared(3.0)
    assert np.isinf(result.train_loss).any(axis=1).all()
    assert np.mean(np.asarray(result.status) == jaxreg.Status.OK) > 0.95  # 1e29 on the average leaves a tail past 3e38


def test_absolute_loss_summed_over_the_batch() -> None:
    @jax.jit
    @jax.vmap
    def fit(key: jax.Array) -> jaxreg.Training:
        key_data, key_fit = jax.random.split(key)
        rows = line_data(key_data)
        return TRAINING(
            models.linear(2), losses.absolute, rows, optimizer=optax.sgd(0.01), key=key_fit, reduction="sum"
        )

    assert_within_replicates([1.9236, -3.2809, 4.1000], columns(fit(KEYS)))


def test_ohm_as_a_line_with_a_bias() -> None:
    @jax.jit
    @jax.vmap
    def fit(key: jax.Array) -> jaxreg.Training:
        key_data, key_fit = jax.random.split(key)
        rows = data.linear(key_data, 1000, jnp.array([5.1]), noise=1.0)
        return TRAINING(models.linear(1), losses.squared, rows, optimizer=optax.sgd(0.03), key=key_fit)

    assert_within_replicates([4.7990, 0.0321], columns(fit(KEYS)))


def test_the_last_batch_of_each_epoch_has_eight_rows() -> None:
    def one(prediction: Any, target: Any) -> Any:
        return jnp.ones_like(target) + 0 * prediction

    rows = line_data(jax.random.key(1))
    options = {"optimizer": optax.sgd(0.03), "key": jax.random.key(2), "reduction": "sum"}
    sizes = np.asarray(TRAINING(models.linear(2), one, rows, **options).train_loss).reshape(3, 32)
    np.testing.assert_array_equal(sizes[:, -1], [8, 8, 8])
    np.testing.assert_array_equal(sizes[:, :-1], 32)
