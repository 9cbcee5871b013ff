"""Checks of arguments, all with one form of message: what, what was wanted, what was got."""

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxreg import _trace


def shape(name: str, value: Any, wanted: tuple[int, ...]) -> None:
    """Refuse any shape but one."""
    if jnp.shape(value) != wanted:
        raise ValueError(f"{name} must have shape {wanted}, got {jnp.shape(value)}")


def floating(name: str, value: Any) -> None:
    """Refuse leaves that are not of a real floating dtype. Python floats count as floating."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(value):
        dtype = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            where = f"{name}{jax.tree_util.keystr(path)}"
            raise ValueError(f"{where} must be of a floating dtype, got {dtype}: convert it with astype(float)")


def params(name: str, value: Any) -> None:
    """Refuse a parameter pytree that is not of floats, or empty."""
    floating(name, value)
    if not sum(jnp.size(leaf) for leaf in jax.tree.leaves(value)):
        raise ValueError(f"{name} must hold at least one number, got none")


def count(name: str, value: Any, *, least: int, most: int | None = None) -> int:
    """A static whole number in range, as an int."""
    if not _trace.concrete(value):
        raise ValueError(f"{name} fixes shapes, so it cannot be a traced value: put it in static= of a sweep")
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    if most is not None and number > most:
        raise ValueError(f"{name} must be at most {most}, got {number}")
    return number


def one_of(name: str, value: Any, options: tuple[str, ...]) -> None:
    """Refuse a word that is not among the options."""
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {value!r}")


def rows(x: Any, y: Any, weight: Any = None, *, of: str = "") -> int:
    """The number of rows of a data set: x (n,) or (n, d), y (n,), weight (n,), all floating, n ≥ 1.

    ``of`` names the data set in messages, as in "validation.".
    """
    if jnp.ndim(x) not in (1, 2):
        raise ValueError(f"{of}x must have shape (n,) or (n, d), got {jnp.shape(x)}")
    num_rows = jnp.shape(x)[0]
    if num_rows == 0:
        raise ValueError(f"{of}x must have at least one row, got {jnp.shape(x)}")
    shape(f"{of}y", y, (num_rows,))
    if weight is not None:
        shape(f"{of}weight", weight, (num_rows,))
    for name, value in (("x", x), ("y", y), ("weight", weight)):
        floating(f"{of}{name}", value)
    return num_rows


def valid(name: str, value: Any, condition: Array, wanted: str) -> Array:
    """Whether all values fulfil a condition on each; raises if they are concrete and one does not."""
    if _trace.concrete(condition):
        refuse(name, value, condition, wanted)
    return jnp.all(condition)


def refuse(name: str, value: Any, condition: ArrayLike, wanted: str) -> None:
    """Raise, with the first of the values that does not fulfil a concrete condition on each."""
    if not np.all(condition):
        index = tuple(np.argwhere(~np.asarray(condition))[0])
        place = f" at index {', '.join(map(str, index))}" if index else ""
        raise ValueError(f"{name} must be {wanted}, got {np.asarray(value)[index]}{place}")
