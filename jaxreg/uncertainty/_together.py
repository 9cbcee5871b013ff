"""What follows a global fit and sees all its data sets at once: derived quantities, and refits of all."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from jaxreg import _trace
from jaxreg._shapes import Bool, Float, Int
from jaxreg.global_fits import GlobalFit, GlobalProblem
from jaxreg.global_fits._problem import names_of
from jaxreg.global_fits._solver import Traced, counted_once, joint_steps
from jaxreg.global_fits._view import Blocks, facts_of, first_blocks, looks, own_costs, plan_of
from jaxreg.least_squares import Fit
from jaxreg.least_squares._same_data import rounding_of_chi2
from jaxreg.least_squares._triangles import split
from jaxreg.models import Params
from jaxreg.status import Status, is_optimum
from jaxreg.uncertainty._refits import Held


def spread_of_all(fit: GlobalFit, fn: Callable[[Params], Any]) -> Float[Array, "k k"]:
    """The covariance of a function of all parameters, without a matrix of all own ones.

    With C of the shared parameters, M of a data set's own and K of these with those it is Σ gᵀ(M - K C⁻¹ Kᵀ)g + hᵀ C h
    with h = g_shared + Σ C⁻¹ Kᵀ g: own parameters of two data sets vary together only as the shared ones do.
    """
    slope = jax.jacrev(lambda params: ravel_pytree(fn(params))[0])(fit.params)
    is_shared = np.isin(names_of(jax.tree.map(lambda leaf: leaf[0], fit.each.params)), fit.shared)
    took_part = is_optimum(fit.each.status)

    def flat(tree: Params, leading: int, *, shared: bool) -> Array:
        names = [name for name in sorted(tree) if (name in fit.shared) == shared]
        leaves = jax.tree.leaves({name: tree[name] for name in names})
        parts = [leaf.reshape(*leaf.shape[:leading], -1) for leaf in leaves]
        return jnp.concatenate(parts, axis=-1)

    unit_own, unit = flat(fit.stderr, 1, shared=False), flat(fit.stderr, 0, shared=True)
    unit_own, unit = (jnp.where(jnp.isfinite(one) & (one > 0), one, 1) for one in (unit_own, unit))
    # What ended at a bound, or took no part, has NaN and counts as known.
    corner = jnp.nan_to_num(fit.covariance) / unit[:, None] / unit[None]
    held = jnp.diagonal(corner) == 0
    each = jnp.where(took_part[:, None, None], jnp.nan_to_num(fit.each.covariance), 0)
    own = each[:, ~is_shared][:, :, ~is_shared] / unit_own[:, :, None] / unit_own[:, None]
    beside = each[:, ~is_shared][:, :, is_shared] / unit_own[:, :, None] / unit[None, None]
    follows = jnp.linalg.solve(corner + jnp.diag(held.astype(corner.dtype)), beside.reshape(-1, unit.size).T)
    follows = follows.T.reshape(beside.shape)
    alone = own - jnp.einsum("mos,mps->mop", beside, follows)

    of_own = flat(slope, 2, shared=False)
    unknown = (~took_part[None] & (of_own != 0).any(axis=2)).any(axis=1)
    of_own = jnp.where(took_part[None, :, None], of_own * unit_own[None], 0)
    whole = flat(slope, 1, shared=True) * unit[None] + jnp.einsum("kmo,mos->ks", of_own, follows)
    spread = jnp.einsum("kmp,lmp->kl", jnp.einsum("kmo,mop->kmp", of_own, alone), of_own) + whole @ corner @ whole.T
    return jnp.where(unknown[:, None] | unknown[None], jnp.nan, spread)


def that_took_part(fit: GlobalFit) -> Bool[Array, "m"]:
    """Which data sets a global fit was made of."""
    status = fit.each.status
    return (status != Status.INVALID_INPUT) & (status != Status.NONFINITE)


def check_drawable(fit: GlobalFit) -> None:
    """Refuse to draw data sets from fewer than two: all draws would be the same."""
    if _trace.concrete(fit.each.status) and np.count_nonzero(that_took_part(fit)) < 2:
        raise ValueError("kind must not be 'sets' where fewer than two data sets took part: there are none to draw")


class Together(NamedTuple):
    """Refits of all data sets with some shared parameters held, as profiles ask for them."""

    fit: Fit  # of the shared parameters
    problem: GlobalProblem  # which starts at the fit
    blocks: Blocks
    cost: Float[Array, ""]  # there
    variance: Float[Array, ""]  # by how much the cost grows at one standard error
    known: Float[Array, ""]  # to how much it is
    max_steps: int

    @property
    def start(self) -> Float[Array, "p"]:
        """Where refits begin: own parameters, and then the shared ones."""
        return self.blocks.start

    @property
    def center(self) -> Float[Array, "s"]:
        """The fit's shared parameters."""
        return self.flat(self.start)

    @property
    def bounds(self) -> tuple[Float[Array, "s"], Float[Array, "s"]]:
        """Of the shared parameters, infinite where there are none."""
        lower, upper = self._box
        return self.flat(lower), self.flat(upper)

    @property
    def covariance(self) -> Float[Array, "s s"]:
        """Of the shared parameters."""
        covariance: Array = self.fit.covariance
        return covariance

    @property
    def places(self) -> Int[np.ndarray, "s"]:
        """All shared parameters are free."""
        return np.arange(len(self.blocks.plan.columns.shared))

    @property
    def lengths(self) -> Float[Array, "s"]:
        """How far each shared parameter moves the weighted residuals."""
        look = self.blocks.gathered(looks(self.problem, self.blocks.at(self.start), self.blocks.facts.noise)[0])
        return self.flat(look.triangles.lengths() * look.unit) * self.blocks.unit

    @property
    def _box(self) -> tuple[Float[Array, "p"], Float[Array, "p"]]:
        limit = jnp.full_like(self.start, jnp.inf)
        return self.blocks.bounds or (-limit, limit)

    def tau(self, cost: Float[Array, ""]) -> Float[Array, ""]:
        """√(Δcost/s²): in standard errors, for a linear model."""
        return jnp.sqrt(jnp.maximum(cost - self.cost, 0) / self.variance)

    def flat(self, params: Float[Array, "p"]) -> Float[Array, "s"]:
        """The shared ones of all parameters."""
        return split(params, len(self.blocks.kept), len(self.blocks.plan.columns.own))[1]

    def over(self, fn: Callable[..., Any], values: Array) -> Any:
        """A function of each: one after the other, as each is of all data sets."""
        return lax.map(fn, values)

    def hold(self, held: Int[Array, "k"], values: Float[Array, "k"], start: Float[Array, "p"]) -> Held:
        """Fit all others with the shared parameters ``held`` at ``values``, in a box of no width there."""
        places = start.size - self.center.size + held
        lower, upper = self._box
        inside = ((values >= lower[places]) & (values <= upper[places])).all()
        plan, facts = self.blocks.plan, self.blocks.facts
        columns = jnp.asarray(plan.columns.shared)[held]
        box = [bound.at[:, columns].set(values[None]) for bound in (facts.lower, facts.upper)]
        facts = facts._replace(lower=box[0], upper=box[1])
        plan = plan._replace(form=plan.form._replace(bounded=True))
        at = self.blocks.at(start.at[places].set(values))
        end, status, _ = joint_steps(self.problem, plan, facts, at, self.max_steps, Traced())
        cost = _cost(self.problem, self.blocks, end.params)
        cost = jnp.where(inside & jnp.isfinite(cost), cost, jnp.inf)
        total = self.fit.chi2 if self.fit.chi2_prior is None else self.fit.chi2 + self.fit.chi2_prior
        optimum = (jnp.abs(self.cost - total) <= self.known) & ~(cost < self.cost - self.known)
        return Held(cost, end.params, jnp.where(optimum, status, jnp.int32(Status.NOT_OPTIMUM)))


def _cost(problem: GlobalProblem, blocks: Blocks, params: Float[Array, "p"]) -> Float[Array, ""]:
    return blocks.of_kept(own_costs(problem, blocks.at(params))).sum() * blocks.unit * blocks.unit


def together(problem: GlobalProblem, fit: GlobalFit, max_steps: int) -> Together:
    """What all refits of a global fit share; the problem starts at the fit."""
    kept = that_took_part(fit)
    problem = counted_once(problem, kept)
    blocks = first_blocks(plan_of(problem), facts_of(problem)._replace(startable=kept))
    variance = jnp.ones_like(fit.chi2) if problem.absolute_sigma else fit.chi2 / fit.dof.astype(fit.chi2.dtype)
    known = rounding_of_chi2(blocks.size * blocks.unit, fit.chi2) + jnp.sqrt(jnp.finfo(fit.chi2.dtype).eps) * variance
    cost = _cost(problem, blocks, blocks.start)
    return Together(fit.of_shared, problem, blocks, cost, variance, known, max_steps)
