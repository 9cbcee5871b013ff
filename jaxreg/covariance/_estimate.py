"""Classic, sandwich and Hessian covariance from a linearisation at the optimum."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxreg import _checks
from jaxreg._linear_algebra import power_of_two, unit_columns
from jaxreg._shapes import Bool, Float
from jaxreg.covariance._factors import Covariance, from_factor, inverse_factor, safe_root
from jaxreg.covariance._rows import Rows, ratio, variance_of_rows, variances_of_rows

KINDS = ("classic", "H1", "HC0", "HC1", "HC2", "HC3", "hessian")


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
    variance: Float[Array, ""] | None = None,
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
        variance: s², where these rows stand for others that it was found of; None takes it from them.

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
    root = jnp.ones_like(slope) if weight is None else safe_root(weight)
    columns = unit_columns(root[None] * jacobian, free)
    scale, inverse, regular = columns.scale, columns.inverse, columns.regular
    size = power_of_two(jnp.max(jnp.abs(slope)))
    jacobian, slope = jacobian / scale[:, None], slope / size
    along = inverse.T @ jacobian  # in parameters in which the bread is the identity, but for negative weights
    bread = jnp.eye(num_params, dtype=slope.dtype)
    definite = jnp.asarray(True)
    if weight is not None:
        bread = bread + (along * jnp.minimum(weight, 0)[None]) @ along.T
    if kind == "hessian" and bending is not None:
        bending = jnp.where(free[:, None] & free[None], bending, 0) / scale[:, None] / scale[None]
        bread = bread + inverse.T @ bending @ inverse
    if weight is not None or kind == "hessian":
        bread, definite = inverse_factor(bread)

    half, along = inverse @ bread.T, bread @ along
    rows = Rows.of_data(num_rows, robust=curvature is not None) if rows is None else rows
    one = 1 / jnp.asarray(1 if unit is None else unit, slope.dtype)  # an error of an absolute sigma
    if kind in ("classic", "H1", "hessian"):
        if absolute_sigma and not rows.robust.any():
            size = one
        elif len(np.unique(rows.sizes)) > 1 or (absolute_sigma and not rows.robust.all()):
            each = variances_of_rows(kind, slope, curvature, counted, used, rows, absolute_sigma)
            each = jnp.where(rows.robust | (not absolute_sigma), each, (one / size) ** 2)
            half = half @ (along * safe_root(each if weight is None else each * weight)[None])
        else:
            if variance is None:
                variance = variance_of_rows(slope, curvature, counted, used, 2 if kind == "H1" else 1)
            half = half * safe_root(variance)
    else:
        slope = jnp.where(rows.prior, one / size, slope)
        half = _sandwich(kind, half, along, slope, weight, rows, inverse)
        if kind == "HC1":
            units = jax.ops.segment_max(counted.astype(slope.dtype), rows.units, rows.num_units).sum()
            half = half * safe_root(ratio(units, units - used))
    half = jnp.where(free[:, None], jnp.where(regular & definite, half, jnp.nan), 0)
    return from_factor(half, size / scale)._replace(
        regular=regular, undetermined=columns.undetermined, definite=definite
    )


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
        half = half * (slope / (safe_root(left) if kind == "HC2" else left))[None]
        return jnp.where((alone & ~rows.prior)[None] & rests, jnp.nan, half)
    half = half @ (along * slope[None])
    if rows.num_units == slope.size:
        return half
    return jax.ops.segment_sum(half.T, rows.units, rows.num_units).T
