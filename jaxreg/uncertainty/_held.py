"""A fit repeated with some of its parameters held, as profiles need it."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from jaxreg import _checks, _trace
from jaxreg.least_squares import CurveFit
from jaxreg.least_squares import _levenberg_marquardt as levenberg_marquardt
from jaxreg.least_squares import _problem as least_squares
from jaxreg.least_squares._arguments import prepare
from jaxreg.least_squares._result import status_of
from jaxreg.models import Apply, Model, Params, apply_of
from jaxreg.status import Status


class Task(NamedTuple):
    """A fit and what it was fitted to; arrays only, so that it goes through ``jit``."""

    fit: CurveFit
    x: Array
    y: Array
    sigma: Array | None
    mask: Array | None
    bounds: tuple[Params, Params] | None


class Held(NamedTuple):
    """A fit with some parameters held.

    Attributes:
        chi2: scalar; infinite where the model is not finite or a held value is out of its bounds.
        params: (p,), of the free parameters, held ones included.
        status: of the refit.
    """

    chi2: Array
    params: Array
    status: Array


class Problem(NamedTuple):
    """What all refits of one fit share; the p parameters are those that are not fixed."""

    task: Task
    model: Model | Apply
    max_steps: int
    places: np.ndarray  # (p,), of the free parameters in ravel_pytree(params)
    center: Array  # (p,)
    covariance: Array  # (p, p)
    variance: Array  # of a residual in sigmas

    def model_of(self, free: Array, x: Array) -> Array:
        flat, unravel = ravel_pytree(self.task.fit.params)
        return apply_of(self.model)(unravel(flat.at[self.places].set(free)), x)

    def tau(self, chi2: Array) -> Array:
        """√(Δχ²/s²): in standard errors, for a linear model."""
        return jnp.sqrt(jnp.maximum(chi2 - self.task.fit.chi2, 0) / self.variance)

    def hold(self, held: Array, values: Array, start: Array) -> Held:
        """Fit the others with the parameters ``held`` (k,) at ``values`` (k,), from ``start`` (p,)."""
        task, num_others = self.task, self.center.size - held.shape[0]
        chosen = jnp.zeros(self.center.size, bool).at[held].set(True)
        others = jnp.argsort(chosen, stable=True)[:num_others]

        def restore(inner: Array) -> Array:
            return start.at[others].set(inner).at[held].set(values)

        lower, upper = self.bounds()
        inside = ((values >= lower[held]) & (values <= upper[held])).all()
        if num_others == 0:
            return self._alone(restore(start[others]), inside)
        bounds = None if task.bounds is None else (lower[others], upper[others])
        problem = self._problem(lambda inner, x: self.model_of(restore(inner), x), start[others], bounds)
        end = lax.while_loop(
            lambda state: ~levenberg_marquardt.finished(state, self.max_steps),
            functools.partial(levenberg_marquardt.step, problem),
            levenberg_marquardt.init(problem, problem.start),
        )
        chi2 = jnp.vdot(end.residual, end.residual)
        known = inside & end.startable & jnp.isfinite(chi2)
        return Held(jnp.where(known, chi2, jnp.inf), restore(end.params), status_of(problem, end))

    def bounds(self) -> tuple[Array, Array]:
        if self.task.bounds is None:
            return jnp.full_like(self.center, -jnp.inf), jnp.full_like(self.center, jnp.inf)
        return tuple(self._flat(bound) for bound in self.task.bounds)  # type: ignore[return-value]

    def _flat(self, bound: Params) -> Array:
        params = self.task.fit.params
        structure: Any = jax.tree.structure(params)
        alike = jax.tree.structure(bound) == structure
        whole = bound if alike else jax.tree.map(lambda _: bound, params)
        spread = jax.tree.map(
            lambda leaf, one: jnp.broadcast_to(jnp.asarray(one, leaf.dtype), leaf.shape), params, whole
        )
        return ravel_pytree(spread)[0][self.places]

    def _alone(self, free: Array, inside: Array) -> Held:
        """Nothing is left to fit."""
        residual = self._problem(self.model_of, free, None).residual(free)
        chi2 = jnp.vdot(residual, residual)
        return Held(jnp.where(inside & jnp.isfinite(chi2), chi2, jnp.inf), free, jnp.int32(Status.OK))

    def _problem(self, model: Apply, start: Array, bounds: tuple[Array, Array] | None) -> least_squares.Problem:
        # The refits of a profile need no covariance, so they are not whole calls of curve_fit.
        task, options = prepare(
            model,
            self.task.x,
            self.task.y,
            start,
            sigma=self.task.sigma,
            absolute_sigma=False,
            mask=self.task.mask,
            bounds=bounds,
            fixed=None,
            loss="squared",
            scale=None,
            covariance="classic",
            max_steps=self.max_steps,
        )
        return least_squares.problem_of(task, options)


def task_of(
    fit: CurveFit,
    x: ArrayLike,
    y: ArrayLike,
    sigma: ArrayLike | None,
    mask: ArrayLike | None,
    bounds: tuple[Params, Params] | None,
) -> Task:
    """Check shapes and collect."""
    if jnp.ndim(fit.chi2):
        raise ValueError(f"fit must be one fit (vmap over many), got leading axes {jnp.shape(fit.chi2)}")
    x, y = jnp.asarray(x), jnp.asarray(y)
    num_rows = _checks.rows(x, y)
    _checks.shape("fit.residuals", fit.residuals, (num_rows,))
    if sigma is not None:
        _checks.floating("sigma", sigma)
        sigma = jnp.asarray(sigma, y.dtype)
    if mask is not None:
        mask = jnp.asarray(mask, bool)
        _checks.shape("mask", mask, (num_rows,))
    return Task(fit, x, y, sigma, mask, bounds)


def problem_of(
    task: Task, *, model: Model | Apply, absolute_sigma: bool, fixed: tuple[bool, ...] | None, max_steps: int
) -> Problem:
    """What all refits share."""
    flat, _ = ravel_pytree(task.fit.params)
    places = np.arange(flat.size) if fixed is None else np.flatnonzero(~np.asarray(fixed))
    return Problem(
        task=task,
        model=model,
        max_steps=max_steps,
        places=places,
        center=flat[places],
        covariance=task.fit.covariance[jnp.ix_(places, places)],
        variance=jnp.ones_like(task.fit.chi2) if absolute_sigma else task.fit.chi2 / task.fit.dof,
    )


def fixed_of(fit: CurveFit, fixed: Params | None) -> tuple[bool, ...] | None:
    """Booleans shaped like params, flat and static."""
    if fixed is None:
        return None
    if not _trace.concrete(fixed):
        raise ValueError("fixed chooses the program, so it cannot be a traced value")
    structure: Any = jax.tree.structure(fit.params)
    if jax.tree.structure(fixed) != structure:
        raise ValueError(f"fixed must be shaped like params, {structure}, got {jax.tree.structure(fixed)}")
    spread = jax.tree.map(lambda leaf, one: np.broadcast_to(np.asarray(one, bool), jnp.shape(leaf)), fit.params, fixed)
    return tuple(bool(one) for leaf in jax.tree.leaves(spread) for one in leaf.ravel())
