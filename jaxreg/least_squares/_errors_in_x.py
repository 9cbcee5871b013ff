"""Errors in x: each point's true x is taken out of the problem inside its residual, so that no solver knows of it.

With L·Lᵀ the covariance of a point's errors of (x, y), x first, u = L_xx⁻¹(ξ - x) says where its true x may lie, and
r(u) = (f(x + L_xx·u) - y - l·u)/L_yy what is then left of y, l being the row of L that y has. u is where |u|² + r² has
the minimum that downhill steps from the observed x come to, and the point's residual is its distance from the curve
there, e = ±√(|u|² + r²). By the envelope theorem its derivative is r's at fixed u times w = (1 + |∂r/∂u|²)^(-1/2): so
Gauss-Newton's rows, the covariance and χ² = Σ e² are those of orthogonal distance regression.

Source: P. T. Boggs, R. H. Byrd and R. B. Schnabel, SIAM J. Sci. Stat. Comput. 8 (1987) 1052; G. H. Golub and V.
Pereyra, Inverse Problems 19 (2003) R1; D. York et al., American Journal of Physics 72 (2004) 367.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg._shapes import Bool, Float
from jaxreg.covariance._factors import safe_root
from jaxreg.models import Params

_MOST_STEPS = 60  # of one point's true x; a few are taken
_SHORTER = 4
_HIDDEN = 64  # roundings, below which one gain cannot be told from another
_LEAST_PIVOT = 1e-6  # of Gauss-Newton's curvature: below it a Newton step of a point is long and leads nowhere

Numbers = tuple[Float[Array, "..."], ...]  # one for each coordinate of x, each of y's shape


class Factors(NamedTuple):
    """L of each point; None for what is zero in all."""

    of_x: tuple[tuple[Array | None, ...], ...]  # L_xx, rows of the lower triangle
    across: tuple[Array | None, ...]  # l
    of_y: Float[Array, "..."]  # L_yy

    def coloured(self, normal: Any) -> tuple[list[Array], Array]:
        """Errors of x and y from independent ones of variance 1, those of x first."""
        numbers = list(normal)
        return [_sum(row, numbers) for row in self.of_x], _sum((*self.across, self.of_y), numbers)


def factors_of(
    sigma_x: Array, x: Array, sigma: Array, counted: Bool[Array, "..."], dtype: Any
) -> tuple[Factors, Bool[Array, "..."]]:
    """L of each point, and whether its errors are usable; as if x were exact, and sigma 1, where they are not."""
    sigma_x, shape = sigma_x.astype(dtype), counted.shape
    count = 1 if x.shape == shape else x.shape[-1]
    if sigma_x.shape in ((), x.shape):
        columns = jnp.broadcast_to(sigma_x, x.shape).reshape(*shape, count)
        diagonal = [columns[..., place] for place in range(count)]
        rows: list[list[Any]] = [[*[None] * place, one] for place, one in enumerate(diagonal)]
        good = jnp.stack([(one >= 0) & (one < jnp.inf) for one in diagonal]).all(axis=0)
        last = jnp.broadcast_to(sigma.astype(dtype), shape)
        rows.append([*[None] * count, jnp.where((last > 0) & (last < jnp.inf), last, 0)])
    else:
        rows, good = _cholesky(sigma_x)
        if len(rows) == count:
            rows.append([*[None] * count, jnp.broadcast_to(sigma.astype(dtype), shape)])
    *of_x, (*across, of_y) = rows
    usable = good & (of_y > 0) & (of_y < jnp.inf)

    def chosen(leaf: Any, stand_in: int = 0) -> Any:
        return None if leaf is None else jnp.where(usable & counted, leaf, stand_in)

    kept = tuple(tuple(map(chosen, row)) for row in of_x)
    return Factors(kept, tuple(map(chosen, across)), chosen(of_y, 1)), usable


def _cholesky(matrix: Float[Array, "... k k"]) -> tuple[list[list[Any]], Bool[Array, "..."]]:
    """The lower triangle of each, of which a variance may be zero, and whether it is one."""
    rows: list[list[Any]] = []
    good, size = jnp.isfinite(matrix).all(axis=(-2, -1)), matrix.shape[-1]
    for i in range(size):
        row: list[Any] = []
        least = 8 * float(jnp.finfo(matrix.dtype).eps) * jnp.abs(matrix[..., i, i])
        for j in range(i):
            left = matrix[..., i, j] - sum(one * other for one, other in zip(row, rows[j], strict=False))
            above = rows[j][j]
            row.append(jnp.where(above > 0, left / jnp.where(above > 0, above, 1), 0))
            good &= (above > 0) | (left**2 <= least * jnp.abs(matrix[..., j, j]))
        pivot = matrix[..., i, i] - sum(one * one for one in row)
        good &= pivot >= -least
        row.append(safe_root(jnp.where(pivot > least, pivot, 0)))
        rows.append(row)
    return rows, good


class Curve(NamedTuple):
    """A model beside points with errors in both coordinates.

    Attributes:
        apply: ``apply(constants, params, x) -> y's shape``, which closes over nothing that is traced.
        constants: what the model closes over.
        x: of y's shape, or with an axis of coordinates after it.
    """

    apply: Callable[..., Array]
    constants: Any
    x: Array
    y: Array
    factors: Factors
    start: Numbers  # where u is sought from
    most: int | None  # in as many steps, if that is said

    @classmethod
    def of(
        cls, model: Callable[[Params, Array], Array], params: Params, x: Any, y: Any, factors: Factors, *way: Any
    ) -> "Curve":
        """Its constants are taken out of the model: rules of differentiation must not close over tracers."""
        closed = jax.make_jaxpr(model)(params, x)

        def apply(constants: Any, params: Params, x: Array) -> Array:
            found: Array = jax.core.eval_jaxpr(closed.jaxpr, constants, *jax.tree.leaves((params, x)))[0]
            return found

        return cls(apply, closed.consts, x, y, factors, *way)

    def eliminated(self, params: Params) -> Numbers:
        """u of each point."""
        return _eliminated(self.apply, self.most, self._given(params), self.start)

    def adjusted(self, params: Params) -> Array:
        """The true x of each point, as the parameters have it."""
        return _moved(self.x, self.y, self.factors, self.eliminated(params))

    def distance(self, params: Params) -> Float[Array, "..."]:
        """Of each point from the curve, in sigmas, negative where that runs below it."""
        return _distance(self.apply, self._given(params), self.eliminated(params))

    def _given(self, params: Params) -> Any:
        return (self.constants, params), self.x, self.y, self.factors


def _sum(factors: Sequence[Array | None], numbers: Sequence[Array]) -> Any:
    products = [one * number for one, number in zip(factors, numbers, strict=False) if one is not None]
    return sum(products[1:], products[0]) if products else 0


def _moved(x: Array, y: Array, factors: Factors, u: Numbers) -> Array:
    shifts = [_sum(row, u) for row in factors.of_x]
    return x + (shifts[0] if x.ndim == y.ndim else jnp.stack(shifts, axis=-1))


def _rest(apply: Callable[..., Array], given: Any, u: Numbers) -> Float[Array, "..."]:
    """r."""
    of_model, x, y, factors = given
    return (apply(*of_model, _moved(x, y, factors, u)) - y - _sum(factors.across, u)) / factors.of_y


def _along(fn: Callable[[Numbers], Any], u: Numbers, place: int) -> tuple[Any, Any]:
    """A function of each point's own u, and its derivative by one of their coordinates: one for all points at once."""
    ones = tuple(jnp.full_like(one, float(place == other)) for other, one in enumerate(u))
    return jax.jvp(fn, (u,), (ones,))


