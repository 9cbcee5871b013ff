"""A fit repeated with some of its parameters held, as profiles need it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxreg._linear_algebra import lengths
from jaxreg._shapes import Float, Int
from jaxreg.covariance._rows import variance_of_rows
from jaxreg.least_squares import Fit
from jaxreg.least_squares._flat_problem import FlatProblem
from jaxreg.least_squares._flattening import flat_problem
from jaxreg.least_squares._kinks import minimise
from jaxreg.least_squares._result import status_of
from jaxreg.least_squares._same_data import rounding_of_chi2
from jaxreg.problems import Problem
from jaxreg.status import Status


class Held(NamedTuple):
    """A fit with some parameters held.

    Attributes:
        cost: scalar, χ², of a robust loss twice its sum; infinite where the model is not finite or a held value is out
            of its bounds.
        params: (p,), of the free parameters, held ones included.
        status: of the refit; NOT_OPTIMUM where the fit has another χ² than its parameters, or this one a lower cost.
    """

    cost: Array
    params: Array
    status: Array


class Refits(NamedTuple):
    """What all refits of one fit share; the p parameters are those that are not fixed."""

    fit: Fit
    problem: FlatProblem  # which starts at the fit, with the unit of its loss held
    covariance: Float[Array, "p p"]
    cost: Float[Array, ""]  # at the fit
    variance: Float[Array, ""]  # by how much the cost grows at one standard error
    known: Float[Array, ""]  # to how much it is
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

    @property
    def start(self) -> Float[Array, "p"]:
        """Where refits begin."""
        return self.center

    @property
    def places(self) -> Int[np.ndarray, "p"]:
        """Of the free parameters in ravel_pytree(params)."""
        return self.problem.places

    @property
    def lengths(self) -> Float[Array, "p"]:
        """How far each parameter moves the weighted residuals."""
        return lengths(self.problem.linearise(self.center)[1]) * self.problem.unit

    def tau(self, cost: Float[Array, ""]) -> Float[Array, ""]:
        """√(Δcost/s²): in standard errors, for a linear model."""
        return jnp.sqrt(jnp.maximum(cost - self.cost, 0) / self.variance)

    def flat(self, params: Float[Array, "p"]) -> Array:
        """All parameters, fixed ones too, from the free ones."""
        return ravel_pytree(self.problem.restore(params))[0]

    def over(self, fn: Callable[..., Any], values: Array) -> Any:
        """A function of each, all at once."""
        return jax.vmap(fn)(values)

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
            params, status = restore(end.params), status_of(problem, end)
            residual = self.problem.residual(params)
        cost = cost_of(self.problem, residual)
        cost = jnp.where(inside & jnp.isfinite(cost), cost, jnp.inf)
        chi2 = self.problem.chi2(self.problem.residual(self.center), priors=False)
        optimum = (jnp.abs(chi2 - self.fit.chi2) <= self.known) & ~(cost < self.cost - self.known)
        return Held(cost, params, jnp.where(optimum, status, jnp.int32(Status.NOT_OPTIMUM)))


def cost_of(problem: FlatProblem, residual: Float[Array, "n"]) -> Float[Array, ""]:
    """Σ ((model - y)/sigma)² for the squared loss, twice the loss for others."""
    return problem.cost(residual, problem.noise(residual)) * problem.unit * problem.unit


def refits_of(problem: Problem, fit: Fit, max_steps: int) -> Refits:
    """What all refits share; the problem starts at the fit."""
    flat = flat_problem(problem)
    residual = flat.residual(flat.start)
    flat = flat._replace(scaled=False, held=flat.noise(residual))
    if not flat.rows.robust.any():
        variance = jnp.ones_like(fit.chi2) if problem.absolute_sigma else fit.chi2 / fit.dof.astype(fit.chi2.dtype)
    else:
        noise = flat.noise(residual)
        slope, curvature = flat.slope(residual, noise), flat.curvature(residual, noise)
        used = jnp.asarray(flat.start.size, slope.dtype)
        slope = jnp.where(flat.counted, slope, 0)
        variance = variance_of_rows(slope * flat.unit, curvature, flat.counted, used, 1)
    rounding = rounding_of_chi2(flat.size * flat.unit, fit.chi2)
    return Refits(
        fit=fit,
        problem=flat,
        covariance=fit.covariance[np.ix_(flat.places, flat.places)],
        cost=cost_of(flat, residual),
        variance=variance,
        known=rounding + jnp.sqrt(jnp.finfo(fit.chi2.dtype).eps) * variance,
        max_steps=max_steps,
    )
