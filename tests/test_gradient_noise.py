"""Moments of SGD against all sequences of minibatches of a small problem, and against runs."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg
from jaxreg import curvature, gradient_noise, losses, models
from jaxreg.data import Dataset

RISK = jaxreg.empirical_risk(models.linear(2), losses.squared)
edge_of = jax.jit(gradient_noise.mean_square_edge, static_argnums=0, static_argnames="replace")
curve_of = jax.jit(gradient_noise.expected_training, static_argnums=0, static_argnames="replace")
START = {"b": np.array(0.5), "w": np.array([1.0, -2.0])}


@pytest.fixture(scope="module")
def five():
    """Five noisy rows: small enough for every sequence of minibatches to be run."""
    with jax.enable_x64(True):
        key_x, key_y = jax.random.split(jax.random.key(0))
        return Dataset(jax.random.normal(key_x, (5, 2), float), jax.random.normal(key_y, (5,), float))


def exact_curve(rows, rate, size, steps, *, replace):
    """The mean loss over all sequences of minibatches, each run in NumPy."""
    features, y = np.hstack([np.ones((5, 1)), np.asarray(rows.x)]), np.asarray(rows.y)
    batches = list(itertools.product(range(5), repeat=size) if replace else itertools.combinations(range(5), size))
    points, curve = [np.array([0.5, 1.0, -2.0])], []
    for step in range(steps + 1):
        residuals = np.array(points) @ features.T - y
        curve.append((residuals**2).mean() / 2)
        if step < steps:
            points = [
                point - rate * features[list(b)].T @ (features[list(b)] @ point - y[list(b)]) / size
                for point in points
                for b in batches
            ]
    return np.array(curve)


@pytest.mark.parametrize(("size", "replace"), [(1, False), (2, False), (2, True), (5, False)])
@pytest.mark.usefixtures("x64")
def test_the_expected_curve_is_the_mean_over_all_sequences(five, size, replace):
    steps = 3
    expected = curve_of(RISK, START, five, learning_rate=0.3, batch_sizes=jnp.full(steps, float(size)), replace=replace)
    # Both are sums of a few hundred float64 products.
    np.testing.assert_allclose(expected.loss, exact_curve(five, 0.3, size, steps, replace=replace), rtol=1e-11)
    np.testing.assert_allclose(expected.descent, exact_curve(five, 0.3, 5, steps, replace=False), rtol=1e-11)


@pytest.mark.usefixtures("x64")
def test_the_mean_square_edge_is_where_the_second_moment_begins_to_grow(five):
    features = np.hstack([np.ones((5, 1)), np.asarray(five.x)])
    for size, replace in ((1, False), (2, False), (4, False), (2, True)):
        edge = float(edge_of(RISK, START, five, batch_size=size, replace=replace))
        batches = list(itertools.product(range(5), repeat=size) if replace else itertools.combinations(range(5), size))
        for rate, grows in ((0.999 * edge, False), (1.001 * edge, True)):
            maps = [np.eye(3) - rate * features[list(b)].T @ features[list(b)] / size for b in batches]
            radius = np.abs(np.linalg.eigvals(np.mean([np.kron(m, m) for m in maps], axis=0))).max()
            assert (radius > 1) == grows


@pytest.mark.usefixtures("x64")
def test_the_mean_square_edge_of_the_full_batch_is_the_critical_rate(five):
    edge = edge_of(RISK, START, five, batch_size=5)
    np.testing.assert_allclose(edge, curvature.critical_learning_rate(RISK, START, five), rtol=1e-12)


def test_the_edge_of_gaussian_rows_one_at_a_time():
    """2/((p + 2)·σ²) for p Gaussian features of variance σ² (Feuer and Weinstein, 1985)."""
    rows = Dataset(2.0 * jax.random.normal(jax.random.key(1), (200_000, 3)), jnp.zeros(200_000))
    risk = jaxreg.empirical_risk(models.linear(3, bias=False), losses.squared)
    edge = edge_of(risk, {"w": jnp.zeros(3)}, rows, batch_size=1)
    # Fourth moments of 200,000 draws scatter by sqrt(96/3/200,000) ≈ 1 %.
    np.testing.assert_allclose(edge, 2 / (5 * 4.0), rtol=0.02)


def test_units_do_not_matter(five):
    """Rows of radiances in SI units have curvatures of 1e20, whose squares leave float32."""
    rows = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), five)
    large = Dataset(1e10 * rows.x, 1e10 * rows.y)
    risk = jaxreg.empirical_risk(models.linear(2, bias=False), losses.squared)
    start = {"w": np.array([1.0, -2.0], np.float32)}
    np.testing.assert_allclose(
        1e20 * edge_of(risk, start, large, batch_size=1), edge_of(risk, start, rows, batch_size=1), rtol=1e-5
    )
    curves = [
        curve_of(risk, start, data, learning_rate=rate, batch_sizes=jnp.ones(3)).loss
        for data, rate in ((large, 2e-21), (rows, 0.2))
    ]
    np.testing.assert_allclose(curves[0] / 1e20, curves[1], rtol=1e-5)


def test_flat_directions_do_not_count():
    rows = Dataset(jnp.array([[1.0, 0.0], [-3.0, 0.0]]), jnp.array([1.0, 2.0]))
    risk = jaxreg.empirical_risk(models.linear(2, bias=False), losses.squared)
    start = {"w": jnp.ones(2)}
    np.testing.assert_allclose(edge_of(risk, start, rows, batch_size=1), 10 / 41, rtol=1e-6)
    expected = curve_of(risk, start, rows, learning_rate=0.1, batch_sizes=jnp.ones(2))
    assert np.isfinite(expected.loss).all()
    without = edge_of(jaxreg.empirical_risk(models.linear(2), losses.absolute), START, rows, batch_size=1)
    assert without == float("inf")


def test_beyond_the_range_of_floats_the_expected_loss_is_infinite(five):
    rows = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), five)
    curve = curve_of(RISK, START, rows, learning_rate=1e6, batch_sizes=jnp.ones(40)).loss
    assert np.isinf(curve[-1])
    assert not np.isnan(curve).any()


def test_what_has_no_theory_is_refused(five):
    rows = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), five)
    with pytest.raises(ValueError, match=r"data.weight must be None"):
        gradient_noise.mean_square_edge(RISK, START, rows._replace(weight=jnp.ones(5)), batch_size=1)
    with pytest.raises(ValueError, match="at most 32 numbers, got 40"):
        gradient_noise.mean_square_edge(RISK, {"w": jnp.ones(40)}, rows, batch_size=1)
    with pytest.raises(ValueError, match=r"batch_sizes must have shape \(steps,\), got \(\)"):
        gradient_noise.expected_training(RISK, START, rows, learning_rate=0.1, batch_sizes=3)
