"""The arguments of ``curve_fit``: checked, and in the form in which they go into a compiled program."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxreg import _checks, _names, _trace, losses
from jaxreg import covariance as covariances
from jaxreg.data import Dataset
from jaxreg.least_squares._problem import Options, Task, positive
from jaxreg.models import Apply, Model, Params
from jaxreg.objective import Loss, neutral_rows


def prepare(
    model: Model | Apply,
    x: Any,
    y: Any,
    p0: Params | None,
    *,
    sigma: Any,
    absolute_sigma: bool,
    mask: Any,
    bounds: tuple[Any, Any] | None,
    fixed: Any,
    loss: str | Loss = "squared",
    scale: str | None = None,
    covariance: str = "classic",
    max_steps: int,
) -> tuple[Task, Options]:
    """The arguments of ``curve_fit``, checked and in their final form."""
    x, y, _ = _checks.rows(x, y)
    num_rows = len(y)
    max_steps = _checks.count("max_steps", max_steps, least=0)
    absolute_sigma = _checks.flag("absolute_sigma", absolute_sigma)
    _checks.one_of("covariance", covariance, covariances.KINDS)
    function, thresholds = _loss(loss)
    _loss_fits(loss, function, thresholds, model, scale, bounds, covariance)
    mask = None if mask is None else _mask(mask, num_rows)
    if p0 is None:
        p0 = guessed(x, y, mask, bounds, guess=guess_of(model, fixed))
    p0 = _checks.params("p0", p0)
    free = None if fixed is None else _free(fixed, p0)
    num_params = sum(leaf.size for leaf in jax.tree.leaves(p0)) if free is None else sum(free)
    _enough(num_rows, num_params, mask)
    sigma = np.asarray(1, y.dtype) if sigma is None else _sigma(sigma, num_rows, mask)
    if bounds is not None:
        bounds = _bounds(bounds, p0)
    task = Task(p0, x, y, sigma, mask, bounds, thresholds)
    return task, Options(model, free, function, scale, absolute_sigma, covariance, max_steps)


LOSSES: dict[str, Loss] = {
    "absolute": losses.absolute,
    "cauchy": losses.cauchy,
    "huber": losses.huber,
    "log_cosh": losses.log_cosh,
    "pseudo_huber": losses.pseudo_huber,
    "quantile": losses.quantile,
    "soft_l1": losses.soft_l1,
    "squared": losses.squared,
    "tukey": losses.tukey,
}
LINEAR_PROGRAMS: tuple[Any, ...] = (losses.absolute, losses.quantile)


def _loss(loss: str | Loss) -> tuple[Loss | None, dict[str, Any]]:
    """The function and its bound thresholds apart, so that another threshold is not another program."""
    if not callable(loss):
        _checks.one_of("loss", loss, tuple(LOSSES))
        loss = LOSSES[loss]
    thresholds: dict[str, Any] = {}
    function: Any = loss
    if isinstance(function, functools.partial) and not function.args:
        thresholds = {key: _checks.array(f"the loss's {key}", value) for key, value in function.keywords.items()}
        function = function.func
    return None if function is losses.squared else function, thresholds


def _loss_fits(
    loss: Any, function: Any, thresholds: dict[str, Any], model: Any, scale: Any, bounds: Any, covariance: str
) -> None:
    """Refuse what a loss does not go with."""
    for name, value in thresholds.items():
        if _trace.concrete(value):
            wanted = "between 0 and 1" if function is losses.quantile else "positive"
            usable = (value > 0) & ((value < 1) | (function is not losses.quantile))
            _checks.refuse(f"the loss's {name}", value, usable, wanted)
    if scale is not None:
        _checks.one_of("scale", scale, ("mad",))
        if function is None or function in LINEAR_PROGRAMS:
            raise ValueError(f"scale must be None for a loss without a threshold, {loss}, got {scale!r}")
    if function in LINEAR_PROGRAMS:
        if not isinstance(model, Model) or model.features is None:
            raise ValueError(f"model must be a Model with features, linear in its parameters, for {loss}, got {model}")
        if bounds is not None:
            raise ValueError(f"bounds must be None for {loss}, got {bounds}")
        if covariance == "hessian":
            raise ValueError(f"covariance must not be 'hessian' for {loss}, which has no curvature")


def _mask(mask: Any, num_rows: int) -> Any:
    mask = _checks.booleans("mask", mask)
    _checks.shape("mask", mask, (num_rows,))
    return mask


def guess_of(model: Model | Apply, fixed: Any) -> Callable[..., Params]:
    """The model's own start, for a fit that is given none."""
    if not isinstance(model, Model) or model.guess is None:
        raise ValueError("p0 must be given where the model has no guess, got None")
    if fixed is not None:
        raise ValueError("p0 must be given where parameters are fixed, got None")
    return model.guess


