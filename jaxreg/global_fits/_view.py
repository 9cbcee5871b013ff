"""A global fit as the solver sees it: what is asked of each data set, and what all of them say together."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxreg._linear_algebra import power_of_two
from jaxreg._shapes import Bool, Float, Int
from jaxreg.global_fits._problem import Columns, GlobalForm, GlobalProblem
from jaxreg.least_squares import _levenberg_marquardt as levenberg_marquardt
from jaxreg.least_squares._flat_problem import FlatProblem
from jaxreg.least_squares._flattening import flat_problem
from jaxreg.least_squares._layout import room
from jaxreg.least_squares._levenberg_marquardt import State
from jaxreg.least_squares._look import Look
from jaxreg.least_squares._solver import num_rows
from jaxreg.least_squares._triangles import Triangles, joined, split

_CACHED = 2**14  # numbers of a Jacobian: as many data sets at once as have so many
_WORTH = 0.01  # of the cost: a step of a data set alone that is to gain less is the last


class Plan(NamedTuple):
    """What chooses the programs of a global fit: hashable.

    Attributes:
        form: of the problem.
        columns: the places of own and shared parameters.
        rows: how many residuals a data set has, masked ones too.
    """

    form: GlobalForm
    columns: Columns
    rows: int

    @property
    def at_once(self) -> int:
        """How many data sets: a large Jacobian fills the cache alone, and small ones the vector unit together."""
        return min(64, max(1, _CACHED // (self.rows * (len(self.columns.own) + len(self.columns.shared)))))


def plan_of(problem: GlobalProblem) -> Plan:
    """Of a problem."""
    return Plan(problem.form, problem.columns, num_rows(problem.example))


class Facts(NamedTuple):
    """What is known of each data set before any step; in the last axis its free parameters."""

    start: Float[Array, "m q"]
    lower: Float[Array, "m q"]
    upper: Float[Array, "m q"]
    unit: Float[Array, "m"]  # of its residuals
    size: Float[Array, "m"]  # ‖y/(sigma·unit)‖
    valid: Bool[Array, "m"]
    startable: Bool[Array, "m"]
    noise: Float[Array, "m *k"]  # ones, in the shape of the units of its losses


class At(NamedTuple):
    """Where data sets are asked.

    Attributes:
        own, shared: their parameters, (m, o) and (s,).
        unit: of all residuals.
        steps: how many steps each set takes alone first, at most.
    """

    own: Any
    shared: Any
    unit: Any
    steps: Any


def of_each(fn: Callable[..., Any], problem: GlobalProblem, at: At, *more: Any) -> Any:
    """``fn(view, free parameters, …)`` of each data set."""
    plan = plan_of(problem)
    columns = plan.columns
    common, numbers = problem.numbers

    def one(of_set: Any) -> Any:
        numbers, own, *rest = of_set
        flat = flat_problem(problem.one(common, numbers), careful=False, unit=at.unit, least=len(columns.own))
        return fn(flat._replace(accelerates=False, alone=plan.at_once == 1), columns.params(own, at.shared), *rest)

    return lax.map(one, (numbers, at.own, *more), batch_size=plan.at_once)


def facts_of(problem: GlobalProblem) -> Facts:
    """The facts of each data set."""
    common, numbers = problem.numbers

    def one(numbers: Any) -> Facts:
        flat = flat_problem(problem.one(common, numbers), careful=False, least=len(problem.columns.own))
        infinite = jnp.full_like(flat.start, jnp.inf)
        lower, upper = flat.bounds or (-infinite, infinite)
        return Facts(flat.start, lower, upper, flat.unit, flat.size, flat.valid, flat.startable, flat.unseen().noise)

    return lax.map(one, numbers, batch_size=64)


def _after_own_steps(flat: FlatProblem, columns: Columns, params: Array, most: Int[Array, ""]) -> Array:
    """Parameters after a few steps of a data set alone, the shared ones held, while they lower its cost by much.

    A bad start of one set's parameters would drive the shared ones away, and each set needs a damping of its own. In a
    curved valley the shared parameters get on only if own ones follow them by more than the linear model says.
    """
    alone = flat._replace(
        start=columns.own_of(params),
        residual=lambda own: flat.residual(columns.params(own, columns.shared_of(params))),
        bounds=None if flat.bounds is None else tuple(map(columns.own_of, flat.bounds)),
    )

    def going(state: State) -> Bool[Array, ""]:  # the start is judged as the first trial, and the last one below
        return ~levenberg_marquardt.finished(state, most - 1) & (state.decrease > _WORTH * state.here.cost)

    step = functools.partial(levenberg_marquardt.step, alone)
    end = lax.while_loop(going, step, levenberg_marquardt.init(alone, alone.start))
    # The last trial too must have derivatives: along the step to it is enough to see a wall where there are none.
    residual, slope = jax.jvp(alone.residual, (end.trial,), (end.trial - end.params,))
    lower = (alone.cost(residual, end.here.noise) < end.here.cost) & jnp.isfinite(slope).all()
    return columns.params(jnp.where(lower, end.trial, end.params), columns.shared_of(params))


def looks(problem: GlobalProblem, at: At, noise: Float[Array, "m *k"]) -> tuple[Look, Float[Array, "m o"]]:
    """After steps of each data set alone, all that a joint one needs to know of it, and its own parameters."""
    columns = problem.columns

    def one(flat: FlatProblem, params: Array, noise: Array) -> tuple[Look, Array]:
        if columns.own:
            params = _after_own_steps(flat, columns, params, at.steps)
        found = flat.look(params, noise)
        slopes, rest = found.triangles.shared[0], found.triangles.rest[0]
        triangles = Triangles(columns.own_of(slopes), columns.shared_of(slopes), rest)
        return found._replace(triangles=triangles), columns.own_of(params)

    return of_each(one, problem, at, noise)


def costs(problem: GlobalProblem, at: At, noise: Float[Array, "m *k"]) -> Float[Array, "m"]:
    """The cost of each data set, in a given unit of its loss."""
    return of_each(lambda flat, params, noise: flat.cost_at(params, noise), problem, at, noise)


def own_costs(problem: GlobalProblem, at: At) -> Float[Array, "m"]:
    """The same in the unit that its residuals have."""

    def one(flat: FlatProblem, params: Array) -> Array:
        residual = flat.residual(params)
        return flat.cost(residual, flat.noise(residual))

    return of_each(one, problem, at)


class Blocks(NamedTuple):
    """What all data sets say together.

    The free parameters are one vector: those of the data sets, one set after the other, and the shared ones.
    """

    plan: Plan
    facts: Facts
    start: Float[Array, "p"]
    careful: bool = True  # nobody begins anew with more care

    @property
    def kept(self) -> Bool[Array, "m"]:
        """Data sets that can be fitted; the others take no part."""
        return self.facts.startable

    @property
    def unit(self) -> Float[Array, ""]:
        """Of the residuals of all data sets."""
        return power_of_two(jnp.max(self.of_kept(self.facts.unit)))

    @property
    def size(self) -> Float[Array, ""]:
        """‖y/(sigma·unit)‖."""
        return jnp.linalg.norm(self.of_kept(self.facts.size * (self.facts.unit / self.unit)))

    @property
    def bounds(self) -> tuple[Float[Array, "p"], Float[Array, "p"]] | None:
        """The box of all free parameters."""
        lower, upper, columns = self.facts.lower, self.facts.upper, self.plan.columns
        if not self.plan.form.bounded:
            return None
        return (
            joined(columns.own_of(lower), jnp.max(columns.shared_of(lower), axis=0)),
            joined(columns.own_of(upper), jnp.min(columns.shared_of(upper), axis=0)),
        )

    @property
    def valid(self) -> Bool[Array, ""]:
        """Whether a data set is."""
        return self.facts.valid.any()

    @property
    def startable(self) -> Bool[Array, ""]:
        """Whether one can be fitted."""
        return self.kept.any()

    @property
    def loss(self) -> Any:
        """None if all terms are squared."""
        return next((term.loss for term in self.plan.form.one.terms if term.loss is not None), None)

    @property
    def scaled(self) -> bool:
        """Whether a term estimates the unit of its loss."""
        return any(term.scale is not None for term in self.plan.form.one.terms)

    def at(self, params: Float[Array, "p"], steps: int | Int[Array, ""] = 0) -> At:
        """Where the data sets are asked."""
        own, shared = split(params, len(self.kept), len(self.plan.columns.own))
        return At(own, shared, self.unit, jnp.asarray(steps, jnp.int32))

    def of_kept(self, values: Array, rest: Any = 0) -> Array:
        """Numbers of each data set, with others for those that take no part."""
        return of_kept(self.kept, values, rest)

    def gathered(self, looks: Look) -> Look:
        """One look of those at each data set."""
        columns, of_kept = self.plan.columns, self.of_kept
        each = columns.shared_of(of_kept(looks.unit, jnp.finfo(looks.unit.dtype).tiny))
        unit = jnp.max(each, axis=0)
        triangles = looks.triangles._replace(shared=looks.triangles.shared * (each / unit[None])[:, None])
        return Look(
            cost=of_kept(looks.cost).sum(),
            before=of_kept(looks.before).sum(),
            noise=of_kept(looks.noise, 1),
            triangles=jax.tree.map(of_kept, triangles),
            unit=joined(columns.own_of(of_kept(looks.unit, 1)), unit),
            length=jnp.linalg.norm(of_kept(looks.length)),
            square=of_kept(looks.square).sum(),
            smooth=(looks.smooth | ~self.kept).all(),
        )

    def unseen(self) -> Look:
        """In its shape, before the first look."""
        m, o, s, dtype = len(self.kept), *map(len, self.plan.columns), self.start.dtype
        one, ones = jnp.ones((), dtype), jnp.ones_like(self.start)
        nothing = Triangles(*(jnp.zeros((m, o + s, *columns), dtype) for columns in ((o,), (s,), ())))
        return Look(one, one, self.facts.noise, nothing, ones, one, one, jnp.asarray(True))

    def free(self, params: Float[Array, "p"], gradient: Float[Array, "p"]) -> Bool[Array, "p"]:
        """Whether each parameter can move."""
        return room(self.bounds, params, gradient)

    def second_derivative(self, *_: Any) -> Any:
        """None: a look has no Jacobian."""
        raise NotImplementedError


def first_blocks(plan: Plan, facts: Facts) -> Blocks:
    """At the start: of guesses of shared parameters at the middle one; where no set takes part at the first."""
    kept, columns = facts.startable, plan.columns
    shared = columns.shared_of(jnp.where((kept | ~kept.any())[:, None], facts.start, jnp.nan))
    start = joined(columns.own_of(facts.start), jnp.nanmedian(shared, axis=0))
    return Blocks(plan, facts, start)


def of_kept(kept: Bool[Array, "m"], values: Array, others: Any) -> Array:
    """Numbers of the data sets that take part; others in the place of those that do not."""
    return jnp.where(kept.reshape(kept.shape + (1,) * (values.ndim - 1)), values, others)
