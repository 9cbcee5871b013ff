"""Problems added, and their parameters renamed: terms side by side, parameters of one name are one."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import _trace
from jaxreg.losses._kinds import Kind
from jaxreg.problems._form import Form, Order, Term, TermForm
from jaxreg.problems._priors import prior_names
from jaxreg.problems._starts import shapes_of_start


def joined(one: Any, other: Any) -> tuple[Any, Any, tuple[Term, ...], Form]:
    """The numbers and the form of a sum of two problems."""
    if one.form.tie is not None or other.form.tie is not None:
        raise ValueError("a tied problem cannot be added to: tie the sum, (p + q).tie(fn)")
    forms = one.form.terms + other.form.terms
    _one_kind_of_sigma(forms)
    if Form(forms).has(Kind.LINEAR_PROGRAM):
        raise ValueError("an absolute or quantile loss is fitted alone, as a linear program: it cannot be added to")
    if not _num_data(one) or not _num_data(other):  # with priors alone beside it the parameters stay as they are
        data = one if _num_data(one) else other
        form = Form(forms, data.form.free, order=data.form.order)
        return data.p0, data.bounds, one.terms + other.terms, form
    shapes = [_named(problem) for problem in (one, other)]
    p0, conflict = _union("a start", shapes, one.p0 or {}, other.p0 or {})
    bounds = None
    if one.bounds is not None or other.bounds is not None:
        boxes = [_box(problem, *of) for problem, of in zip((one, other), (shapes, shapes[::-1]), strict=True)]
        lower, upper = (_union("a bound", shapes, *(box[side] for box in boxes)) for side in (0, 1))
        bounds, conflict = (lower[0], upper[0]), conflict | lower[1] | upper[1]
    terms = list(one.terms + other.terms)
    if conflict is not False:  # under a trace nobody can be told but by the status
        terms[0] = terms[0]._replace(sigma=jnp.where(conflict, -1.0, terms[0].sigma))
    named = [_with_names(problem, of) for problem, of in zip((one, other), shapes, strict=True)]
    free = _joined_free((one, other), shapes)
    order = Order(one.form.order.names + other.form.order.names)
    return p0 or None, bounds, tuple(terms), Form(named[0] + named[1], free, order=order)


def _num_data(problem: Any) -> int:
    return sum(not form.is_prior for form in problem.form.terms)


def _one_kind_of_sigma(forms: tuple[TermForm, ...]) -> None:
    """Refuse errors of a known size beside others of an unknown one: the answer would depend on the unit of y."""
    data = {form.absolute_sigma for form in forms if not form.is_prior}
    if len(data) > 1:
        raise ValueError(
            "the terms of a sum must agree on absolute_sigma, got one of a known and one of an unknown sigma: say "
            "absolute_sigma=True in both, or in none"
        )
    if data == {False} and any(form.is_prior for form in forms):
        raise ValueError(
            "a prior has a known size of errors, so the data must have one beside it: say absolute_sigma=True in their "
            "problem, with their sigma"
        )


def _named(problem: Any) -> dict[str, Any]:
    """The shapes of a problem's parameters by their names at the top."""
    shapes = shapes_of_start(problem.p0, problem.bounds, problem.terms, problem.form)
    if not isinstance(shapes, dict) or not all(isinstance(name, str) for name in shapes):
        raise ValueError(
            f"problems are added by the names of their parameters, a dict's, got {type(shapes).__name__}: "
            "models.positional(f, names=(…)) gives names to those of f(x, *params)"
        )
    return shapes


def _union(what: str, shapes: list[dict[str, Any]], one: Any, other: Any) -> tuple[dict[str, Any], Any]:
    """Both dicts together, and whether they differ where both have a name."""
    conflict: Any = False
    for name in shapes[0].keys() & shapes[1].keys():
        own, theirs = (jax.tree.map(jnp.shape, shape[name]) for shape in shapes)
        if own != theirs:
            raise ValueError(f"{name} has the shape {own} in one term and {theirs} in another")
        if name not in one or name not in other:
            continue
        pairs = zip(jax.tree.leaves(one[name]), jax.tree.leaves(other[name]), strict=True)
        for left, right in pairs:
            if not _trace.concrete(left, right):
                conflict = conflict | jnp.any(left != right)
            elif not np.array_equal(left, right):
                raise ValueError(
                    f"two terms give {name} {what} each, {left} and {right}: give it once, or rename one with "
                    f"problem.rename({{{name!r}: …}})"
                )
    return {**other, **one}, conflict


