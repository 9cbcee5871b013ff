"""Scans on scalars compute what plain scans do, whatever is inside."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg.training import _scalars

KEYS = jax.random.split(jax.random.key(0), 3)
MATRIX, VECTOR, SEQUENCE = jax.random.normal(KEYS[0], (3, 3)), jax.random.normal(KEYS[1], (3,)), jnp.linspace(-1, 1, 5)


def moves(carry, x):
    """Every primitive that only moves numbers, and reductions."""
    matrix, vector = carry
    turned = jnp.flip(matrix.T[:2, ::2], 1).reshape(-1)
    turned = jnp.concatenate([turned.reshape(2, 2), matrix[:2, :1]], axis=1).reshape(-1)
    joined = jnp.concatenate([turned, vector[:1], jnp.broadcast_to(x, (2,))])
    sums = jnp.stack([joined.sum(), joined.max(), joined.min(), joined[:3].prod(), matrix.sum(axis=0)[1]])
    truth = (joined > 0).all() | (matrix < 0).any()
    return (jnp.where(truth, matrix * 0.5, matrix.sum(axis=1, keepdims=True) + matrix), vector * sums.mean()), sums


def products(carry, x):
    """Every kind of dot_general."""
    matrix, vector = carry
    batched = jnp.einsum("bij,bj->bi", jnp.stack([matrix, matrix.T]), jnp.stack([vector, vector * x]))
    outer = jnp.outer(vector, batched[0])
    return (jnp.tanh(matrix @ outer + matrix), jnp.tanh(matrix @ vector + batched.sum(axis=0))), vector @ vector


def opaque(carry, x):
    """Primitives that are handed on: a custom derivative, a branch, a loop, a sort, random numbers."""
    matrix, vector = carry
    vector = jax.nn.relu(vector) + jax.lax.cond(x > 0, jnp.sin, jnp.cos, vector)
    vector = jax.lax.fori_loop(0, 3, lambda _, v: v * 0.9 + jnp.sort(v), vector)
    noise = jax.random.normal(jax.random.fold_in(jax.random.key(1), 2), (3,))
    return (matrix + jnp.linalg.norm(vector), vector + 0.1 * noise), vector


@pytest.mark.parametrize("step", [moves, products, opaque])
def test_a_scan_on_scalars_equals_a_scan(step, variant):
    plain = jax.lax.scan(step, (MATRIX, VECTOR), SEQUENCE)
    on_scalars = variant(lambda *start: _scalars.scan(step, start, SEQUENCE))(MATRIX, VECTOR)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6), on_scalars, plain)


@pytest.mark.parametrize("step", [moves, products, opaque])
def test_so_does_its_gradient(step):
    def total(scan, start):
        return sum(leaf.sum() for leaf in jax.tree.leaves(scan(step, start, SEQUENCE)))

    # A fori_loop has no reverse mode: forward mode serves all three steps.
    @functools.partial(jax.jit, static_argnums=0)
    def tangent(scan, start, direction):
        return jax.jvp(lambda start: total(scan, start), (start,), (direction,))[1]

    plain, found = (tangent(scan, (MATRIX, VECTOR), (MATRIX.T, VECTOR)) for scan in (jax.lax.scan, _scalars.scan))
    np.testing.assert_allclose(found, plain, rtol=1e-5)


def test_reverse_mode_and_what_a_step_closes_over():
    def end(scan, matrix):
        return scan(lambda v, x: (jnp.tanh(matrix @ v) + x, None), VECTOR, SEQUENCE)[0].sum()

    plain = jax.grad(lambda matrix: end(jax.lax.scan, matrix))(MATRIX)
    np.testing.assert_allclose(jax.grad(lambda matrix: end(_scalars.scan, matrix))(MATRIX), plain, rtol=1e-5, atol=1e-6)


def test_small_carries_are_scalars_and_large_ones_stay_whole():
    def step(carry, _):
        small, large = carry
        return (small * 2, large + small.sum()), None

    program = jax.make_jaxpr(lambda *start: _scalars.scan(step, start, jnp.arange(2.0))[0])(
        jnp.ones(3), jnp.ones(_scalars.LARGEST + 1)
    )
    (loop,) = [equation for equation in program.jaxpr.eqns if equation.primitive.name == "scan"]
    carried = [atom.aval.shape for atom in loop.outvars]
    assert sorted(carried) == [(), (), (), (_scalars.LARGEST + 1,)]


OPTIMIZERS = {
    "sgd": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adam": optax.adam(0.1),
    "lamb": optax.lamb(0.1),
    "lars": optax.lars(0.1),
    "clipped": optax.chain(optax.clip_by_global_norm(0.1), optax.adamw(0.1)),
    "schedule": optax.sgd(optax.exponential_decay(0.1, 2, 0.5)),
    "noisy": optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(0)), optax.sgd(0.1)),
    "masked": optax.masked(optax.sgd(0.1), {"w": True, "b": False}),
    "lbfgs": optax.lbfgs(),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_makes_the_same_steps(name):
    optimizer = optax.with_extra_args_support(OPTIMIZERS[name])
    params = {"w": jnp.array([1.0, -2.0]), "b": jnp.array(0.5)}

    def value_fn(params):
        return (params["w"] ** 2).sum() + (params["b"] - params["w"][0]) ** 2

    def step(state, _):
        params, memory = state
        value, gradient = jax.value_and_grad(value_fn)(params)
        updates, memory = optimizer.update(gradient, memory, params, value=value, grad=gradient, value_fn=value_fn)
        return (optax.apply_updates(params, updates), memory), value

    start = (params, optimizer.init(params))
    plain, found = (
        jax.jit(lambda scan=scan: scan(step, start, jnp.arange(6)))() for scan in (jax.lax.scan, _scalars.scan)
    )
    for a, b in zip(jax.tree.leaves((plain[0][0], plain[1])), jax.tree.leaves((found[0][0], found[1])), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
