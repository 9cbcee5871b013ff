"""QR, triangular systems and least squares of a few columns, in plain JAX.

``vmap`` makes them as wide as everything else. LAPACK is called matrix by matrix, which is slow for thousands of small
ones. And XLA hands its pool of threads to the QR of a batch, which waits for the pool: two that run at once, in two
threads or on two devices, wait for each other for ever (jaxlib 0.10.2).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.linalg import solve_triangular

from jaxreg._shapes import Bool, Float, Int

_MOST_UNROLLED = 9  # columns


def qr_root(columns: Float[Array, "q n"], *, alone: bool = False) -> Float[Array, "q q"]:
    """R of the QR of a matrix with these columns, its diagonal not negative.

    By modified Gram-Schmidt, whose R is as accurate as Householder's; with the right-hand side of a least-squares
    problem as the last column the last column of R is its projection, and the solution is backward stable. Of a matrix
    that ``vmap`` makes no batch of it is a loop, which is compiled in a tenth of the time.

    Source: Å. Björck, BIT 7 (1967) 1.

    >>> print(qr_root(jnp.array([[3.0, 4.0], [4.0, -3.0]])))
    [[5. 0.]
     [0. 5.]]
    """
    count = columns.shape[0]
    if alone or count > _MOST_UNROLLED:
        return _qr_root_looped(columns)
    rest, root = columns, []
    for index in range(count):
        products = jnp.sum(rest * rest[:1], axis=1)
        length = jnp.sqrt(products[0])
        length = jnp.where(length > 0, length, 1)
        row = products / length
        root.append(jnp.pad(row, (index, 0)))
        rest = rest[1:] - (row[1:] / length)[:, None] * rest[:1]
    return jnp.stack(root)


def _qr_root_looped(columns: Float[Array, "q n"]) -> Float[Array, "q q"]:
    count = columns.shape[0]

    def reduce(index: Int[Array, ""], state: tuple[Array, Array]) -> tuple[Array, Array]:
        rest, root = state
        length = jnp.linalg.norm(rest[index])
        direction = rest[index] / jnp.where(length > 0, length, 1)
        later = jnp.arange(count) > index
        row = jnp.where(later, rest @ direction, 0)
        return rest - row[:, None] * direction[None], root.at[index].set(row.at[index].set(length))

    return lax.fori_loop(0, count, reduce, (columns, jnp.zeros((count, count), columns.dtype)))[1]


def solve_upper(
    root: Float[Array, "q q"], values: Float[Array, "q *k"], *, transposed: bool = False, library: bool = False
) -> Float[Array, "q *k"]:
    """x of R x = values, or of Rᵀ x = values, for an upper triangular R and one vector of values or k.

    By a library where that is wanted: it is compiled at once, and slow for thousands of small matrices.

    >>> print(solve_upper(jnp.array([[2.0, 1.0], [0.0, 4.0]]), jnp.array([4.0, 8.0])))
    [1. 2.]
    """
    count = root.shape[0]
    if library or count > _MOST_UNROLLED:
        return solve_triangular(root, values, trans=int(transposed))
    found: dict[int, Array] = {}
    for i in range(count) if transposed else reversed(range(count)):
        rest = values[i]
        for k, solved in found.items():
            rest = rest - (root[k, i] if transposed else root[i, k]) * solved
        found[i] = rest / root[i, i]
    return jnp.stack([found[i] for i in range(count)])


def least_squares(columns: Float[Array, "q n"], values: Float[Array, "n"]) -> Float[Array, "q"]:
    """The coefficients that bring Σ coefficient·column nearest to values: for a start.

    Columns that depend on each other share what they explain, by a ridge of the rounding's size, so that it is always
    finite where the data are. A column's unit does not matter.

    >>> print(least_squares(jnp.array([[1.0, 1.0, 1.0], [0.0, 1.0, 2.0]]), jnp.array([1.0, 3.0, 5.0])).round(4))
    [1. 2.]
    """
    count = columns.shape[0]
    scale = jnp.max(jnp.abs(columns), axis=1)  # of which no square can leave the range of floats
    columns = columns / jnp.where(scale > 0, scale, 1)[:, None]
    norms = jnp.linalg.norm(columns, axis=1)
    norms = jnp.where(norms > 0, norms, 1)
    columns = columns / norms[:, None]
    ridge = jnp.sqrt(count * jnp.finfo(columns.dtype).eps) * jnp.eye(count + 1, count, dtype=columns.dtype)
    root = qr_root(jnp.hstack([jnp.concatenate([columns, values[None]]), ridge]))
    root, solution = root[:count, :count], solve_upper(root[:count, :count], root[:count, count])
    for _ in range(2):  # takes off what the ridge has done to combinations that the data do determine
        rest = values - jnp.sum(solution[:, None] * columns, axis=0)
        slope = jnp.sum(columns * rest[None], axis=1)
        solution = solution + solve_upper(root, solve_upper(root, slope, transposed=True))
    return solution / norms / jnp.where(scale > 0, scale, 1)


def power_of_two(size: Float[Array, "*k"]) -> Float[Array, "*k"]:
    """A unit near these sizes, a power of two so that it rounds nothing: for sums of squares that leave no range.

    1 for what is zero or not finite. No derivative depends on it.

    >>> print(power_of_two(jnp.array([5.0, 0.3, 0.0])))
    [4.   0.25 1.  ]
    """
    limits = jnp.finfo(size.dtype)
    usable = (size > 0) & (size < jnp.inf)
    near = jnp.clip(jnp.where(usable, size, 1), limits.tiny, limits.max / 4)
    return lax.stop_gradient(lax.reduce_precision(near, limits.nexp, 0))


def lengths(columns: Float[Array, "q n"]) -> Float[Array, "q"]:
    """Of columns whose squares may leave the range of floats.

    >>> print(lengths(jnp.array([[3e30, 4e30], [3e-30, 4e-30]])))
    [5.e+30 5.e-30]
    """
    unit = power_of_two(jnp.max(jnp.abs(columns), axis=1))
    return unit * jnp.linalg.norm(columns / unit[:, None], axis=1)


def inverse_upper(
    root: Float[Array, "q q"], *, library: bool = False
) -> tuple[Float[Array, "q q"], Float[Array, ""], Float[Array, "q"]]:
    """The inverse of an upper triangular R, and R's least singular value with its right vector of length 1.

    The left vector of the inverse that grows most in eight powers of R⁻¹R⁻ᵀ: enough where R is all but singular, and
    only then does anybody ask for it. A zero on the diagonal counts as a number so small that the inverse is finite.
    No derivative depends on the last two.

    >>> inverse, least, direction = inverse_upper(jnp.array([[2.0, 0.0], [0.0, 0.5]]))
    >>> print(inverse.diagonal(), least, direction)
    [0.5 2. ] 0.5 [0. 1.]
    """
    count = root.shape[0]
    size = jnp.max(jnp.abs(root))
    least = jnp.finfo(root.dtype).eps ** 2 * jnp.where(size > 0, size, 1)
    pivots = jnp.diagonal(root)
    regular = root + jnp.diag(jnp.where(jnp.abs(pivots) < least, least - pivots, 0))

    inverse = solve_upper(regular, jnp.eye(count, dtype=root.dtype), library=library)
    part = lax.stop_gradient(inverse)
    largest = jnp.max(jnp.abs(part))
    part = part / largest
    power = jnp.sum(part[:, None] * part[None], axis=2)
    for _ in range(3):
        power = jnp.sum(power[:, :, None] * power[None], axis=1)
        power = power / jnp.max(jnp.abs(power))
    vector = power[:, jnp.argmax(jnp.diagonal(power))]
    vector = vector / jnp.linalg.norm(vector)
    return inverse, 1 / (largest * jnp.linalg.norm(jnp.sum(vector[:, None] * part, axis=0))), vector


class UnitColumns(NamedTuple):
    """The QR of columns that were brought to length 1.

    Attributes:
        scale: (q,), their lengths; 1 for a column of zeros. No derivative depends on it.
        inverse: (q, q), R⁻¹, so that columns/scale times it are orthonormal; the identity where they are dependent.
        regular: whether they are independent.
        undetermined: (q,), the combination of the columns that is nearest to zero, of length 1.
    """

    scale: Array
    inverse: Array
    regular: Array
    undetermined: Array


def unit_columns(columns: Float[Array, "q n"], free: Bool[Array, "q"] | None = None) -> UnitColumns:
    """The QR of columns scaled to length 1, on which errors, leverages and tangent planes rest.

    Args:
        columns: those of a Jacobian.
        free: which of them count; the others are zero, and stand alone. None for all.

    >>> found = unit_columns(jnp.array([[3.0, 4.0], [4.0, -3.0]]))
    >>> print(found.scale, found.regular)
    [5. 5.] True
    """
    count, num_rows = columns.shape
    scale = lax.stop_gradient(lengths(columns))
    scale = jnp.where(scale > 0, scale, 1)
    scaled = columns / scale[:, None]
    if free is not None:  # a parameter that is held stands alone in a row of its own
        scaled = jnp.hstack([scaled, jnp.diag(1 - free.astype(columns.dtype))])
    root = qr_root(scaled)
    inverse, smallest, direction = inverse_upper(root)
    # The columns have length 1, so the largest singular value is at most √q.
    regular = smallest > max(count, num_rows) * jnp.finfo(root.dtype).eps * count**0.5
    direction = direction / scale
    direction = direction / direction[jnp.argmax(jnp.abs(direction))]
    identity = jnp.eye(count, dtype=root.dtype)  # so that the derivatives of what is NaN then are finite before
    return UnitColumns(scale, jnp.where(regular, inverse, identity), regular, direction / jnp.linalg.norm(direction))
