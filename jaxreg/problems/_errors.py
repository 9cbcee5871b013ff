"""The sizes of errors, sigma and sigma_x, checked."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import _checks, _names, _trace
from jaxreg.losses._kinds import Kind
from jaxreg.problems._form import Term, TermForm


def checked_sigma(sigma: Any, shape: tuple[int, ...], mask: Any) -> Any:
    """A scalar, of y's shape, or a covariance of all points."""
    sigma = _checks.array("sigma", sigma)
    sigma_fits(sigma.shape, shape)
    if not _trace.concrete(sigma, mask):
        return sigma
    values, counted = np.asarray(sigma), np.ones(shape, bool) if mask is None else np.asarray(mask)
    if sigma.shape in ((), shape):
        usable = positive(values) if sigma.ndim == 0 else positive(values) | ~counted
        _checks.refuse("sigma", values, usable, "positive and finite")
    elif not _positive_definite(values[np.ix_(counted.ravel(), counted.ravel())]):
        raise ValueError("sigma must be symmetric and positive definite where it is a covariance, got one that is not")
    return sigma


def sigma_fits(shape: tuple[int, ...], of_y: tuple[int, ...]) -> None:
    size = int(np.prod(of_y, dtype=int))
    if shape not in ((), of_y, (size, size)):
        raise ValueError(
            f"sigma must be a number, have y's shape {of_y}, or be a covariance of shape {(size, size)}, got shape "
            f"{shape}"
        )


def positive(sigma: Any) -> Any:
    """Whether each sigma is positive and finite."""
    return (sigma > 0) & (sigma < np.inf)


def _positive_definite(matrix: np.ndarray) -> bool:
    if not np.isfinite(matrix).all() or not np.allclose(matrix, matrix.T, rtol=1e-5, atol=0):
        return False
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return False
    return True


def checked_sigma_x(term: Term, form: TermForm) -> tuple[Any, Any]:
    """sigma, which a covariance of x with y says, and sigma_x; what does not go with errors in x is refused."""
    if term.sigma_x is None:
        return term.sigma, None
    of_y = np.shape(term.y)
    if not hasattr(term.x, "dtype"):
        raise ValueError(f"x must be one array where sigma_x is given, got {_names.structure(term.x)}")
    if form.kind in (Kind.LIKELIHOOD, Kind.LINEAR_PROGRAM):
        raise ValueError("sigma_x must be None for counts and for absolute and quantile losses, got one")
    if np.iscomplexobj(term.y):
        raise ValueError("y must be real where sigma_x is given, got complex numbers")
    sigma_x = _checks.array("sigma_x", term.sigma_x)
    sigma_x_fits(sigma_x.shape, np.shape(term.x), of_y)
    sigma, joint = term.sigma, is_joint(sigma_x.shape, np.shape(term.x), of_y)
    if joint and sigma is not None:
        raise ValueError("sigma must be None where sigma_x is the covariance of x with y, which says it, got one")
    if sigma is not None and np.shape(sigma) not in ((), of_y):
        raise ValueError(f"sigma must be a number or have y's shape {of_y} beside sigma_x, got shape {np.shape(sigma)}")
    if _trace.concrete(sigma_x, term.mask):
        there = np.ones(of_y, bool) if term.mask is None else np.asarray(term.mask)
        _check_values(np.asarray(sigma_x), there, sigma_x.shape in ((), np.shape(term.x)))
    return sigma_of_joint(sigma_x) if joint else sigma, sigma_x


def sigma_of_joint(sigma_x: Any) -> Any:
    """The standard deviation of y, by the covariance of x with it."""
    variance = sigma_x[..., -1, -1]
    return jnp.sqrt(variance) if isinstance(sigma_x, jax.Array) else np.sqrt(np.maximum(variance, 0))


def is_joint(shape: tuple[int, ...], of_x: tuple[int, ...], of_y: tuple[int, ...]) -> bool:
    """Whether a sigma_x of a shape is a covariance of each point's x with its y."""
    return shape == shapes_of_sigma_x(of_x, of_y)[-1]


def shapes_of_sigma_x(of_x: tuple[int, ...], of_y: tuple[int, ...]) -> list[tuple[int, ...]]:
    """That it may have: of one number, of standard deviations, of covariances, and of those with y."""
    count = 1 if of_x == of_y or not of_x else of_x[-1]
    return [(), of_x, (*of_y, count, count), (*of_y, count + 1, count + 1)]


def sigma_x_fits(shape: tuple[int, ...], of_x: tuple[int, ...], of_y: tuple[int, ...]) -> None:
    """Refuse a shape that does not fit."""
    if of_x != of_y and of_x[:-1] != of_y:
        raise ValueError(
            f"x must have y's shape {of_y} where sigma_x is given, coordinates in an axis after it, got shape {of_x}"
        )
    known = shapes_of_sigma_x(of_x, of_y)
    if shape not in known:
        raise ValueError(
            f"sigma_x must be a number, have x's shape {of_x}, or be a covariance a point, of shape {known[2]}, or "
            f"with y {known[3]}, got shape {shape}: np.broadcast_to gives all points the same"
        )


def _check_values(sigma_x: np.ndarray, counted: np.ndarray, deviations: bool) -> None:
    if deviations:
        there = counted.reshape(counted.shape + (1,) * (sigma_x.ndim - counted.ndim)) if sigma_x.ndim else True
        _checks.refuse("sigma_x", sigma_x, ((sigma_x >= 0) & (sigma_x < np.inf)) | ~np.asarray(there), "finite and ≥ 0")
        return
    known = np.where(counted[..., None, None], sigma_x, np.eye(sigma_x.shape[-1]))
    if np.isfinite(known).all() and np.allclose(known, np.swapaxes(known, -1, -2), rtol=1e-5, atol=0):
        ends = np.linalg.eigvalsh(known)
        if (ends[..., 0] >= -1e-6 * ends[..., -1]).all():
            return
    raise ValueError(
        "sigma_x must be symmetric and positive semidefinite where it is a covariance, got one that is not"
    )
