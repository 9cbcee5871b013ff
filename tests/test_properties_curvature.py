"""Laws of derivatives: products with the Hessian, its eigenvalues, and the descent that they predict."""

from typing import Any, NamedTuple

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays

from jaxreg import curvature

pytestmark = pytest.mark.usefixtures("x64_module")
SIZE = 4
numbers = st.floats(-3, 3, allow_subnormal=False)
vectors = arrays.arrays(float, SIZE, elements=numbers)
matrices = arrays.arrays(float, (SIZE, SIZE), elements=numbers)


def tree(vector: Any) -> dict[str, Any]:
    return {"b": vector[0], "w": vector[1:]}


def flat(params: Any) -> np.ndarray:
    return np.r_[params["b"], params["w"]]


def objective(params: Any, matrix: Any, quartic: Any) -> Any:
    """½pᵀ(M + Mᵀ)p/2 + Σ quartic·p⁴ + sin Σp."""
    vector = jnp.append(params["b"], params["w"])
    return vector @ matrix @ vector / 2 + jnp.sum(quartic * vector**4) + jnp.sin(vector.sum())


def hessian_of(vector: np.ndarray, matrix: np.ndarray, quartic: np.ndarray) -> np.ndarray:
    return (matrix + matrix.T) / 2 + np.diag(12 * quartic * vector**2) - np.sin(vector.sum())


class Found(NamedTuple):
    gradient: Any
    hessian: Any
    products: Any
    extremes: Any
    condition: Any
    critical: Any
    newton: Any


@jax.jit
def compiled(vector: Any, directions: Any, matrix: Any, quartic: Any) -> Found:
    at = (objective, tree(vector))
    given_args = (matrix, quartic)
    return Found(
        curvature.gradient(*at, *given_args),
        curvature.hessian(*at, *given_args),
        jax.vmap(lambda direction: curvature.hvp(*at, tree(direction), *given_args))(directions),
        jnp.stack(curvature.extreme_eigenvalues(*at, *given_args)),
        curvature.condition_number(*at, *given_args),
        curvature.critical_learning_rate(*at, *given_args),
        curvature.newton_step(*at, *given_args),
    )


@given(vectors, matrices, matrices, vectors)
def test_products_eigenvalues_and_rayleigh_quotients_are_of_one_symmetric_matrix(
    vector: np.ndarray, directions: np.ndarray, matrix: np.ndarray, quartic: np.ndarray
) -> None:
    found = jax.tree.map(np.asarray, compiled(vector, directions, matrix, quartic))
    wanted = hessian_of(vector, matrix, quartic)
    # Entries up to 330 are sums of a few numbers of that size.
    size = 1e-13 * (1 + abs(wanted).max())
    np.testing.assert_allclose(found.hessian, wanted, rtol=0, atol=size)
    np.testing.assert_allclose(found.hessian, found.hessian.T, rtol=0, atol=size)
    products = np.c_[found.products["b"], found.products["w"]]
    np.testing.assert_allclose(products, directions @ wanted, rtol=0, atol=10 * size)
    smallest, largest = found.extremes
    np.testing.assert_allclose([smallest, largest], np.linalg.eigvalsh(wanted)[[0, -1]], rtol=0, atol=10 * size)
    for direction, product in zip(directions, products, strict=True):
        square = direction @ direction
        assert smallest * square - 100 * size <= direction @ product <= largest * square + 100 * size
    assert largest <= 0 or found.critical == pytest.approx(2 / largest, rel=1e-12)
    assert largest > 0 or found.critical == np.inf
    if smallest > 1e-6 * largest:
        assert found.condition == pytest.approx(largest / smallest, rel=1e-12)
    assert smallest > 0 or found.condition == np.inf


@given(vectors, matrices, vectors)
def test_a_newton_step_on_a_bowl_ends_at_its_bottom(vector: np.ndarray, matrix: np.ndarray, linear: np.ndarray) -> None:
    bowl = matrix @ matrix.T + np.eye(SIZE)  # eigenvalues from 1 to 145
    bottom = np.linalg.solve(bowl, -linear)
    np.testing.assert_allclose(flat(newton(tree(vector), bowl, linear)), bottom, rtol=0, atol=1e-11)


@jax.jit
def newton(params: Any, bowl: Any, linear: Any) -> Any:
    return curvature.newton_step(quadratic, params, bowl, linear)


def quadratic(params: Any, bowl: Any, linear: Any) -> Any:
    vector = jnp.append(params["b"], params["w"])
    return vector @ bowl @ vector / 2 + linear @ vector


@jax.jit
def predicted(params: Any, bowl: Any, linear: Any, learning_rate: Any, tolerance: Any, counts: Any) -> Any:
    found = curvature.predict_training(
        quadratic, params, bowl, linear, learning_rate=learning_rate, tolerance=tolerance
    )
    return found, found.loss(counts)


STEPS = 30


@given(vectors, matrices, vectors, st.floats(0.05, 1.02), st.floats(1e-6, 10))
def test_descent_on_a_bowl_is_as_predicted(
    vector: np.ndarray, matrix: np.ndarray, linear: np.ndarray, share: float, tolerance: float
) -> None:
    bowl = matrix @ matrix.T + np.eye(SIZE)
    rate = share * 2 / np.linalg.eigvalsh(bowl)[-1]
    found, losses = predicted(tree(vector), bowl, linear, rate, tolerance, np.arange(STEPS))
    least = -linear @ np.linalg.solve(bowl, linear) / 2
    descended, excess = vector, []
    for _ in range(STEPS):
        excess.append(descended @ bowl @ descended / 2 + linear @ descended - least)
        descended = descended - rate * (bowl @ descended + linear)
    # Losses up to 10⁴, right to their rounding, which a rate 2 % too large amplifies by 1.04⁶⁰.
    np.testing.assert_allclose(losses, np.array(excess) + least, rtol=1e-9, atol=1e-9)
    assert float(found.critical_learning_rate) == pytest.approx(rate / share, rel=1e-12)
    within = np.array(excess) <= tolerance * (1 + 1e-9) + 1e-9
    if found.steps < STEPS:
        assert within[int(found.steps)]
        assert found.steps == 0 or excess[int(found.steps) - 1] > tolerance * (1 - 1e-9) - 1e-9
    elif share < 1:
        assert not within[-1] or excess[-1] > tolerance * (1 - 1e-9) - 1e-9


@given(matrices, st.floats(-1, 1))
def test_the_spectral_radius_is_the_largest_modulus(matrix: np.ndarray, shift: float) -> None:
    matrix = matrix + shift * np.eye(SIZE)
    wanted = abs(np.linalg.eigvals(matrix)).max()
    # NumPy's eigenvalues of a defective matrix are off by eps^(1/4) of its norm.
    assert abs(float(radius(matrix)) - wanted) <= 2e-3 * (1e-3 + np.linalg.norm(matrix)) + 1e-9


radius = jax.jit(curvature.spectral_radius)
