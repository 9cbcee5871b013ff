"""Data sets that share parameters as one problem: the arguments of ``fit_many``, checked."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import _jaxprs, _trace
from jaxreg.fits._sets import Sets
from jaxreg.global_fits._problem import GlobalForm, GlobalProblem, names_of
from jaxreg.least_squares._solver import num_rows
from jaxreg.losses._kinds import Kind
from jaxreg.models import Params
from jaxreg.problems import _arguments as arguments
from jaxreg.problems._form import Form, Term, TermForm
from jaxreg.problems._priors import prior_names
from jaxreg.problems._starts import is_given, shapes_of_start
from jaxreg.problems._sums import check_priors


def global_problem(sets: Sets, shared: Sequence[str], bounds: Any) -> GlobalProblem:
    """The problem of data sets that share the parameters of these names.

    Args:
        sets: without bounds, unless they are those of a problem.
        shared: names of parameters.
        bounds: as in ``problem``, for a parameter that each set has for itself also with a leading axis; None for none.
    """
    one, num_sets = sets.one, _num_sets(sets)
    start = shapes_of_start(one.p0, one.bounds, one.terms, one.form)
    names = _checked_names(shared, start, one.form)
    check_priors(one)
    p0, own_p0 = sets.problem.p0, sets.own.p0
    if isinstance(p0, dict):
        each = {name: any(jax.tree.leaves(own)) for name, own in own_p0.items()}
        p0 = {name: _one_start(name, leaf) if name in names and each[name] else leaf for name, leaf in p0.items()}
        own_p0 = {name: _all(leaf, name not in names and each[name]) for name, leaf in p0.items()}
    box, own_box = sets.problem.bounds, sets.own.bounds
    if bounds is not None:
        like = {name: value if name in names else _on_axis(value, num_sets) for name, value in start.items()}
        box = arguments.box(bounds, like)
        own_box = tuple({name: _all(value, name not in names) for name, value in side.items()} for side in box)
        # A start of one data set may lie outside: that has its own status.
        if isinstance(p0, dict) and is_given(p0, one.form) and _trace.concrete(p0, box):
            common = {name: leaf for name, leaf in p0.items() if not any(jax.tree.leaves(own_p0[name]))}
            lower, upper = ({name: side[name] for name in common} for side in box)
            common = jax.tree.map(lambda leaf, low: np.broadcast_to(leaf, low.shape), common, lower)
            arguments.inside(common, lower, upper)
    terms, own_terms = [], []
    for term, own, form in zip(sets.problem.terms, sets.own.terms, one.form.terms, strict=True):
        once = _rows_once(term, form, names, start) if form.is_prior else np.zeros(0, bool)
        if once.any():  # they stand with the first data set that takes part
            term = term._replace(mask=np.broadcast_to(~once, (num_sets, *once.shape)))
            own = own._replace(mask=True)
        terms.append(term)
        own_terms.append(own)
    flags = tuple(jax.tree.leaves((own_p0, own_box, tuple(own_terms))))
    form_of_all = GlobalForm(one.form, flags, tuple(sorted(names)), num_sets, bounded=box is not None)
    problem = GlobalProblem(p0, box, tuple(terms), form_of_all)
    own_count, shared_count = map(len, problem.columns)
    if num_sets * (found := num_rows(problem.example)) < num_sets * own_count + shared_count:
        raise ValueError(
            f"y must have at least as many points as there are parameters, {num_sets}·{own_count} own ones and "
            f"{shared_count} shared, got {num_sets}·{found}"
        )
    return problem


def _all(like: Any, flag: bool) -> Any:
    return jax.tree.map(lambda _: flag, like)


def _on_axis(shapes: Any, num_sets: int) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((num_sets, *np.shape(leaf)), leaf.dtype), shapes)


def _one_start(name: str, each: Any) -> Any:
    """The start of a shared parameter, given with a leading axis."""
    leaves = jax.tree.leaves(each)
    if not _trace.concrete(each):  # nothing can be raised: a start that is none
        same = functools.reduce(jnp.logical_and, [(leaf == leaf[:1]).all() for leaf in leaves])
        return jax.tree.map(lambda leaf: jnp.where(same, leaf[0], jnp.nan), each)
    if not all(np.array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape), equal_nan=True) for leaf in leaves):
        raise ValueError(f"p0[{name!r}] is shared, so it must be the same for all data sets, got starts that differ")
    return jax.tree.map(lambda leaf: leaf[0], each)


def _num_sets(sets: Sets) -> int:
    pairs = zip(jax.tree.leaves(sets.problem), jax.tree.leaves(sets.own), strict=True)
    return next(int(np.shape(leaf)[0]) for leaf, own in pairs if own)


def _checked_names(shared: Any, start: Params, form: Form) -> tuple[str, ...]:
    if not isinstance(start, dict):
        raise ValueError(
            f"shared parameters have names, so p0 must be a dict, got {type(start).__name__}: "
            "models.positional(f, names=…) gives names to those of f(x, *params)"
        )
    names = _names_of_shared(shared, start)
    if form.free is not None:
        free = [name for name, is_free in zip(names_of(start), form.free, strict=True) if is_free]
        if held := [name for name in names if name not in free]:
            raise ValueError(f"{', '.join(held)} is fixed, and so the same for all: leave it out of shared")
    if form.has(Kind.LINEAR_PROGRAM):
        raise ValueError("loss must not be absolute or quantile in a global fit: take 'huber'")
    if form.has(Kind.ROBUST) and any(term.is_prior for term in form.terms):
        raise ValueError("a prior beside a robust loss is not for a global fit: add the problems, and call fit")
    return names


def _names_of_shared(shared: Any, params: dict[str, Any]) -> tuple[str, ...]:
    is_names = isinstance(shared, Iterable) and not isinstance(shared, str)
    if not is_names or not all(isinstance(name, str) for name in shared):
        raise ValueError(f'shared must be names of parameters, as in shared=("rate",), got {shared!r}')
    names = tuple(dict.fromkeys(shared))
    if not names:
        raise ValueError("shared must name at least one parameter, got none: without it each data set is fitted alone")
    if unknown := [name for name in names if name not in params]:
        raise ValueError(f"shared must be of {', '.join(params)}, got {', '.join(unknown)}")
    return names


def _rows_once(term: Term, form: TermForm, shared: Sequence[str], start: Params) -> np.ndarray:
    """Which rows of a prior speak of shared parameters alone, and so count once for all data sets."""
    if names := prior_names(form.model):
        counts = [sum(int(np.prod(np.shape(leaf))) for leaf in jax.tree.leaves(start[name])) for name in names]
        return np.repeat([name in shared for name in names], counts)
    prior: Any = form.model
    read, _ = _jaxprs.names_read(lambda params: {"": prior(params, ())}, start)
    return np.full(np.shape(term.y), read <= set(shared))


def with_axis(p0: Any, shared: Sequence[str], y: Any) -> Any:
    """Starts of each data set, with the axis for the shared numbers that came without it."""
    if not isinstance(p0, dict):
        return p0
    names, num_sets = _names_of_shared(shared, p0), np.shape(y)[:1]

    def on_axis(leaf: Any) -> Any:
        return leaf if np.shape(leaf)[:1] == num_sets else _trace.broadcast(leaf, (*num_sets, *np.shape(leaf)))

    return {name: jax.tree.map(on_axis, value) if name in names else value for name, value in p0.items()}


def check_alone(*, store: Any, timeout: Any, covariance: str) -> None:
    """Refuse what is for many fits, not for one of many data sets."""
    if store is not None:
        raise ValueError("store is for many fits, and data sets with shared parameters are one: jaxreg.save keeps it")
    if timeout is not None:
        raise ValueError("timeout must be None in a global fit: max_steps bounds it")
    if covariance != "classic":
        raise ValueError(f"covariance must be 'classic' in a global fit, got {covariance!r}")