def _slopes(apply: Callable[..., Array], given: Any, u: Numbers) -> tuple[Array, Numbers]:
    """r and its derivatives a by u."""
    found = [_along(functools.partial(_rest, apply, given), u, place) for place in range(len(u))]
    return found[0][0], tuple(slope for _, slope in found)


def _gradient(apply: Callable[..., Array], given: Any, u: Numbers) -> Numbers:
    """Of half of |u|² + r²."""
    rest, slopes = _slopes(apply, given, u)
    return tuple(one + rest * slope for one, slope in zip(u, slopes, strict=True))


def _solved(matrix: Sequence[Sequence[Array]], rhs: Sequence[Array]) -> tuple[list[Array], list[Array]]:
    """The solution for a symmetric matrix a point, and the pivots: elementwise, as no library is good at small ones."""
    count, lower = range(len(rhs)), [list(row) for row in matrix]
    pivots: list[Array] = []
    half: list[Array] = []
    for i in count:
        for j in range(i):
            lower[i][j] = matrix[i][j] - sum(lower[i][k] * lower[j][k] * pivots[k] for k in range(j))
            lower[i][j] = lower[i][j] / pivots[j]
        pivots.append(matrix[i][i] - sum(lower[i][k] ** 2 * pivots[k] for k in range(i)))
        half.append(rhs[i] - sum(lower[i][k] * half[k] for k in range(i)))
    found = [half[i] / pivots[i] for i in count]
    for i in reversed(count):
        found[i] = found[i] - sum(lower[k][i] * found[k] for k in range(i + 1, len(rhs)))
    return found, pivots


def _expanded(apply: Callable[..., Array], given: Any, u: Numbers) -> tuple[Array, Numbers, list[list[Array]]]:
    """r, a and the second derivative of half of |u|² + r²."""
    parts = [_along(functools.partial(_slopes, apply, given), u, place) for place in range(len(u))]
    rest, slopes = parts[0][0]
    hessian = [
        [slopes[i] * slopes[j] + rest * parts[i][1][1][j] + float(i == j) for j in range(len(u))] for i in range(len(u))
    ]
    return rest, slopes, hessian


