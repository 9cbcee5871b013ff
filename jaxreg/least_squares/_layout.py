"""Where the free parameters stand among all, those that are fixed and those that follow from others; and their room."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxreg import _checks
from jaxreg._shapes import Bool, Float, Int
from jaxreg.models import Params
from jaxreg.problems._form import Form


class Layout(NamedTuple):
    """The free parameters among all."""

    start: Float[Array, "p"]
    places: Int[np.ndarray, "p"]
    of_free: Callable[[Params], Array]  # shaped like p0 -> (p,)
    restore: Callable[[Array], Params]
    spread: Callable[[Array, Array], Array]


def layout_of(p0: Params, form: Form, dtype: Any) -> Layout:
    """The layout of parameters like p0."""
    whole, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), p0))
    is_free = np.ones(whole.size, bool) if form.free is None else np.array(form.free)
    places = np.flatnonzero(is_free)
    source = np.full(whole.size, places.size)  # of each parameter among the free ones, or beyond them
    source[places] = np.arange(places.size)

    def of_free(like_p0: Params) -> Float[Array, "p"]:
        return ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), like_p0))[0][places]

    def spread(_: Array, values: Float[Array, "p *k"]) -> Float[Array, "all *k"]:
        return values if is_free.all() else jnp.pad(values, [(0, 1), *[(0, 0)] * (values.ndim - 1)])[source]

    def restore(params: Float[Array, "p"]) -> Params:
        return unravel(params if is_free.all() else jnp.where(is_free, spread(params, params), whole))

    if form.tie is None:
        return Layout(whole[places], places.astype(np.int32), of_free, restore, spread)
    return _tied_layout(Layout(whole, places.astype(np.int32), of_free, restore, spread), p0, form.tie, dtype)


def _tied_layout(layout: Layout, p0: Params, tie: Callable[[Params], Params], dtype: Any) -> Layout:
    """Where all parameters follow from the free ones, which are among them by name."""

    def restore(params: Float[Array, "p"]) -> Params:
        everything = _checks.traceable("the tie")(tie)(layout.restore(params))
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), everything)

    def flat(params: Float[Array, "p"]) -> Float[Array, "all"]:
        return ravel_pytree(restore(params))[0]

    def spread(params: Float[Array, "p"], values: Float[Array, "p *k"]) -> Float[Array, "all *k"]:
        return jax.jacfwd(flat)(params) @ values

    names = [
        path[0].key
        for path, leaf in jax.tree_util.tree_leaves_with_path(jax.eval_shape(restore, layout.start))
        for _ in range(leaf.size)
    ]
    places = np.flatnonzero([name in p0 for name in names])
    return layout._replace(places=places.astype(np.int32), restore=restore, spread=spread)


def dtype_of(numbers: Any) -> Any:
    """The widest of all numbers that are no whole ones; of a complex one that of its parts."""
    p0, _, terms = numbers
    leaves = jax.tree.leaves((p0, [(term.x, term.y) for term in terms]))
    floats = [leaf.real.dtype for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.result_type(*floats)


def room(
    bounds: tuple[Float[Array, "p"], Float[Array, "p"]] | None, params: Float[Array, "p"], gradient: Float[Array, "p"]
) -> Bool[Array, "p"]:
    """Whether each parameter can move in the box."""
    if bounds is None:
        return jnp.ones(params.shape, bool)
    lower, upper = bounds
    # A gradient of zero pushes nothing: of a parameter that moves no prediction it says that it is not determined.
    pushed = ((params <= lower) & (gradient > 0)) | ((params >= upper) & (gradient < 0))
    return ~pushed & (lower < upper)