@_trace.compiled("guess")
def guessed(x: Array, y: Array, mask: Array | None, bounds: Any, *, guess: Any) -> Params:
    """The model's guess from the rows that are there, moved into the box; no derivative of a fit depends on it."""
    data = neutral_rows(lax.stop_gradient(Dataset(jnp.asarray(x), jnp.asarray(y), mask)))
    start = guess(data.x, data.y)
    if bounds is None:
        return start
    lower, upper = (_shaped("bounds", bound, start) for bound in bounds)
    return jax.tree.map(jnp.clip, start, lower, upper)


def _shaped(name: str, value: Any, p0: Params) -> Params:
    """One number for all parameters, or a tree like p0 whose leaves are numbers or shaped like those of p0."""
    leaves = jax.tree.leaves(p0)
    structure: Any = jax.tree.structure(p0)
    read = _checks.booleans if name == "fixed" else _checks.array
    if structure == jax.tree.structure(value):
        values = [read(name, leaf) for leaf in jax.tree.leaves(value)]
    else:
        values = [_alone(name, value, read)] * len(leaves)
        if values[0] is None or (len(leaves) > 1 and values[0].ndim):
            raise ValueError(f"{name} must be one number or shaped like p0, {_names.structure(p0)}, got {value!r}")
    for leaf, wanted in zip(values, leaves, strict=True):
        if leaf.shape not in ((), jnp.shape(wanted)):
            raise ValueError(f"{name} must have the shape {jnp.shape(wanted)} of p0's leaf, got {leaf.shape}")
    spread = [
        np.broadcast_to(leaf, jnp.shape(wanted)) if _trace.concrete(leaf) else jnp.broadcast_to(leaf, wanted.shape)
        for leaf, wanted in zip(values, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, spread)


def _alone(name: str, value: Any, read: Callable[[str, Any], Any]) -> Any:
    """A number, or a list of numbers; None for anything else."""
    return None if value is None or isinstance(value, dict) else read(name, value)


def _free(fixed: Any, p0: Params) -> tuple[bool, ...]:
    if not _trace.concrete(fixed):
        raise ValueError("fixed chooses the program, so it cannot be a traced value")
    leaves = jax.tree.leaves(_shaped("fixed", fixed, p0))
    free = tuple(bool(value) for leaf in leaves for value in ~leaf.ravel())
    if not any(free):
        raise ValueError("fixed must leave at least one parameter free, got none")
    return free


def _enough(num_rows: int, num_params: int, mask: Any) -> None:
    if mask is not None and _trace.concrete(mask):
        num_rows = int(np.count_nonzero(mask))
    if num_params > num_rows:
        raise ValueError(f"y must have at least as many points as there are parameters, {num_params}, got {num_rows}")


def _sigma(sigma: Any, num_rows: int, mask: Any) -> Any:
    sigma = _checks.array("sigma", sigma)
    if sigma.ndim == 2:
        _checks.shape("sigma", sigma, (num_rows, num_rows))
    elif sigma.ndim:
        _checks.shape("sigma", sigma, (num_rows,))
    if not _trace.concrete(sigma, mask):
        return sigma
    values, counted = np.asarray(sigma), np.ones(num_rows, bool) if mask is None else np.asarray(mask)
    if sigma.ndim < 2:
        usable = positive(values) if sigma.ndim == 0 else positive(values) | ~counted
        _checks.refuse("sigma", values, usable, "positive and finite")
    elif not _positive_definite(values[np.ix_(counted, counted)]):
        raise ValueError("sigma must be symmetric and positive definite where it is a covariance, got one that is not")
    return sigma


def _positive_definite(matrix: np.ndarray) -> bool:
    if not np.isfinite(matrix).all() or not np.allclose(matrix, matrix.T, rtol=1e-5, atol=0):
        return False
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return False
    return True


def _bounds(bounds: tuple[Any, Any], p0: Params) -> tuple[Params, Params]:
    lower, upper = box(bounds, p0)
    if _trace.concrete(lower, upper, p0):
        for (path, value), low, high in zip(
            jax.tree_util.tree_leaves_with_path(p0), jax.tree.leaves(lower), jax.tree.leaves(upper), strict=True
        ):
            name = f"p0{jax.tree_util.keystr(path)}"
            inside = np.asarray((low <= value) & (value <= high))
            _checks.refuse(name, value, inside, f"between its bounds {low} and {high}")
    return lower, upper


def box(bounds: tuple[Any, Any], p0: Params) -> tuple[Params, Params]:
    """Lower and upper bounds, each shaped like p0."""
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise ValueError(f"bounds must be a pair (lower, upper), got {bounds!r}")
    lower, upper = (_shaped("bounds", bound, p0) for bound in bounds)
    if _trace.concrete(lower, upper):
        for low, high in zip(jax.tree.leaves(lower), jax.tree.leaves(upper), strict=True):
            _checks.refuse("bounds", low, low <= high, f"in order, lower ≤ upper = {high}")
    return lower, upper
