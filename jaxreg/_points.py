"""The points along an axis of a sweep: as arrays, and as the labels of a table."""

import functools
import numbers
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg._names import leaf_names


def labels(name: str, points: Any, *, static: bool = False) -> dict[str, np.ndarray]:
    """The coordinates along an axis: the labels under the axis's name, then one for each number that a point holds.

    Args:
        name: the axis.
        points: its points: arrays with a common leading axis, or a tuple of Python values if it is static.
        static: which of the two.

    >>> labels("loss", (functools.partial(max, default=0), min), static=True)["loss"].tolist()
    ['max(default=0)', 'min']
    >>> sorted(labels("start", {"w": np.zeros((2, 3)), "scale": np.array([0.1, 1.0])}))
    ['start', 'start.scale']
    """
    if static:
        return {name: _static_labels(points)}
    points = as_points(points)
    leaves = jax.tree.leaves(points)
    numbers = {
        leaf_name: _plain(leaf)
        for leaf_name, leaf in zip(leaf_names({name: points}), leaves, strict=True)
        if np.ndim(leaf) == 1 and key_kind(leaf) is None
    }
    if numbers and leaves[0] is points:
        return {name: next(iter(numbers.values()))}
    return {name: np.arange(num_points(points)), **numbers}


def as_points(points: Any) -> Any:
    """An axis's points as a pytree of arrays in this machine's byte order.

    A list of numbers or of keys is one array, not a pytree of scalars.

    >>> as_points([0.1, np.float64(1.0)])
    array([0.1, 1. ])
    """
    if type(points) in (list, tuple) and points and all(map(_is_scalar, points)):
        kinds = {point.dtype if isinstance(point, jax.Array) else None for point in points}
        points = np.asarray(points) if kinds == {None} else jnp.stack(points) if len(kinds) == 1 else points
    return jax.tree.map(_native, points)


def _is_scalar(point: Any) -> bool:
    return isinstance(point, numbers.Number) or getattr(point, "shape", None) == ()


def _native(leaf: Any) -> Any:
    dtype: Any = getattr(leaf, "dtype", None)
    return leaf if getattr(dtype, "isnative", True) else leaf.astype(dtype.newbyteorder("="))


def num_points(points: Any) -> int:
    """The length of an axis, given its points.

    >>> num_points({"w": np.zeros((2, 3))})
    2
    """
    return len(jax.tree.leaves(as_points(points))[0])


def key_kind(leaf: Any) -> str | None:
    """The implementation of typed random keys; None for anything else.

    >>> key_kind(jax.random.key(0, impl="threefry2x32"))
    'threefry2x32'
    """
    if jnp.issubdtype(getattr(leaf, "dtype", np.dtype(bool)), jax.dtypes.prng_key):
        return str(jax.random.key_impl(leaf))
    return None


def readable(value: Any) -> str:
    """A static value for people: numbers, words and tuples as they are, a function by its name, others by their type's.

    >>> readable(functools.partial(max, default=0)), readable(max), readable(32)
    ('max(default=0)', 'max', '32')
    """
    if value is None or isinstance(value, str | int | float | np.generic):
        return str.__str__(value) if isinstance(value, str) else str(value)
    if type(value) is tuple:
        return f"({', '.join(map(readable, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, functools.partial):
        bound = [*map(readable, value.args), *(f"{key}={readable(given)}" for key, given in value.keywords.items())]
        return f"{readable(value.func)}({', '.join(bound)})"
    return str(getattr(value, "__name__", type(value).__name__))


def _static_labels(values: Sequence[Any]) -> np.ndarray:
    kinds = {bool if isinstance(value, bool | np.bool_) else type(value) for value in values}
    if kinds == {bool} or all(issubclass(kind, int | float | np.number) and kind is not bool for kind in kinds):
        found = np.asarray(values)
    else:
        found = np.array([readable(value) for value in values])
    # Numbers beyond 64 bits are no labels.
    return found if found.dtype != object and len(np.unique(found)) == len(found) else np.arange(len(values))


def _plain(leaf: Any) -> np.ndarray:
    """As a dtype that tables know: the narrow floats and integers of JAX fit into float32."""
    array = np.asarray(leaf)
    return array if array.dtype.kind in "biufc" else array.astype(np.float32)
