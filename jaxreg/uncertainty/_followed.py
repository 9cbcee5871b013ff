"""What follows a fit reads from the fit: its problem, at the parameters that it found."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxreg import _checks
from jaxreg._trace import x64
from jaxreg.global_fits import GlobalFit
from jaxreg.global_fits._fit import with_numbers
from jaxreg.least_squares import Fit
from jaxreg.least_squares._solver import check_rows
from jaxreg.models import Model
from jaxreg.problems import Problem
from jaxreg.results import Sweep

Given = ParamSpec("Given")
Returned = TypeVar("Returned")

_KNOWN = ("model", "x", "y", "sigma", "sigma_x", "absolute_sigma", "mask", "bounds", "fixed", "loss", "scale")


def follows(fn: Callable[Given, Returned]) -> Callable[Given, Returned]:
    """A function of a fit, which says of what the fit knows that it is not said again."""
    parameters = inspect.signature(fn).parameters
    names = tuple(parameters)
    most = sum(one.kind is not one.KEYWORD_ONLY for one in parameters.values())
    place = names.index("fit")

    @functools.wraps(fn)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Returned:
        again = [name for name in kwargs if name in _KNOWN and name not in names]
        misplaced = len(args) > place and (isinstance(args[place], Model | Problem) or callable(args[place]))
        if again or misplaced or len(args) > most:
            is_problem = misplaced and isinstance(args[place], Problem)
            what = again[0] if again else "problem" if is_problem else "model and data"
            shown = ", ".join((*names[:place], "fit", "…"))
            raise ValueError(f"the fit knows its {what}: {fn.__name__}({shown}) takes no other")
        fit = args[place] if len(args) > place else kwargs.get("fit")
        if not isinstance(fit, Fit | GlobalFit | Sweep):
            raise ValueError(f"fit must be what jaxreg.fit, curve_fit or fit_many returned, got {type(fit).__name__}")
        if (
            isinstance(fit, Fit | GlobalFit)
            and isinstance(fit.covariance, np.ndarray)
            and not np.ndim(fit.status)
            and not x64()
        ):
            _checks.warn_if_narrowed(fit.covariance, level=3)  # as after unpickling
            arrays = arrays_of(fit)
            arrays = (with_numbers if isinstance(fit, GlobalFit) else Fit.replace)(arrays, problem=fit.problem)
            args = tuple(arrays if value is fit else value for value in args)  # type: ignore[assignment]
            kwargs = {name: arrays if value is fit else value for name, value in kwargs.items()}  # type: ignore[assignment]
        return fn(*args, **kwargs)

    return call


def problem_of(fit: Any) -> Any:
    """The problem of one fit, or of a global one."""
    if isinstance(fit, Sweep):
        raise ValueError("fit must be one fit, got a Sweep: its values are fits, without their problems")
    if np.ndim(fit.status):
        raise ValueError(f"fit must be one fit, such as fits[0] (vmap over many), got leading axes {fit.status.shape}")
    if fit.problem is None:
        raise ValueError("this fit is without its problem, as sweeps and stores keep it: fit.with_problem(problem)")
    return fit.problem


def found(fit: Any) -> Any:
    """The problem of one fit, or of a global one, which starts at what that found: for what computes with all rows."""
    if getattr(fit, "pooled", None) is not None:
        raise ValueError(
            "fit is one data set of a global fit, which cannot be fitted again alone: give the global fit itself"
        )
    problem = problem_of(fit)
    if isinstance(problem, Problem):
        check_rows(problem)
    return problem.starting_at(fit.params)


def pool_of(fit: Any) -> Any:
    """What has the χ² and dof that say how large a fit's errors are: it, or all data sets of a global one."""
    return getattr(fit, "pooled", None) or fit


def is_absolute(fit: Any) -> bool:
    """Whether the size of the errors was said."""
    if fit.problem is None:
        raise ValueError(
            "this fit is without its problem, as sweeps and stores keep it, so that nobody knows whether its sigma was "
            "absolute: say distribution='t' or 'normal', or give it back, fit.with_problem(problem)"
        )
    absolute: bool = fit.problem.absolute_sigma
    return absolute


def distribution_of(fit: Any, distribution: str | None) -> str:
    """Which quantiles an interval takes: what was asked for, or what follows from whether sigma was absolute."""
    if distribution is not None:
        return distribution
    return "normal" if is_absolute(fit) else "t"


def variance_of(fit: Any, term: int = 0) -> Array:
    """The variance of a residual in sigmas: 1, or what the residuals say; with a robust scale, of no outlier.

    The median of residuals that p parameters have taken from is small by √(1 - p/n), as their mean square is.
    """
    if is_absolute(fit):
        return jnp.ones_like(fit.chi2)
    pool = pool_of(fit)
    dof = jnp.asarray(pool.dof, fit.chi2.dtype)
    if fit.scale is None:
        return jnp.divide(pool.chi2, dof)
    num_points = sum(_num_known(part, fit.chi2.dtype) for part in jax.tree.leaves(fit.residuals))
    num_points = getattr(pool, "num_points", num_points)
    own, scale = fit.residuals, fit.scale
    if isinstance(scale, tuple):
        own, scale = own[term], scale[term]
        if fit.problem.form.terms[term].scale is None:  # beside terms that have one
            squares = jnp.nansum(jnp.abs(own / fit.problem.terms[term].sigma) ** 2)
            return squares / _num_known(own, fit.chi2.dtype) * num_points / dof
    return jnp.divide(scale**2 * num_points, dof)


def _num_known(residuals: Any, dtype: Any) -> Array:
    return jnp.isfinite(residuals).sum().astype(dtype)


def arrays_of(fit: Any) -> Any:
    """The fit as JAX's arrays, without its problem."""
    return jax.tree.map(jnp.asarray, fit.without_data())


def covariance_of(fit: Fit) -> Array:
    """The covariance of one fit in which parameters that ended at a bound count as known."""
    covariance: Array = fit.covariance
    if fit.at_bound is None:
        return covariance
    stopped, _ = ravel_pytree(fit.at_bound)
    return jnp.where(stopped[:, None] | stopped[None], 0, covariance)


def over_fits(fn: Callable[..., Any], fit: Any) -> Callable[..., Any]:
    """A function of one fit, and of what goes with it, mapped over the axes of many."""
    for _ in range(fit.status.ndim):
        fn = jax.vmap(fn)
    return fn