def _box(problem: Any, shapes: dict[str, Any], others: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Its bounds by name; where it has none, those of no one else's parameters are infinite."""
    if problem.bounds is not None:
        return problem.bounds
    own = {name: shape for name, shape in shapes.items() if name not in others}
    ends = (-np.inf, np.inf)
    low, high = (jax.tree.map(lambda leaf, end=end: np.full(jnp.shape(leaf), end), own) for end in ends)
    return low, high


def _with_names(problem: Any, shapes: dict[str, Any]) -> tuple[TermForm, ...]:
    """Its terms, each saying which parameters it reads; a prior reads all."""
    names = tuple((name, name) for name in shapes)
    return tuple(
        form if form.is_prior or form.names is not None else form._replace(names=names) for form in problem.form.terms
    )


def _free_by_name(problem: Any, shapes: dict[str, Any]) -> dict[str, tuple[bool, ...]]:
    sizes = {
        name: sum(int(np.prod(jnp.shape(leaf))) for leaf in jax.tree.leaves(shapes[name])) for name in sorted(shapes)
    }
    flags = iter(problem.form.free or (True,) * sum(sizes.values()))
    return {name: tuple(next(flags) for _ in range(size)) for name, size in sizes.items()}


def _joined_free(problems: tuple[Any, Any], shapes: list[dict[str, Any]]) -> tuple[bool, ...] | None:
    if all(problem.form.free is None for problem in problems):
        return None
    one, other = (_free_by_name(problem, of) for problem, of in zip(problems, shapes, strict=True))
    for name in one.keys() & other.keys():
        if one[name] != other[name]:
            raise ValueError(f"{name} is fixed in one term and free in another: fix it in both")
    both = one | other
    return tuple(flag for name in sorted(both) for flag in both[name])


def renamed(problem: Any, names: Mapping[str, str]) -> tuple[Any, Any, Form]:
    """Start, bounds and form of a problem some of whose parameters have other names."""
    if problem.form.tie is not None:
        raise ValueError("a tied problem cannot be renamed: rename it, then tie")
    if not isinstance(names, Mapping):
        raise ValueError(f"rename takes a dict, old name to new, got {type(names).__name__}")
    shapes = _named(problem)
    if unknown := names.keys() - shapes.keys():
        raise ValueError(f"rename must name parameters of {', '.join(shapes)}, got {', '.join(sorted(unknown))}")
    new = [names.get(name, name) for name in shapes]
    if len(set(new)) < len(new):
        twice = next(name for name in new if new.count(name) > 1)
        raise ValueError(f"{twice} would be the name of two parameters")
    if any(form.is_prior for form in problem.form.terms):
        raise ValueError("a problem with a prior cannot be renamed, as that names what it is of: rename, then add it")

    def moved(tree: Any) -> Any:
        return None if tree is None else {names.get(name, name): value for name, value in tree.items()}

    flags = {names.get(name, name): of for name, of in _free_by_name(problem, shapes).items()}
    free = None if problem.form.free is None else tuple(flag for name in sorted(flags) for flag in flags[name])
    terms = tuple(
        form._replace(names=tuple((own, names.get(theirs, theirs)) for own, theirs in form.names or ()))
        for form in _with_names(problem, shapes)
    )
    bounds = None if problem.bounds is None else tuple(map(moved, problem.bounds))
    order = Order(names.get(name, name) for name in problem.form.order.names)
    return moved(problem.p0), bounds, Form(terms, free, order=order)


def check_priors(problem: Any) -> None:
    """Refuse priors of parameters that no term has, or that are not fitted."""
    wanted = [name for form in problem.form.terms if form.is_prior for name in prior_names(form.model)]
    if not wanted:
        return
    shapes = _named(problem)
    free = _free_by_name(problem, shapes)
    for name in wanted:
        if name not in shapes:
            why = "no term has" if problem.form.tie is None else "is tied, or which no term has"
            raise ValueError(f"a prior is given for {name}, which {why}: what is fitted is {', '.join(shapes)}")
        if not any(free[name]):
            raise ValueError(f"a prior is given for {name}, which is fixed")
