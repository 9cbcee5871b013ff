"""Where a fit starts: at what was given, and for the rest at what the models guess from the data."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxreg import _trace
from jaxreg._cache import kept
from jaxreg.models import Model, Params
from jaxreg.problems._form import Form, Term


def guess_of(model: Any) -> Callable[..., Params]:
    """The model's own start, for a fit that is given none."""
    if not isinstance(model, Model) or model.guess is None:
        raise ValueError("p0 must be given where the model has no guess, got None")
    return model.guess


def start_of(p0: Params, bounds: Any, terms: tuple[Term, ...], form: Form) -> Params:
    """The start of all parameters that are fitted or fixed; guesses are moved into the box.

    No derivative of a fit depends on a guess.
    """
    if is_given(p0, form):
        return p0
    start: Any = dict(p0 or {}) if any(one.names is not None for one in form.terms) else None
    for term, one in zip(terms, form.terms, strict=True):
        names = one.names
        if one.is_prior or (start is not None and {name for _, name in names or ()} <= start.keys()):
            continue
        guess = _guess(term, guess_of(one.model))
        guess = guess if names is None else {name: guess[own] for own, name in names}
        if bounds is not None:
            box = bounds if names is None else [{name: bound[name] for name in guess} for bound in bounds]
            guess = jax.tree.map(jnp.clip, guess, *box)
        start = guess if start is None else guess | start
    return start


def is_given(p0: Params, form: Form) -> bool:
    """Whether nothing of the start is left to a guess."""
    if form.tie is not None:
        return True
    named = [name for one in form.terms for _, name in one.names or ()]
    return set(named) <= p0.keys() if named and p0 is not None else p0 is not None


def _guess(term: Term, guess: Callable[..., Params]) -> Params:
    x, y = lax.stop_gradient(neutral_rows(term.x, jnp.asarray(term.y), term.mask))
    return guess(x, y)


def neutral_rows(x: Any, y: Any, mask: Any) -> tuple[Any, Any]:
    """Features and targets with those that are not there replaced by the first that is: a NaN there reaches nothing.

    Of x what has y's axes in front is taken point by point, what has its first axis where no point of a row is there.
    """
    if mask is None:
        return x, y
    mask = jnp.asarray(mask)
    rows = mask.reshape(*mask.shape[:1], -1).any(axis=-1)

    def filled(leaf: Any) -> Any:
        there = mask if jnp.shape(leaf)[: mask.ndim] == mask.shape else rows
        if jnp.shape(leaf)[: there.ndim] != there.shape:
            return leaf
        leaf = jnp.asarray(leaf)
        points = leaf.reshape(there.size, *leaf.shape[there.ndim :])
        stand_in = points[jnp.argmax(there.ravel())]
        return jnp.where(there.reshape(there.shape + (1,) * (leaf.ndim - there.ndim)), leaf, stand_in)

    return jax.tree.map(filled, x), filled(y)


def order_of(form: Form) -> tuple[str, ...]:
    """The names of parameters as they were given, and then as the models name theirs."""
    found: list[Any] = list(form.order.names)
    for one in form.terms:
        own = one.model.init(jax.random.key(0)) if isinstance(one.model, Model) else None
        renamed = dict(one.names or ())
        found += [renamed.get(name, name) for name in own] if isinstance(own, dict) else []
    return tuple(dict.fromkeys(found))


def shapes_of_start(p0: Params, bounds: Any, terms: tuple[Term, ...], form: Form) -> Params:
    """The start as shapes alone, without a guess being computed."""
    if is_given(p0, form):
        return p0
    given = p0, bounds, tuple(term._replace(sigma=0.0, keywords={}) for term in terms)
    leaves, structure = jax.tree.flatten(given)
    return _shapes(form, structure, tuple((jnp.shape(leaf), _dtype(leaf)) for leaf in leaves), _trace.x64())


def _dtype(leaf: Any) -> Any:
    return jax.dtypes.canonicalize_dtype(getattr(leaf, "dtype", float))


@kept(1)
def _shapes(form: Form, structure: Any, shapes: tuple[Any, ...], x64: bool) -> Params:
    del x64
    given = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*one) for one in shapes])
    found = jax.eval_shape(lambda p0, bounds, terms: start_of(p0, bounds, terms, form), *given)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), found)
