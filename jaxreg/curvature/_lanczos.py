"""Lanczos's method: the ends of a symmetric matrix's spectrum from its products with vectors."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg._shapes import Float, Int


def lanczos(
    product: Callable[[Array], Array], like: Float[Array, "p"], steps: int
) -> tuple[Float[Array, "2"], Float[Array, "2"]]:
    """The smallest and the largest eigenvalue of a symmetric matrix, and bounds of their errors."""
    start = jax.random.normal(jax.random.key(0), like.shape, like.dtype)
    basis = jnp.zeros((steps + 1, like.size), like.dtype).at[0].set(start / jnp.linalg.norm(start))

    def step(
        basis: Float[Array, "k p"], index: Int[Array, ""]
    ) -> tuple[Float[Array, "k p"], tuple[Array, Array, Array]]:
        image = product(basis[index])
        alpha = jnp.vdot(basis[index], image)
        scale = jnp.linalg.norm(image)
        for _ in range(2):  # once is not enough in floating point (Golub and Van Loan, section 5.2.9)
            image = image - basis.T @ (basis @ image)
        beta = jnp.linalg.norm(image)
        # An invariant subspace: the rest of the matrix stays decoupled (beta = 0) and repeats nothing.
        ended = beta <= 10 * jnp.finfo(like.dtype).eps * scale
        image = jnp.where(ended, 0, image / jnp.where(ended, 1, beta))
        found = jnp.vdot(basis[index], basis[index]) > 0.5
        return basis.at[index + 1].set(image), (alpha, jnp.where(ended, 0, beta), found)

    _, (alpha, beta, found) = jax.lax.scan(step, basis, jnp.arange(steps))
    alpha = jnp.where(found, alpha, alpha[0])  # alpha[0] lies between the extremes, so it cannot be one of them
    matrix = jnp.diag(alpha) + jnp.diag(beta[:-1], 1) + jnp.diag(beta[:-1], -1)
    values, vectors = jnp.linalg.eigh(matrix)
    ends = jnp.array([0, -1])
    return values[ends], jnp.abs(beta[-1] * vectors[-1, ends])
