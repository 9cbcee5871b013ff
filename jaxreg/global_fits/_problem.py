"""Data sets that share parameters, as a value: one problem's numbers, those that each set has for itself on an axis."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import _jit, _pickling, _trace
from jaxreg.losses._kinds import Kind
from jaxreg.models import Params
from jaxreg.problems import Problem
from jaxreg.problems._form import Form, TermForm
from jaxreg.problems._starts import order_of, shapes_of_start


class GlobalForm(NamedTuple):
    """What chooses the program of a global fit: hashable.

    Attributes:
        one: the form of the problem of one data set.
        own: for each leaf of p0, bounds and terms, whether each data set has its own.
        shared: the names of the parameters that are one for all, sorted.
        num_sets: m.
        bounded: whether there are bounds.
    """

    one: Form
    own: tuple[bool, ...]
    shared: tuple[str, ...]
    num_sets: int
    bounded: bool

    @property
    def terms(self) -> tuple[TermForm, ...]:
        """Of each data set."""
        return self.one.terms

    def has(self, *kinds: Kind) -> bool:
        """Whether a term has a loss of one of these kinds."""
        return self.one.has(*kinds)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["p0", "bounds", "terms"], meta_fields=["form"])
@dataclasses.dataclass(frozen=True, eq=False)
class GlobalProblem(_jit.Formed):
    """What a global fit solves: a ``Problem`` whose numbers have a leading axis where each data set has its own.

    Attributes:
        p0, bounds, terms: those of a ``Problem``.
        form: all that is static.
    """

    p0: Any
    bounds: Any
    terms: Any
    form: Any

    @property
    def absolute_sigma(self) -> bool:
        """Whether the size of the errors is known."""
        return bool(self.form.one.absolute_sigma)

    @property
    def order(self) -> tuple[str, ...]:
        """The names of parameters in the order in which they were given."""
        return order_of(self.form.one)

    @property
    def columns(self) -> "Columns":
        """Which of a data set's free parameters are its own, and which are shared."""
        return columns_of(self.example, self.form.shared)

    @property
    def numbers(self) -> tuple[list[Any], list[Any]]:
        """Those that all data sets have in common, and those that each has for itself, (m, …)."""
        leaves = jax.tree.leaves((self.p0, self.bounds, self.terms))
        pairs = list(zip(leaves, self.form.own, strict=True))
        return [leaf for leaf, own in pairs if not own], [leaf for leaf, own in pairs if own]

    def one(self, common: Sequence[Any], own: Sequence[Any]) -> Problem:
        """The problem of one data set, from the numbers of all and its own."""
        all_have, each_has = iter(common), iter(own)
        structure = jax.tree.structure((self.p0, self.bounds, self.terms))
        numbers = [next(each_has if is_own else all_have) for is_own in self.form.own]
        p0, bounds, terms = jax.tree.unflatten(structure, numbers)
        return Problem(p0, bounds, terms, self.form.one)

    @property
    def example(self) -> Problem:
        """The problem of one data set, as shapes alone."""
        common, own = self.numbers
        shapes = [jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype) for leaf in common]
        return self.one(shapes, [jax.ShapeDtypeStruct(np.shape(leaf)[1:], leaf.dtype) for leaf in own])

    def batch(self) -> Problem:
        """The problems of all data sets, each number with a leading axis; of what they have in common a view."""

        def on_axis(leaf: Any, is_own: bool) -> Any:
            return leaf if is_own else _trace.broadcast(leaf, (self.form.num_sets, *np.shape(leaf)))

        return Problem(*self.mapped(on_axis), self.form.one)

    def mapped(self, fn: Callable[[Any, bool], Any]) -> tuple[Any, Any, Any]:
        """p0, bounds and terms with ``fn(number, whether each data set has its own)`` in the place of each number."""
        leaves, structure = jax.tree.flatten((self.p0, self.bounds, self.terms))
        p0, bounds, terms = jax.tree.unflatten(structure, map(fn, leaves, self.form.own))
        return p0, bounds, terms

    def starting_at(self, params: Params) -> "GlobalProblem":
        """The same problem from the parameters that a global fit found; they are not checked."""
        free = params if self.form.one.tie is None else {name: params[name] for name in self.p0}
        own = {name: jax.tree.map(lambda _, own=name not in self.form.shared: own, free[name]) for name in free}
        flags = (*jax.tree.leaves(own), *self.form.own[len(jax.tree.leaves(self.p0)) :])
        return GlobalProblem(free, self.bounds, self.terms, self.form._replace(own=flags))

    def __copy__(self) -> "GlobalProblem":
        return self  # nobody changes it

    def __deepcopy__(self, _: Any) -> "GlobalProblem":
        return self

    def __reduce__(self) -> Any:
        numbers = jax.tree.map(_pickling.on_host, (self.p0, self.bounds, self.terms))
        form = self.form._replace(one=jax.tree.map(_pickling.picklable, self.form.one))
        return GlobalProblem, (*numbers, form)

    def __repr__(self) -> str:
        return f"GlobalProblem({', '.join(self.form.shared)} shared by {self.form.num_sets} data sets)"

    def __getitem__(self, place: int) -> Problem:
        """The problem of one data set."""
        common, own = self.numbers
        return self.one(common, [leaf[place] for leaf in own])


class Columns(NamedTuple):
    """The places of a data set's own and of the shared parameters among its free ones."""

    own: tuple[int, ...]
    shared: tuple[int, ...]

    def params(self, own: Any, shared: Any) -> Any:
        """The free parameters of a data set."""
        order = np.argsort([*self.own, *self.shared])
        return jnp.concatenate([own, shared])[order]

    def own_of(self, values: Any) -> Any:
        """The own ones of numbers on the last axis."""
        return values[..., np.array(self.own, int)]

    def shared_of(self, values: Any) -> Any:
        """The shared ones of numbers on the last axis."""
        return values[..., np.array(self.shared, int)]


def columns_of(problem: Problem, shared: Sequence[str]) -> Columns:
    """Of the problem of one data set."""
    names = free_names(problem)
    is_shared = [name in shared for name in names]
    return Columns(tuple(np.flatnonzero(np.logical_not(is_shared)).tolist()), tuple(np.flatnonzero(is_shared).tolist()))


def free_names(problem: Problem) -> list[str]:
    """For each free number the name of the parameter that it is of."""
    start = shapes_of_start(problem.p0, problem.bounds, problem.terms, problem.form)
    names = names_of(start)
    free = problem.form.free or (True,) * len(names)
    return [name for name, is_free in zip(names, free, strict=True) if is_free]


def names_of(params: Params) -> list[str]:
    """For each number of a dict of parameters the name of the parameter that it is of."""
    found = jax.tree_util.tree_leaves_with_path(params)
    return [path[0].key for path, leaf in found for _ in range(int(np.prod(np.shape(leaf))))]
