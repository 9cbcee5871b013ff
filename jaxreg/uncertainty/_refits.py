"""A fit repeated with some of its parameters held, as profiles need it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxreg import _checks
from jaxreg._shapes import Float, Int
from jaxreg.least_squares import CurveFit
from jaxreg.least_squares._arguments import prepare
from jaxreg.least_squares._kinks import minimise
from jaxreg.least_squares._problem import Options, Problem, Task, problem_of
from jaxreg.least_squares._result import status_of
from jaxreg.models import Apply, Model
from jaxreg.status import Status
from jaxreg.uncertainty._linear import variance_of


class Fitted(NamedTuple):
    """A fit and what it was fitted to; arrays only, so that it goes through ``jit``."""

    fit: CurveFit
    task: Task


class Held(NamedTuple):
    """A fit with some parameters held.

    Attributes:
        chi2: scalar; infinite where the model is not finite or a held value is out of its bounds.
        params: (p,), of the free parameters, held ones included.
        status: of the refit; NOT_OPTIMUM where the fit has another χ² than its parameters, or this one a lower.
    """

    chi2: Array
    params: Array
    status: Array


class Refits(NamedTuple):
    """What all refits of one fit share; the p parameters are those that are not fixed."""

    fit: CurveFit
    problem: Problem  # which starts at the fit
    places: np.ndarray  # (p,), of the free parameters in ravel_pytree(params)
    covariance: Float[Array, "p p"]
    variance: Float[Array, ""]  # of a residual in sigmas
    known: Float[Array, ""]  # to how much χ² is
    max_steps: int

    @property
    def center(self) -> Float[Array, "p"]:
        """The fit's free parameters."""
        return self.problem.start

    @property
    def bounds(self) -> tuple[Float[Array, "p"], Float[Array, "p"]]:
        """Lower and upper bounds, infinite where there are none."""
        limit = jnp.full_like(self.center, jnp.inf)
        return self.problem.bounds or (-limit, limit)

    def tau(self, chi2: Float[Array, ""]) -> Float[Array, ""]:
        """√(Δχ²/s²): in standard errors, for a linear model."""
        return jnp.sqrt(jnp.maximum(chi2 - self.fit.chi2, 0) / self.variance)

    def hold(self, held: Int[Array, "k"], values: Float[Array, "k"], start: Float[Array, "p"]) -> Held:
        """Fit the others with the parameters ``held`` at ``values``, from ``start``."""
        num_others = self.center.size - held.shape[0]
        chosen = jnp.zeros(self.center.size, bool).at[held].set(True)
        others = jnp.argsort(chosen, stable=True)[:num_others]

        def restore(inner: Float[Array, "others"]) -> Float[Array, "p"]:
            return start.at[others].set(inner).at[held].set(values)

        lower, upper = self.bounds
        inside = ((values >= lower[held]) & (values <= upper[held])).all()
        if num_others == 0:
            residual, params, status = self.problem.residual(restore(start[others])), values, jnp.int32(Status.OK)
        else:
            # The refits of a profile need no covariance, so they are not whole calls of curve_fit.
            problem = self.problem._replace(
                start=start[others],
                residual=lambda inner: self.problem.residual(restore(inner)),
                bounds=None if self.problem.bounds is None else (lower[others], upper[others]),
            )
            end = minimise(problem, self.max_steps)
            # Where only a derivative is not finite the χ² before any step is still one that the others can have.
            residual = jnp.where(end.startable, end.residual, self.problem.residual(restore(start[others])))
            params, status = restore(end.params), status_of(problem, end)
        chi2 = self.problem.chi2(residual)
        chi2 = jnp.where(inside & jnp.isfinite(chi2), chi2, jnp.inf)
        fitted = self.problem.chi2(self.problem.residual(self.center))
        optimum = (jnp.abs(fitted - self.fit.chi2) <= self.known) & ~(chi2 < self.fit.chi2 - self.known)
        return Held(chi2, params, jnp.where(optimum, status, jnp.int32(Status.NOT_OPTIMUM)))


def fitted_of(
    model: Model | Apply, x: ArrayLike, y: ArrayLike, fit: CurveFit, **setting: Any
) -> tuple[Fitted, Options]:
    """A fit under the squared loss with its data, checked; ``setting`` as it was given to ``curve_fit``."""
    if jnp.ndim(fit.chi2):
        raise ValueError(f"fit must be one fit (vmap over many), got leading axes {jnp.shape(fit.chi2)}")
    task, options = prepare(model, x, y, fit.params, **setting)
    _checks.shape("fit.residuals", fit.residuals, task.y.shape)
    if fit.scale is not None:
        raise ValueError("fit must be under the squared loss, got one with a robust scale: take uncertainty.bootstrap")
    return Fitted(jax.tree.map(jnp.asarray, fit), task), options


def refits_of(fitted: Fitted, options: Options) -> Refits:
    """What all refits share."""
    fit, task = fitted
    num_params = fit.covariance.shape[0]
    places = np.arange(num_params) if options.free is None else np.flatnonzero(options.free)
    problem, variance = problem_of(task, options), variance_of(fit, absolute_sigma=options.absolute_sigma)
    eps = jnp.finfo(fit.chi2.dtype).eps
    size = problem.size * problem.unit
    rounding = 1e3 * eps * fit.chi2 + 4 * eps * size * (jnp.sqrt(fit.chi2) + eps * size)
    return Refits(
        fit=fit,
        problem=problem,
        places=places,
        covariance=fit.covariance[jnp.ix_(places, places)],
        variance=variance,
        known=rounding + jnp.sqrt(eps) * variance,
        max_steps=options.max_steps,
    )
