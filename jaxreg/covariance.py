"""Covariance of a fit's parameters from its linearisation: classic, sandwich (HC0-HC3) and full-Hessian.

All come from a QR of the column-scaled Jacobian, never from the inverse of JᵀJ, and hold for robust losses too: with
ψ and ψ' the loss's derivatives at the residuals, the bread is A = Σ ψ'ᵢ Jᵢ Jᵢᵀ and the sandwich's filling Σ ψᵢ² Jᵢ Jᵢᵀ.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.linalg import cho_solve

from jaxreg import _checks
from jaxreg._linear_algebra import least_singular, qr_root, solve_upper
from jaxreg._shapes import Bool, Float

KINDS = ("classic", "HC0", "HC1", "HC2", "HC3", "hessian")


class Covariance(NamedTuple):
    """What the data say about the parameters.

    Attributes:
        matrix: (p, p), in units of the parameters; NaN where it cannot be estimated, 0 in the rows and columns of
            parameters that are not free.
        regular: whether the data determine every free parameter.
        undetermined: (p,), the combination of parameters that they determine least, of length 1, where they do not;
            0 where they do.
    """

    matrix: Array
    regular: Array
    undetermined: Array


def estimate(
    kind: str,
    jacobian: Float[Array, "p n"],
    slope: Float[Array, "n"],
    curvature: Float[Array, "n"] | None = None,
    *,
    hessian: Float[Array, "p p"] | None = None,
    counted: Bool[Array, "n"] | None = None,
    free: Bool[Array, "p"] | None = None,
    absolute_sigma: bool = False,
) -> Covariance:
    """Covariance of the parameters at an optimum.

    With n rows and p free parameters,

    - "classic": s² A⁻¹, where s² = Σψ²/(n - p), or 1 if sigma is absolute. Under a robust loss
      s² = (1 + p/n · var ψ'/mean² ψ') · Σψ²/(n - p) / mean ψ', Huber's second form, always from the data;
    - "HC0": A⁻¹ (Σ ψᵢ² JᵢJᵢᵀ) A⁻¹, right where the rows' variances differ; "HC1": times n/(n - p); "HC2" and "HC3":
      with ψᵢ²/(1 - hᵢ) and ψᵢ²/(1 - hᵢ)² for ψᵢ², hᵢ = ψ'ᵢ JᵢᵀA⁻¹Jᵢ being the leverage of the row;
    - "hessian": classic, with the cost's full second derivative for A.

    Args:
        kind: one of ``KINDS``, static.
        jacobian: derivatives of the weighted residuals, one row a parameter.
        slope: ψ; the weighted residuals themselves under the squared loss.
        curvature: ψ'; None for the squared loss, where it is 1.
        hessian: of half the cost; for "hessian" only.
        counted: rows that are there; the others are zero in ``jacobian`` and ``slope``. None for all.
        free: parameters that are estimated; the others are held. None for all.
        absolute_sigma: whether the weights are absolute, so that the variance of a weighted residual is 1.

    Source: P. J. Huber, Annals of Statistics 1 (1973) 799, eq. 8.13; J. G. MacKinnon and H. White, Journal of
    Econometrics 29 (1985) 305.

    >>> line = jnp.array([[1.0, 1.0, 1.0, 1.0], [-1.0, 0.0, 0.0, 1.0]])
    >>> print(estimate("classic", line, jnp.array([1.0, -1.0, -1.0, 1.0])).matrix.round(4))
    [[0.5 0. ]
     [0.  1. ]]
    """
    _checks.one_of("kind", kind, KINDS)
    absolute_sigma = _checks.flag("absolute_sigma", absolute_sigma)
    if kind == "hessian" and hessian is None:
        raise ValueError("hessian must be given for kind 'hessian', got None")
    num_params, num_rows = jacobian.shape
    free = jnp.ones(num_params, bool) if free is None else free
    counted = jnp.ones(num_rows, bool) if counted is None else counted
    total, used = counted.sum().astype(slope.dtype), free.sum().astype(slope.dtype)
    jacobian = jnp.where(free[:, None], jacobian, 0)
    square = jnp.where(counted, slope, 0) ** 2
    weight = None if curvature is None else jnp.where(counted, curvature, 0)

    root = jnp.ones_like(slope) if weight is None else _root(weight)
    inverse, regular, undetermined = _inverse_root(root[None] * jacobian, free)
    rows = inverse.T @ jacobian  # in parameters in which the bread is the identity, but for negative weights
    bread = jnp.eye(num_params, dtype=slope.dtype)
    if kind == "hessian":
        assert hessian is not None
        held = jnp.diag(1 - free.astype(slope.dtype))
        bread, definite = _inverse(inverse.T @ jnp.where(free[:, None] & free[None], hessian, held) @ inverse)
    elif weight is not None:
        bread, definite = _inverse(bread + (rows * jnp.minimum(weight, 0)[None]) @ rows.T)
    else:
        definite = jnp.asarray(True)
    regular = regular & definite

    if kind in ("classic", "hessian"):
        middle = bread * _variance(square.sum(), curvature, counted, total, used, absolute_sigma)
    else:
        leverage = jnp.einsum("in,ij,jn->n", rows, bread, rows) * (1 if weight is None else weight)
        if kind == "HC1":
            square = square * _ratio(total, total - used)
        elif kind in ("HC2", "HC3"):
            square = square / (1 - leverage) ** (1 if kind == "HC2" else 2)
        middle = bread @ ((rows * square[None]) @ rows.T) @ bread
    matrix = jnp.where(free[:, None] & free[None], inverse @ middle @ inverse.T, 0)
    return Covariance(jnp.where(regular, matrix, jnp.nan), regular, undetermined)


def _root(weight: Float[Array, "n"]) -> Float[Array, "n"]:
    """The square root of what is positive, 0 for the rest; there it has the derivative 0, not infinity."""
    positive = weight > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, weight, 1)), 0)


def _variance(
    total_square: Float[Array, ""],
    curvature: Float[Array, "n"] | None,
    counted: Bool[Array, "n"],
    total: Float[Array, ""],
    used: Float[Array, ""],
    absolute_sigma: bool,
) -> Float[Array, ""]:
    """The factor s² of the classic covariance."""
    if curvature is None:
        return jnp.ones_like(total_square) if absolute_sigma else _ratio(total_square, total - used)
    mean = jnp.where(counted, curvature, 0).sum() / total
    spread = jnp.where(counted, (curvature - mean) ** 2, 0).sum() / total
    return (1 + used / total * spread / mean**2) * _ratio(total_square, total - used) / mean


def _ratio(numerator: Float[Array, ""], dof: Float[Array, ""]) -> Float[Array, ""]:
    """NaN where no degree of freedom is left."""
    return jnp.where(dof > 0, numerator / jnp.where(dof > 0, dof, 1), jnp.nan)


def _inverse_root(
    jacobian: Float[Array, "p n"], free: Bool[Array, "p"]
) -> tuple[Float[Array, "p p"], Bool[Array, ""], Float[Array, "p"]]:
    """R⁻¹ of a QR of Jᵀ, whether J has full rank, and the direction that it determines least if not."""
    num_params, num_rows = jacobian.shape
    norms = jnp.linalg.norm(jacobian, axis=1)
    scale = jnp.where(norms > 0, norms, 1)
    # A parameter that is held stands alone in a row of its own.
    held = jnp.diag(1 - free.astype(jacobian.dtype))
    root = qr_root(jnp.hstack([jacobian / scale[:, None], held]))
    smallest, direction = least_singular(lax.stop_gradient(root))
    # The columns have length 1, so the largest singular value is at most √p.
    regular = smallest > max(num_params, num_rows) * jnp.finfo(root.dtype).eps * num_params**0.5
    identity = jnp.eye(num_params, dtype=root.dtype)
    inverse = solve_upper(jnp.where(regular, root, identity), identity) / scale[:, None]

    direction = direction / lax.stop_gradient(scale)
    direction = direction * jnp.sign(direction[jnp.argmax(jnp.abs(direction))]) / jnp.linalg.norm(direction)
    return inverse, regular, jnp.where(regular, 0, direction)


def _inverse(matrix: Float[Array, "p p"]) -> tuple[Float[Array, "p p"], Bool[Array, ""]]:
    """The inverse of a symmetric matrix, and whether it is positive definite; the identity if not."""
    identity = jnp.eye(matrix.shape[0], dtype=matrix.dtype)
    definite = jnp.isfinite(jnp.linalg.cholesky(lax.stop_gradient(matrix))).all()
    factor = jnp.linalg.cholesky(jnp.where(definite, matrix, identity))
    return cho_solve((factor, True), identity), definite
