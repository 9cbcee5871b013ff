"""p0, sigma and bounds of a cube's fits: what is the same for all points, and what each has for itself."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from jaxreg import _names
from jaxreg._tables import xarray
from jaxreg.problems import _arguments as arguments

if TYPE_CHECKING:
    from xarray import DataArray


class Own(NamedTuple):
    """The numbers that each point has for itself, taken apart.

    Attributes:
        structure: of ``fit_many``'s argument ``each``.
        constants: for each leaf a number that is the same for all points all the same, or None for an array.
    """

    structure: Any
    constants: tuple[Any, ...]

    def values(self, arrays: Sequence["DataArray"], sizes: dict[Any, int], rest: Any, core: Any) -> dict[str, Any]:
        """Of the points of a block, given its arrays, for ``each``: a leading axis of points, then those of one."""
        left, members = iter(arrays), math.prod(sizes[dim] for dim in rest)
        leaves = [
            _rows(next(left), sizes, rest, core) if one is None else np.broadcast_to(one, (members, *np.shape(one)))
            for one in self.constants
        ]
        each: dict[str, Any] = jax.tree.unflatten(self.structure, leaves)
        return each


def names_of(what: str, given: Any, known: Any) -> list[Any]:
    """One name or several; what is no list, or is a tuple that is itself a name, is one."""
    if isinstance(given, str) or not isinstance(given, Sequence) or (isinstance(given, tuple) and given in known):
        return [given]
    if not len(given):
        raise ValueError(f"{what} must be one name or several, got none")
    return list(given)


def common_and_own(
    da: "DataArray", core: tuple[Any, ...], p0: Any, sigma: Any, bounds: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """p0, sigma and bounds for the problem that stands for all points, and what each point has for itself."""
    p0 = dict(p0) if isinstance(p0, xarray().Dataset) else p0
    bounds = None if bounds is None else arguments.ends_of(bounds)
    for what, value in (("p0", p0), ("sigma", sigma), ("bounds", bounds)):
        for path, leaf in jax.tree_util.tree_leaves_with_path(value):
            if what == "p0" and not _is_array(leaf) and np.size(leaf) > math.prod(da.sizes[dim] for dim in core):
                name = f"p0{jax.tree_util.keystr(path)}"
                raise ValueError(f"{name} must be a number, or a DataArray as a map, got shape {np.shape(leaf)}")
            if _is_array(leaf):
                _check(f"{what}{jax.tree_util.keystr(path)}", leaf, da, () if what == "sigma" else core)
    common = {"p0": p0, "sigma": sigma, "bounds": bounds}
    own: dict[str, Any] = {}
    if _is_array(sigma):
        is_own = bool(set(sigma.dims) - set(core)) or not sigma.ndim
        common["sigma"] = None if is_own else _rows(sigma, dict(da.sizes), (), core)
        own |= {"sigma": sigma} if is_own else {}
    # A start is compared with bounds where both are known: if one is each point's own, so is the other.
    if any(map(_is_array, jax.tree.leaves((p0, bounds)))):
        common["bounds"] = None
        own |= {} if bounds is None else {"bounds": bounds}
    if any(map(_is_array, jax.tree.leaves(p0))):
        common["p0"] = _names.in_order(jax.tree.map(lambda leaf: 1.0 if _is_array(leaf) else leaf, p0), p0)
        own["p0"] = p0
    return common, own


def taken_apart(own: dict[str, Any], shapes: Any) -> tuple[Own, list["DataArray"]]:
    """The numbers that each point has, with a bound for each parameter, and the arrays among them."""
    if "bounds" in own:
        pair = zip(own["bounds"], (-np.inf, np.inf), strict=True)
        own = own | {"bounds": tuple(_bound_for_each(bound, shapes, left_out) for bound, left_out in pair)}
    for tree in (own.get("p0"), *own.get("bounds", ())):
        for leaf, one in zip(jax.tree.leaves(tree), jax.tree.leaves(shapes), strict=False):
            if _is_array(leaf) and one.shape:
                raise ValueError(f"a DataArray is for a parameter of one number, got one for a shape of {one.shape}")
    leaves, structure = jax.tree.flatten(own)
    arrays = [leaf.drop_vars(list(leaf.coords)) for leaf in leaves if _is_array(leaf)]
    return Own(structure, tuple(None if _is_array(leaf) else np.asarray(leaf, float) for leaf in leaves)), arrays


def _bound_for_each(bound: Any, shapes: Any, left_out: float) -> Any:
    """A bound for each parameter: one for all, or a tree like theirs, of which a dict may leave names out."""
    if isinstance(bound, Mapping) and isinstance(shapes, dict) and bound.keys() < shapes.keys():
        bound = {name: jax.tree.map(lambda _: left_out, one) for name, one in shapes.items()} | dict(bound)
    elif len(jax.tree.leaves(bound)) == 1 and not isinstance(bound, Mapping):
        bound = jax.tree.map(lambda _: bound, shapes)
    known, got = map(_names.structure, (shapes, bound))
    if known != got:
        raise ValueError(f"bounds must be numbers or shaped like p0, {known}, of which a dict may leave out, got {got}")
    return jax.tree.map(lambda leaf, one: leaf if _is_array(leaf) else np.broadcast_to(leaf, one.shape), bound, shapes)


def _check(name: str, array: "DataArray", da: "DataArray", fitted: tuple[Any, ...]) -> None:
    if unknown := [dim for dim in array.dims if dim not in da.dims]:
        raise ValueError(f"{name} must have dimensions of da, {', '.join(map(repr, da.dims))}, got {unknown}")
    if fitted := tuple(dim for dim in array.dims if dim in fitted):
        raise ValueError(f"{name} must lack the fitted dimensions, got one along {', '.join(map(repr, fitted))}")
    try:
        xarray().align(da, array, join="exact", copy=False)
    except ValueError as error:
        raise ValueError(f"{name} must lie at the coordinates of da: {error}") from error


def _rows(array: "DataArray", sizes: dict[Any, int], rest: Any, core: Any) -> np.ndarray:
    """A number for each point of ``rest``, or for all of ``core`` at each where the array has a fitted dimension."""
    dims = (*rest, *(core if set(array.dims) & set(core) else ()))
    whole = array.expand_dims({dim: sizes[dim] for dim in dims if dim not in array.dims}).transpose(*dims)
    shape = [math.prod(sizes[dim] for dim in group) for group in (rest, dims[len(rest) :]) if group]
    return np.asarray(whole.values).reshape(shape)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, xarray().DataArray)
