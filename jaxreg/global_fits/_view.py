"""A global fit as the solver sees it: residuals in blocks, a block a data set, looked at one after the other."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxreg._shapes import Bool, Float, Int
from jaxreg.global_fits._problem import Columns, GlobalProblem
from jaxreg.least_squares._flat_problem import FlatProblem, room
from jaxreg.least_squares._flattening import flat_problem
from jaxreg.least_squares._look import Look
from jaxreg.least_squares._solver import num_rows
from jaxreg.least_squares._triangles import Triangles, joined, split
from jaxreg.status import Status

_CACHED = 2**14  # numbers of a Jacobian: as many data sets at once as have so many


class Blocks(NamedTuple):
    """Pure functions of the free parameters: those of the data sets, one set after the other, and the shared ones.

    What is asked of each data set is asked of those in ``problem``, which may be a part of all.
    """

    problem: GlobalProblem
    columns: Columns
    unit: Float[Array, ""]  # of the residuals of all data sets
    kept: Bool[Array, "m"]  # data sets that can be fitted; the others take no part
    size: Float[Array, ""]  # ‖y/(sigma·unit)‖ of these
    start: Float[Array, "p"]
    bounds: tuple[Float[Array, "p"], Float[Array, "p"]] | None
    valid: Bool[Array, ""]
    startable: Bool[Array, ""]
    valid_each: Bool[Array, "m"]
    loss: Any  # None if all terms are squared
    scaled: bool  # whether a term estimates the unit of its loss
    noise: Float[Array, "m *k"]  # ones, in the shape of the units of their losses
    careful: bool = True  # nobody begins anew with more care

    def of_each(self, fn: Callable[..., Any], params: Float[Array, "p"], *more: Any) -> Any:
        """``fn(the view of a data set, its free parameters, …)`` of each data set."""
        common, own_numbers = self.problem.numbers
        own, shared = split(params, self.problem.form.num_sets, len(self.columns.own))

        def one(of_set: Any) -> Any:
            numbers, own, *rest = of_set
            flat = self.flat(common, numbers)
            return fn(flat, self.columns.params(own, shared), *rest)

        return lax.map(one, (own_numbers, own, *more), batch_size=self.at_once)

    def flat(self, common: Any, own: Any) -> FlatProblem:
        """The view of one data set."""
        problem = self.problem.one(common, own)
        return flat_problem(problem, careful=False, unit=self.unit, least=len(self.columns.own))

    @property
    def at_once(self) -> int:
        """How many data sets: a large Jacobian fills the cache alone, and small ones the vector unit together."""
        return min(64, max(1, _CACHED // (self.rows_of_one * (len(self.columns.own) + len(self.columns.shared)))))

    @property
    def rows_of_one(self) -> int:
        """How many residuals a data set has, masked ones too."""
        return num_rows(self.problem.example)

    def look(self, params: Float[Array, "p"], noise: Float[Array, "m *k"]) -> Look:
        """All that a step needs to know at parameters."""
        return self.gathered(self.looks(params, noise))

    def looks(self, params: Float[Array, "p"], noise: Float[Array, "m *k"]) -> Look:
        """That of each data set."""

        def one(flat: FlatProblem, params: Array, noise: Array) -> Look:
            found = flat.look(params, noise)
            columns, rest = found.triangles.shared[0], found.triangles.rest[0]
            own, shared = self.columns.own_of(columns), self.columns.shared_of(columns)
            return found._replace(triangles=Triangles(own, shared, rest), jacobian=None, root=None)

        return self.of_each(one, params, noise)

    def gathered(self, looks: Look) -> Look:
        """One look of those at each data set."""
        kept = self.kept

        def of_kept(values: Array, rest: Any = 0) -> Array:
            return jnp.where(kept.reshape(kept.shape + (1,) * (values.ndim - 1)), values, rest)

        units = of_kept(looks.unit, jnp.finfo(looks.unit.dtype).tiny)
        own_unit, each = self.columns.own_of(of_kept(looks.unit, 1)), self.columns.shared_of(units)
        unit = jnp.max(each, axis=0)
        triangles = looks.triangles._replace(shared=looks.triangles.shared * (each / unit[None])[:, None])
        return Look(
            cost=of_kept(looks.cost).sum(),
            before=of_kept(looks.before).sum(),
            noise=of_kept(looks.noise, 1),
            triangles=jax.tree.map(of_kept, triangles),
            unit=joined(own_unit, unit),
            length=jnp.sqrt(jnp.sum(of_kept(looks.length) ** 2)),
            square=of_kept(looks.square).sum(),
            smooth=(looks.smooth | ~kept).all(),
        )

    def unseen(self) -> Look:
        """In its shape, before the first look."""
        m, o, s, dtype = len(self.kept), len(self.columns.own), len(self.columns.shared), self.start.dtype
        one, ones = jnp.ones((), dtype), jnp.ones_like(self.start)
        nothing = Triangles(*(jnp.zeros((m, o + s, *columns), dtype) for columns in ((o,), (s,), ())))
        return Look(one, one, self.noise, nothing, ones, one, one, jnp.asarray(True))

    def cost_at(self, params: Float[Array, "p"], noise: Float[Array, "m *k"]) -> Float[Array, ""]:
        """The cost in a given unit of the loss."""
        costs = self.of_each(lambda flat, params, noise: flat.cost_at(params, noise), params, noise)
        return jnp.where(self.kept, costs, 0).sum()

    @property
    def status_of_left_out(self) -> Int[Array, "m"]:
        """Of data sets that take no part."""
        return jnp.where(self.valid_each, Status.NONFINITE, Status.INVALID_INPUT)

    def free(self, params: Float[Array, "p"], gradient: Float[Array, "p"]) -> Bool[Array, "p"]:
        """Whether each parameter can move."""
        return room(self.bounds, params, gradient)

    def second_derivative(self, *_: Any) -> Any:
        """None: a look has no Jacobian."""
        raise NotImplementedError


class _Set(NamedTuple):
    """What is known of a data set before any step."""

    start: Float[Array, "q"]
    lower: Float[Array, "q"]
    upper: Float[Array, "q"]
    size: Float[Array, ""]
    valid: Bool[Array, ""]
    startable: Bool[Array, ""]
    noise: Float[Array, "*k"]


def counted_once(problem: GlobalProblem, kept: Bool[Array, "m"]) -> GlobalProblem:
    """With the priors of shared parameters, which are masked in some data sets, in the first that takes part alone."""
    first = jnp.arange(len(kept)) == jnp.argmax(kept)
    terms = [
        term._replace(mask=jnp.asarray(term.mask).all(axis=0)[None] | first[:, None])
        if form.is_prior and term.mask is not None
        else term
        for term, form in zip(problem.terms, problem.form.one.terms, strict=True)
    ]
    return dataclasses.replace(problem, terms=tuple(terms))


def blocks_of(problem: GlobalProblem) -> Blocks:
    """The solver's view of a global fit, at its start."""
    common, own = problem.numbers
    form = problem.form
    columns = problem.columns

    def each(fn: Callable[[FlatProblem], Any], **given: Any) -> Any:
        def one(numbers: Any) -> Any:
            return fn(flat_problem(problem.one(common, numbers), careful=False, least=len(columns.own), **given))

        return lax.map(one, own, batch_size=64)

    def looked(flat: FlatProblem) -> _Set:
        infinite = jnp.full_like(flat.start, jnp.inf)
        lower, upper = flat.bounds or (-infinite, infinite)
        return _Set(flat.start, lower, upper, flat.size, flat.valid, flat.startable, flat.unseen().noise)

    unit = jnp.max(each(lambda flat: jnp.where(flat.startable, flat.unit, 0)))
    unit = jnp.where(unit > 0, unit, 1)
    sets: _Set = each(looked, unit=unit)
    kept = sets.startable
    shared = columns.shared_of(jnp.where(kept[:, None], sets.start, jnp.nan))
    start = joined(columns.own_of(sets.start), jnp.nan_to_num(jnp.nanmedian(shared, axis=0)))
    box = (
        joined(columns.own_of(sets.lower), jnp.max(columns.shared_of(sets.lower), axis=0)),
        joined(columns.own_of(sets.upper), jnp.min(columns.shared_of(sets.upper), axis=0)),
    )
    return Blocks(
        problem=counted_once(problem, kept),
        columns=columns,
        unit=unit,
        kept=kept,
        # Of a data set that will be found not to begin it is NaN.
        size=jnp.sqrt(jnp.sum(jnp.where(kept & jnp.isfinite(sets.size), sets.size, 0) ** 2)),
        start=start,
        bounds=None if problem.bounds is None else box,
        valid=sets.valid.any(),
        startable=kept.any(),
        valid_each=sets.valid,
        loss=next((term.loss for term in form.one.terms if term.loss is not None), None),
        scaled=any(term.scale is not None for term in form.one.terms),
        noise=sets.noise,
    )