class _Search(NamedTuple):
    u: Numbers
    step: Numbers  # to be tried; zero where none is left
    square: Float[Array, "..."]  # |u|² + r²; infinite before the first trial
    num_steps: Any


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _eliminated(apply: Callable[..., Array], most: int | None, given: Any, start: Numbers) -> Numbers:
    """u of each point: Newton's steps, Gauss-Newton's where that bends down, each accepted where it gains.

    Until rounding hides what more would gain, or as many as ``most``, of which the last is not judged.
    """
    _, x, y, factors = given
    zero, eps = jnp.zeros_like(y), float(jnp.finfo(y.dtype).eps)
    none, sizes = tuple(zero for _ in factors.of_x), [row[-1] for row in factors.of_x]
    coordinates = jnp.abs(x.reshape(*y.shape, len(none)))
    target = 2 * jnp.abs(y) / factors.of_y
    reaches = [
        jnp.where(size > 0, coordinates[..., place] / jnp.where(size > 0, size, 1), 0)
        for place, size in enumerate(sizes)
    ]

    def body(search: _Search) -> _Search:
        trial = tuple(one + step for one, step in zip(search.u, search.step, strict=True))
        rest, slopes, hessian = _expanded(apply, given, trial)
        square = sum((one**2 for one in trial), rest**2)
        better = square < search.square
        step, promise = _downhill(
            [one + rest * slope for one, slope in zip(trial, slopes, strict=True)], slopes, hessian
        )
        # The last step is taken unseen, as rounding hides what it gains: that of the square, of y and of x.
        reach = target + sum(jnp.abs(slope) * one for slope, one in zip(slopes, reaches, strict=True))
        last = promise <= _HIDDEN * eps * (square + eps * reach**2)
        shorter = sum(one**2 for one in search.step) > _HIDDEN * eps * search.square
        return _Search(
            u=tuple(
                jnp.where(better, jnp.where(last, ahead + more, ahead), before)
                for ahead, more, before in zip(trial, step, search.u, strict=True)
            ),
            step=tuple(
                jnp.where(better, jnp.where(last, 0, more), jnp.where(shorter, before / _SHORTER, 0))
                for more, before in zip(step, search.step, strict=True)
            ),
            square=jnp.where(better, square, search.square),
            num_steps=search.num_steps + 1,
        )

    def going(search: _Search) -> Bool[Array, ""]:
        left = jnp.stack([one != 0 for one in search.step]).any() | (search.num_steps == 0)
        return left & (search.num_steps < _MOST_STEPS)

    search = _Search(none, start, jnp.full_like(y, jnp.inf), jnp.zeros((), jnp.int32))
    if most is None:
        return jax.lax.while_loop(going, body, search).u
    for _ in range(most):
        search = body(search)
    return tuple(one + step for one, step in zip(search.u, search.step, strict=True))


def _downhill(
    gradient: Sequence[Array], slopes: Numbers, hessian: Sequence[Sequence[Array]]
) -> tuple[Numbers, Float[Array, "..."]]:
    """Newton's step, or Gauss-Newton's where the second derivative is not positive definite, and what it is to gain."""
    pivots = _solved(hessian, gradient)[1]
    least = [_LEAST_PIVOT * (1 + slope**2) for slope in slopes]
    definite = functools.reduce(jnp.logical_and, (pivot > low for pivot, low in zip(pivots, least, strict=True)))
    matrix = [
        [jnp.where(definite, one, slopes[i] * slopes[j] + float(i == j)) for j, one in enumerate(row)]
        for i, row in enumerate(hessian)
    ]
    step = tuple(-one for one in _solved(matrix, gradient)[0])
    return step, jnp.asarray(-sum(one * own for one, own in zip(step, gradient, strict=True)))


@_eliminated.defjvp
def _eliminated_jvp(
    apply: Callable[..., Array], most: int | None, primals: tuple[Any, Any], tangents: tuple[Any, Any]
) -> tuple[Numbers, Numbers]:
    """By the implicit function theorem: the gradient by u stays zero."""
    given, start = primals
    u = _eliminated(apply, most, given, start)
    changes = jax.jvp(lambda given: _gradient(apply, given, u), (given,), tangents[:1])[1]
    found, _ = _solved(_expanded(apply, given, u)[2], changes)
    return u, tuple(-one for one in found)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _distance(apply: Callable[..., Array], given: Any, u: Numbers) -> Float[Array, "..."]:
    """e."""
    rest = _rest(apply, given, u)
    return jnp.copysign(jnp.sqrt(sum((one**2 for one in u), rest**2)), rest)


@_distance.defjvp
def _distance_jvp(
    apply: Callable[..., Array], primals: tuple[Any, Numbers], tangents: tuple[Any, Any]
) -> tuple[Array, Array]:
    """u is at a minimum, so that its own change counts for nothing; of w it counts, in the second derivative."""
    given, u = primals
    _, slopes = _slopes(apply, given, u)
    change = jax.jvp(lambda given: _rest(apply, given, u), (given,), tangents[:1])[1]
    weight = 1 / jnp.sqrt(1 + sum(slope**2 for slope in slopes))
    return _distance(apply, given, u), weight * change
