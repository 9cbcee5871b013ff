"""Covariance of a fit's parameters from its linearisation: classic, sandwich (HC0-HC3) and full-Hessian.

All come from a QR of the column-scaled Jacobian, never from the inverse of JᵀJ, and hold for robust losses too: with
ψ and ψ' the loss's derivatives at the residuals, the bread is A = Σ ψ'ᵢ Jᵢ Jᵢᵀ and the sandwich's filling Σ ψᵢ² Jᵢ Jᵢᵀ.
Absolute and quantile losses have no ψ' but the density of the errors at zero: "classic" takes one for all rows, so it
holds where the errors do not depend on the features; a sandwich takes Powell's kernel in each row's place, of one width
for all, so that intervals of what rests on rows with small errors are too wide.

But for the squared loss they are for many points. With n = 10, scale "mad" and Huber's or Tukey's loss nominal 95 %
intervals of a line's slope hold it in 87 to 92 % (HC0: 86 %); of outer quantiles (q = 0.1 or 0.9) in 88 to 92 % at
n = 200 and in 74 to 87 % at n = 40.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.linalg import solve_triangular

from jaxreg import _checks
from jaxreg._linear_algebra import inverse_upper, lengths, power_of_two, qr_root
from jaxreg._shapes import Bool, Float

KINDS = ("classic", "H1", "HC0", "HC1", "HC2", "HC3", "hessian")


class Covariance(NamedTuple):
    """What the data say about the parameters.

    Attributes:
        matrix: (p, p), in units of the parameters; NaN where it cannot be estimated and in entries that leave the range
            of the dtype, 0 in the rows and columns of parameters that are not free.
        stderr: (p,), standard errors, right also where their squares leave the range; infinite where they themselves
            do, above or below.
        regular: whether the data determine every free parameter.
        undetermined: (p,), the combination of parameters that they determine least, of length 1.
        definite: whether the bread is positive definite. If not there are no errors: a fit of a redescending loss is at
            no minimum, or, with an estimated scale, at one of which this estimate knows nothing.
    """

    matrix: Array
    stderr: Array
    regular: Array
    undetermined: Array
    definite: Array


class Rows(NamedTuple):
    """What the rows of a sum of terms are.

    Attributes:
        robust: (n,) booleans, rows under a robust loss, the size of whose errors is taken from them.
        sizes: (n,) whole numbers, equal for rows whose errors have one unknown size.
        prior: (n,) booleans, rows that are no data: their variance is 1 in every covariance.
        units: (n,) whole numbers, equal for rows that a sandwich takes together as one.
    """

    robust: np.ndarray
    sizes: np.ndarray
    prior: np.ndarray
    units: np.ndarray

    @classmethod
    def of_data(cls, num_rows: int, *, robust: bool) -> "Rows":
        """Independent rows of one term."""
        return cls(np.full(num_rows, robust), np.zeros(num_rows, int), np.zeros(num_rows, bool), np.arange(num_rows))

    @property
    def num_units(self) -> int:
        """How many of them there are."""
        return int(self.units.max(initial=-1)) + 1


def estimate(
    kind: str,
    jacobian: Float[Array, "p n"],
    slope: Float[Array, "n"],
    curvature: Float[Array, "n"] | None = None,
    *,
    bending: Float[Array, "p p"] | None = None,
    counted: Bool[Array, "n"] | None = None,
    free: Bool[Array, "p"] | None = None,
    absolute_sigma: bool = False,
    unit: Float[Array, ""] | None = None,
    rows: Rows | None = None,
) -> Covariance:
    """Covariance of the parameters at an optimum.

    With n rows and p free parameters,

    - "classic": s² A⁻¹, where s² = Σψ²/(n - p), or 1 if sigma is absolute. Under a robust loss
      s² = (1 + p/n · var ψ'/mean² ψ') · Σψ²/(n - p) / mean ψ', Huber's second form, always from the data;
    - "H1": the same but for a robust loss, where it is (1 + p/n · var ψ'/mean² ψ')² · Σψ²/(n - p) / mean² ψ' (ΣJJᵀ)⁻¹,
      Huber's first form, which R's ``rlm`` and statsmodels take;
    - "HC0": A⁻¹ (Σ ψᵢ² JᵢJᵢᵀ) A⁻¹, right where the rows' variances differ; "HC1": times n/(n - p); "HC2" and "HC3":
      with ψᵢ²/(1 - hᵢ) and ψᵢ²/(1 - hᵢ)² for ψᵢ², hᵢ = ψ'ᵢ JᵢᵀA⁻¹Jᵢ being the leverage of the row: NaN for
      parameters that rest on a row of leverage 1, whose residual says nothing;
    - "hessian": classic, with the cost's full second derivative for A, at the given scale of the loss.

    Args:
        kind: one of ``KINDS``, static.
        jacobian: derivatives of the weighted residuals, one row a parameter.
        slope: ψ; the weighted residuals themselves under the squared loss.
        curvature: ψ'; None for the squared loss, where it is 1.
        bending: Σ ψᵢ ∂²rᵢ, what the model's second derivatives add to A; for "hessian" only.
        counted: rows that are there; the others are zero in ``jacobian`` and ``slope``. None for all.
        free: parameters that are estimated; the others are held. None for all.
        absolute_sigma: whether the weights are absolute, so that the variance of a weighted residual is 1.
        unit: that ``jacobian`` and ``slope`` are counted in; None for 1. It matters for an absolute sigma only.
        rows: what they are, where they are not all of one term: with an absolute sigma "classic" is then
            A⁻¹ (Σ vᵢ ψ'ᵢ JᵢJᵢᵀ) A⁻¹ with vᵢ = s² for rows under a robust loss and 1 for the others. None for rows that
            are all data, robust if ``curvature`` is given, and independent.

    Source: P. J. Huber, Annals of Statistics 1 (1973) 799, eqs. 8.12 and 8.13; J. G. MacKinnon and H. White, Journal of
    Econometrics 29 (1985) 305.

    >>> line = jnp.array([[1.0, 1.0, 1.0, 1.0], [-1.0, 0.0, 0.0, 1.0]])
    >>> print(estimate("classic", line, jnp.array([1.0, -1.0, -1.0, 1.0])).matrix.round(4))
    [[0.5 0. ]
     [0.  1. ]]
    """
    _checks.one_of("kind", kind, KINDS)
    absolute_sigma = _checks.flag("absolute_sigma", absolute_sigma)
    if kind == "hessian" and bending is None:
        raise ValueError("bending must be given for kind 'hessian', got None")
    num_params, num_rows = jacobian.shape
    free = jnp.ones(num_params, bool) if free is None else free
    counted = jnp.ones(num_rows, bool) if counted is None else counted
    used = free.sum().astype(slope.dtype)
    jacobian, slope = jnp.where(free[:, None], jacobian, 0), jnp.where(counted, slope, 0)
    weight = None if curvature is None or kind == "H1" else jnp.where(counted, curvature, 0)

    # Columns of length 1 and slopes near 1: no square leaves the range of floats.
    root = jnp.ones_like(slope) if weight is None else _root(weight)
    scale = lax.stop_gradient(lengths(root[None] * jacobian))
    scale = jnp.where(scale > 0, scale, 1)
    size = power_of_two(jnp.max(jnp.abs(slope)))
    jacobian, slope = jacobian / scale[:, None], slope / size
    inverse, regular, undetermined = _inverse_root(root[None] * jacobian, scale, free)
    along = inverse.T @ jacobian  # in parameters in which the bread is the identity, but for negative weights
    bread = jnp.eye(num_params, dtype=slope.dtype)
    definite = jnp.asarray(True)
    if weight is not None:
        bread = bread + (along * jnp.minimum(weight, 0)[None]) @ along.T
    if kind == "hessian" and bending is not None:
        bending = jnp.where(free[:, None] & free[None], bending, 0) / scale[:, None] / scale[None]
        bread = bread + inverse.T @ bending @ inverse
    if weight is not None or kind == "hessian":
        bread, definite = _inverse_factor(bread)

    half, along = inverse @ bread.T, bread @ along
    rows = Rows.of_data(num_rows, robust=curvature is not None) if rows is None else rows
    one = 1 / jnp.asarray(1 if unit is None else unit, slope.dtype)  # an error of an absolute sigma
    if kind in ("classic", "H1", "hessian"):
        if absolute_sigma and not rows.robust.any():
            size = one
        elif len(np.unique(rows.sizes)) > 1 or (absolute_sigma and not rows.robust.all()):
            each = _variances(kind, slope, curvature, counted, used, rows, absolute_sigma)
            each = jnp.where(rows.robust | (not absolute_sigma), each, (one / size) ** 2)
            half = half @ (along * _root(each if weight is None else each * weight)[None])
        else:
            half = half * _root(_variance(slope, curvature, counted, used, 2 if kind == "H1" else 1))
    else:
        slope = jnp.where(rows.prior, one / size, slope)
        half = _sandwich(kind, half, along, slope, weight, rows, inverse)
        if kind == "HC1":
            units = jax.ops.segment_max(counted.astype(slope.dtype), rows.units, rows.num_units).sum()
            half = half * _root(_ratio(units, units - used))
    half = jnp.where(free[:, None], jnp.where(regular & definite, half, jnp.nan), 0)
    return from_factor(half, size / scale)._replace(regular=regular, undetermined=undetermined, definite=definite)


def _sandwich(
    kind: str,
    half: Float[Array, "p p"],
    along: Float[Array, "p n"],
    slope: Float[Array, "n"],
    weight: Float[Array, "n"] | None,
    rows: Rows,
    inverse: Float[Array, "p p"],
) -> Float[Array, "p k"]:
    """The factor of a sandwich, a column for each row, or for each unit of rows."""
    if kind in ("HC2", "HC3"):
        left = 1 - jnp.sum(along**2, axis=0) * (1 if weight is None else weight)
        # What rounding leaves of 1 - h: R⁻¹ is as large as the columns are near to dependent.
        alone = left <= slope.size * jnp.finfo(left.dtype).eps * jnp.linalg.norm(lax.stop_gradient(inverse))
        left = jnp.where(alone | rows.prior, 1, left)
        half = half @ along
        rests = jnp.abs(half) > jnp.finfo(left.dtype).eps ** 0.5 * jnp.max(jnp.abs(half), axis=1)[:, None]
        half = half * (slope / (_root(left) if kind == "HC2" else left))[None]
        return jnp.where((alone & ~rows.prior)[None] & rests, jnp.nan, half)
    half = half @ (along * slope[None])
    if rows.num_units == slope.size:
        return half
    return jax.ops.segment_sum(half.T, rows.units, rows.num_units).T


def from_factor(half: Float[Array, "p k"], unit: Float[Array, "p"]) -> Covariance:
    """The covariance that is half·halfᵀ in these units of the parameters, and the standard errors from the factor.

    >>> print(from_factor(jnp.array([[3.0, 4.0]]), jnp.array([1e-30])).stderr)
    [5.e-30]
    """
    length = _root(jnp.sum(half**2, axis=1))
    stderr = length * unit
    # Not a product of matrices, which vmap would make a call of a library for each of many small ones.
    scaled = jnp.stack([jnp.sum(half * row[None], axis=1) for row in half]) if len(half) < 9 else half @ half.T
    matrix = scaled * unit[:, None] * unit[None]
    return Covariance(
        matrix=jnp.where(_lost(scaled, matrix), jnp.nan, matrix),
        stderr=jnp.where(_lost(length, stderr), jnp.inf, stderr),
        regular=jnp.asarray(True),
        undetermined=jnp.zeros_like(unit),
        definite=jnp.asarray(True),
    )


def _lost(scaled: Float[Array, "..."], value: Float[Array, "..."]) -> Bool[Array, "..."]:
    """Whether a value has left the range of floats by its unit."""
    return (scaled != 0) & ((jnp.abs(value) < jnp.finfo(value.dtype).tiny) | jnp.isinf(value))


def _root(value: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The square root, 0 of what is not positive; there it has the derivative 0, not infinity."""
    flat = value <= 0
    return jnp.where(flat, 0, jnp.sqrt(jnp.where(flat, 1, value)))


def _variance(
    slope: Float[Array, "n"],
    curvature: Float[Array, "n"] | None,
    counted: Bool[Array, "n"],
    used: Float[Array, ""],
    power: int,
) -> Float[Array, ""]:
    """The factor s² of the classic covariance, with power 1, and of Huber's first form, with power 2."""
    total, square = counted.sum().astype(slope.dtype), jnp.sum(slope**2)
    if curvature is None:
        return _ratio(square, total - used)
    mean = jnp.where(counted, curvature, 0).sum() / total
    spread = jnp.where(counted, (curvature - mean) ** 2, 0).sum() / total
    return ((1 + used / total * spread / mean**2) / mean) ** power * _ratio(square, total - used)


def _variances(
    kind: str,
    slope: Float[Array, "n"],
    curvature: Float[Array, "n"] | None,
    counted: Bool[Array, "n"],
    used: Float[Array, ""],
    rows: Rows,
    known: bool,
) -> Float[Array, "n"]:
    """s² of each row, from those whose errors have the size of its own; the parameters count to each by its rows."""
    each, total = jnp.zeros_like(slope), counted.sum().astype(slope.dtype)
    for size in np.unique(rows.sizes):
        own = counted & (rows.sizes == size) & (rows.robust | (not known))
        part, power = used * own.sum().astype(slope.dtype) / total, 2 if kind == "H1" else 1
        found = _variance(jnp.where(own, slope, 0), curvature, own, part, power)
        each = jnp.where(rows.sizes == size, found, each)
    return each


def classic_variance(
    slope: Float[Array, "n"], curvature: Float[Array, "n"], counted: Bool[Array, "n"], used: Float[Array, ""]
) -> Float[Array, ""]:
    """By how much the cost, twice the loss, grows at one standard error: s² of the classic covariance.

    >>> slope, ones = jnp.array([1.0, -1.0, -1.0, 1.0]), jnp.ones(4)
    >>> print(classic_variance(slope, ones, ones > 0, jnp.array(2.0)))
    2.0
    """
    return _variance(jnp.where(counted, slope, 0), curvature, counted, used, 1)


def _ratio(numerator: Float[Array, ""], dof: Float[Array, ""]) -> Float[Array, ""]:
    """NaN where no degree of freedom is left."""
    return jnp.where(dof > 0, numerator / jnp.where(dof > 0, dof, 1), jnp.nan)


def _inverse_root(
    jacobian: Float[Array, "p n"], scale: Float[Array, "p"], free: Bool[Array, "p"]
) -> tuple[Float[Array, "p p"], Bool[Array, ""], Float[Array, "p"]]:
    """R⁻¹ of a QR of Jᵀ, J's columns having length 1; whether it has full rank, and the direction determined least."""
    num_params, num_rows = jacobian.shape
    # A parameter that is held stands alone in a row of its own.
    held = jnp.diag(1 - free.astype(jacobian.dtype))
    root = qr_root(jnp.hstack([jacobian, held]))
    inverse, smallest, direction = inverse_upper(root)
    # The columns have length 1, so the largest singular value is at most √p.
    regular = smallest > max(num_params, num_rows) * jnp.finfo(root.dtype).eps * num_params**0.5
    direction = direction / scale
    direction = direction / direction[jnp.argmax(jnp.abs(direction))]
    identity = jnp.eye(num_params, dtype=root.dtype)  # so that the derivatives of what is NaN then are finite before
    return jnp.where(regular, inverse, identity), regular, direction / jnp.linalg.norm(direction)


def _inverse_factor(matrix: Float[Array, "p p"]) -> tuple[Float[Array, "p p"], Bool[Array, ""]]:
    """L⁻¹ of a symmetric matrix L·Lᵀ, and whether it is positive definite; the identity if not."""
    identity = jnp.eye(matrix.shape[0], dtype=matrix.dtype)
    definite = jnp.isfinite(jnp.linalg.cholesky(lax.stop_gradient(matrix))).all()
    factor = jnp.linalg.cholesky(jnp.where(definite, matrix, identity))
    return solve_triangular(factor, identity, lower=True), definite
