"""The ends of the Hessian's spectrum, and the learning rate that follows from the upper one."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from jaxreg import _checks
from jaxreg._shapes import Float
from jaxreg.curvature._derivatives import Objective, flat_of, hessian
from jaxreg.curvature._lanczos import lanczos
from jaxreg.models import Params

_DENSE = 256  # parameters up to which the Hessian is built and diagonalised


def extreme_eigenvalues(
    objective: Objective, params: Params, *args: Any, lanczos_steps: int = 96
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The smallest and the largest eigenvalue of the Hessian.

    Exact up to 256 parameters. Beyond, Lanczos's method with full reorthogonalisation from a fixed random start, which
    never builds the matrix; an end that has not converged (residual above 1e-3 of the largest modulus) is NaN.

    Args:
        objective: ``objective(params, *args) -> scalar``.
        params: the point.
        args: the objective's other arguments.
        lanczos_steps: static; each costs one Hessian-vector product, and p numbers of memory.

    Returns:
        (smallest, largest), scalars.

    Source: G. H. Golub and C. F. Van Loan, Matrix Computations, 4th ed. (2013), section 10.1 and 10.3.1.

    >>> smallest, largest = extreme_eigenvalues(lambda p: p[0] ** 2 + 5 * p[1] ** 2, jnp.ones(2))
    >>> print(smallest, largest)
    2.0 10.0
    """
    values, error = _extremes(objective, params, args, lanczos_steps)
    values = jnp.where(error <= 1e-3 * jnp.abs(values).max(), values, jnp.nan)
    return values[0], values[1]


def condition_number(objective: Objective, params: Params, *args: Any, lanczos_steps: int = 96) -> Float[Array, ""]:
    """λmax/λmin of the Hessian; infinite where λmin is not positive beyond rounding.

    Beyond 256 parameters NaN unless Lanczos's method knows λmin to 1 % of itself.

    >>> print(condition_number(lambda p: p[0] ** 2 + 5 * p[1] ** 2, jnp.ones(2)))
    5.0
    """
    (smallest, largest), error = _extremes(objective, params, args, lanczos_steps)
    floor = ravel_pytree(params)[0].size * jnp.finfo(largest.dtype).eps * largest
    positive = smallest > floor
    ratio = jnp.where(positive, largest / jnp.where(positive, smallest, 1), jnp.inf)
    known = jnp.where(positive, error[0] <= 0.01 * smallest, smallest + error[0] <= floor)
    return jnp.where(known, ratio, jnp.nan)


def critical_learning_rate(
    objective: Objective, params: Params, *args: Any, lanczos_steps: int = 96
) -> Float[Array, ""]:
    """2/λmax: full-batch gradient descent on a quadratic diverges above this learning rate and converges below it.

    Infinite where no direction curves upwards.

    >>> print(critical_learning_rate(lambda p: p[0] ** 2 + 5 * p[1] ** 2, jnp.ones(2)))
    0.2
    """
    return critical_of(extreme_eigenvalues(objective, params, *args, lanczos_steps=lanczos_steps)[1])


def spectral_radius(matrix: ArrayLike) -> Float[Array, ""]:
    """The largest modulus of the eigenvalues of a square matrix, by Gelfand's formula lim ‖Mᵏ‖^(1/k) with k = 2²⁴.

    Squaring costs matrix products alone, so it also runs where there is no non-symmetric eigensolver.

    Source: R. A. Horn and C. R. Johnson, Matrix Analysis, 2nd ed. (2013), corollary 5.6.14.

    >>> print(spectral_radius(jnp.array([[0.0, -2.0], [2.0, 0.0]])).round(4))
    2.0
    """
    matrix = jnp.asarray(_checks.array("matrix", matrix))
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"matrix must have shape (p, p), got {matrix.shape}")

    def square(power: Array | int, state: tuple[Array, Array]) -> tuple[Array, Array]:
        current, log_radius = state
        norm = jnp.abs(current).max()  # any norm serves, and this one squares nothing
        scaled = current / jnp.where(norm > 0, norm, 1)
        return scaled @ scaled, log_radius + jnp.log(norm) / 2.0**power

    current, log_radius = jax.lax.fori_loop(0, 24, square, (matrix, jnp.zeros((), matrix.dtype)))
    return jnp.exp(log_radius + jnp.log(jnp.abs(current).max()) / 2.0**24)


def _extremes(
    objective: Objective, params: Params, args: tuple[Any, ...], lanczos_steps: int
) -> tuple[Float[Array, "2"], Float[Array, "2"]]:
    """The smallest and the largest eigenvalue, and bounds of their errors, 0 where computed whole."""
    flat, unravel = flat_of(params)
    steps = _checks.count("lanczos_steps", lanczos_steps, least=2)
    if flat.size <= _DENSE:
        values = jnp.linalg.eigvalsh(hessian(objective, params, *args))
        return jnp.stack([values[0], values[-1]]), jnp.zeros(2, values.dtype)
    slope = jax.grad(lambda vector: objective(unravel(vector), *args))
    return lanczos(lambda vector: jax.jvp(slope, (flat,), (vector,))[1], flat, min(steps, flat.size))


def critical_of(largest: Float[Array, ""]) -> Float[Array, ""]:
    """2/λmax, infinite where that is not positive."""
    return jnp.where(largest <= 0, jnp.inf, 2 / largest)
