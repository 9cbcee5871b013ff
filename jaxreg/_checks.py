"""Checks of arguments, all with one form of message: what, what was wanted, what was got."""

import contextlib
import datetime
import decimal
import numbers
import operator
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxreg import _trace
from jaxreg._points import key_kind


def shape(name: str, value: Any, wanted: tuple[int, ...]) -> None:
    """Refuse any shape but one."""
    if jnp.shape(value) != wanted:
        raise ValueError(f"{name} must have shape {wanted}, got {jnp.shape(value)}")


def array(name: str, value: Any, *, converted: bool = True, is_complex: bool = False) -> Any:
    """Real numbers that come in, in a form that JAX computes with: its own arrays as they are, others as NumPy's.

    Integers become floats, foreign byte orders and longer floats native doubles; what means something that a float does
    not say is refused. ``converted=False`` leaves the last step, to the dtype of ``native``, to the caller, who may
    read the array in parts. ``is_complex`` lets complex numbers in.
    """
    found = gathered(name, value)
    dtype, kind = found.dtype, getattr(found.dtype, "kind", "key")
    if kind == "f" and dtype.isnative and dtype.itemsize <= 8:
        return found
    if kind == "c" and is_complex:
        return found if dtype.isnative else found.astype(dtype.newbyteorder("="))
    if kind == "O":
        return _of_objects(name, found)
    if kind not in "iuf" and not jnp.issubdtype(dtype, jnp.floating):
        raise _no_number(name, kind, str(dtype))
    if kind in "iu" and dtype.itemsize > 2 and _trace.concrete(found):
        used = jnp.result_type(float)
        most = 2.0 ** (jnp.finfo(used).nmant + 1)
        if found.size and max(float(np.max(found)), -float(np.min(found))) > most:
            warnings.warn(f"{name} holds integers beyond {most:.0f}, which {used} rounds", stacklevel=4)
    return found.astype(native(dtype)) if converted else found


def gathered(name: str, value: Any) -> Any:
    """One array of anything: JAX's as it is but strongly typed, so that a Python float makes no program of its own."""
    if isinstance(value, jax.Array):
        return jnp.asarray(value, value.dtype) if getattr(value, "weak_type", False) else value  # keys have none
    leaves = [] if type(value) in (np.ndarray, float) else jax.tree.leaves(value)
    if set(map(type, leaves)) <= {float, int}:  # as in a long list: no look at each
        leaves = []
    masked = sum(np.count_nonzero(leaf.mask) for leaf in leaves if isinstance(leaf, np.ma.MaskedArray))
    if masked:
        raise ValueError(
            f"{name} must not be a masked array, got one with {masked} masked: give {name}.data and "
            f"mask=~{name}.mask, in a Dataset weight=1.0 - {name}.mask"
        )
    try:
        return np.asarray(value) if not leaves or _trace.concrete(leaves) else jnp.asarray(value)
    except ValueError as error:  # a ragged list
        raise ValueError(f"{name} must be one array, got a {type(value).__name__} that is none: {error}") from error


def native(dtype: np.dtype) -> Any:
    """What JAX computes with for real numbers of a dtype, in its own precision; any other dtype as it is."""
    return float if dtype.kind in "iu" or (dtype.kind == "f" and dtype.itemsize > 8) else dtype.newbyteorder("=")


def _of_objects(name: str, found: np.ndarray) -> np.ndarray:
    """Objects that are real numbers, such as decimals, as floats."""
    for index, one in np.ndenumerate(found):
        if isinstance(one, bool) or not isinstance(one, numbers.Real | decimal.Decimal):
            kind = "M" if isinstance(one, datetime.date) else "m" if isinstance(one, datetime.timedelta) else "O"
            place = f" at index {', '.join(map(str, index))}" if index else ""
            raise _no_number(name, kind, f"{type(one).__name__} {one}"[:60] + place)
    return found.astype(float)


def _no_number(name: str, kind: str, got: str) -> ValueError:
    remedy = _REMEDIES.get(kind, "convert what is a number with astype(float), leave the rest out").format(name)
    return ValueError(f"{name} must be of real numbers, got {got}: {remedy}")


_REMEDIES = {
    "c": "take its abs, or real and imaginary parts apart",
    "M": "give numbers, as in ({0} - {0}[0]) / np.timedelta64(1, 's')",
    "m": "give numbers, as in {0} / np.timedelta64(1, 's')",
}


@contextlib.contextmanager
def traceable(name: str) -> Iterator[None]:
    """Tell who wrote a function in Python's or NumPy's terms what to write instead, where JAX traces it."""
    try:
        yield
    except (jax.errors.JAXTypeError, jax.errors.JAXIndexError) as error:
        raise ValueError(
            f"{name} must be written with jax.numpy, got one that asks for the value of an array while it is compiled "
            "(the line stands above): write jnp.exp for np.exp and math.exp, jnp.where(condition, a, b) for an if and "
            "for y[condition], & and | for and and or, and leave out float()"
        ) from error


def booleans(name: str, value: Any, *, remedy: str = "convert it with astype(bool)") -> Any:
    """An array of booleans."""
    found = gathered(name, value)
    if found.dtype != bool:
        raise ValueError(f"{name} must be of booleans, got {found.dtype}: {remedy}")
    return found


def flag(name: str, value: Any) -> bool:
    """One static boolean."""
    if isinstance(value, bool):
        return value
    if not _trace.concrete(value) or np.shape(value) or np.asarray(value).dtype.kind != "b":
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def params(name: str, value: Any) -> Any:
    """A parameter pytree of real numbers, at least one."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(value)
    found = [  # a float is what it should be, and its name takes longer than all else
        np.asarray(leaf) if type(leaf) is float else array(f"{name}{jax.tree_util.keystr(path)}", leaf)
        for path, leaf in leaves
    ]
    if not sum(leaf.size for leaf in found):
        raise ValueError(f"{name} must hold at least one number, got none")
    return jax.tree.unflatten(structure, found)


def count(name: str, value: Any, *, least: int, most: int | None = None) -> int:
    """A static whole number in range, as an int."""
    if type(value) is not int and not _trace.concrete(value):
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


def seconds(name: str, value: Any) -> None:
    """Refuse what is no time to wait; None for ever."""
    if value is not None and not (isinstance(value, int | float | np.number) and value > 0):
        raise ValueError(f"{name} must be a number of seconds, greater than 0, or None, got {value!r}")


def one_of(name: str, value: Any, options: tuple[str, ...]) -> None:
    """Refuse a word that is not among the options."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {value!r}")


def rows(x: Any, y: Any, weight: Any = None, *, of: str = "") -> list[Any]:
    """The columns of a data set as arrays of real numbers: x (n,) or (n, d), y (n,), weight (n,), n ≥ 1.

    ``of`` names the data set in messages, as in "validation.".
    """
    x, y = array(f"{of}x", x), array(f"{of}y", y)
    weight = None if weight is None else array(f"{of}weight", weight)
    if x.ndim not in (1, 2):
        raise ValueError(f"{of}x must have shape (n,) or (n, d), got {x.shape}")
    if x.shape[0] == 0:
        raise ValueError(f"{of}x must have at least one row, got {x.shape}")
    shape(f"{of}y", y, x.shape[:1])
    if weight is not None:
        shape(f"{of}weight", weight, x.shape[:1])
    return [x, y, weight]


def valid(name: str, value: Any, condition: Array, wanted: str) -> Array:
    """Whether all values fulfil a condition on each; raises if they are concrete and one does not."""
    if _trace.concrete(condition):
        refuse(name, value, condition, wanted)
    return jnp.all(condition)


def key(value: Any) -> None:
    """Refuse what is no random key, such as the number that one is made of."""
    if np.ndim(value) == 0 and key_kind(value) is None:
        raise ValueError(f"key must be a random key, such as jax.random.key(0), got {value!r}")


def row_numbers(name: str, value: Any, num_rows: int) -> Array:
    """Whether all of these rows exist; raises if they are concrete and one does not."""
    return valid(name, value, (value >= 0) & (value < num_rows), f"between 0 and {num_rows - 1}")


def level(value: Any) -> Any:
    """A probability, or several, within 0 and 1; NaN where a traced one is not."""
    found = array("level", value)
    if not _trace.concrete(found):
        return jnp.where((found > 0) & (found < 1), found, jnp.nan)
    found = np.asarray(found)
    refuse("level", found, (found > 0) & (found < 1), "between 0 and 1 (0.95 for 95 %)")
    return found if found.ndim else float(found)  # which leaves the other's precision as it is


def warn_if_narrowed(*values: Any, level: int = 3) -> None:
    """Say once that float64 arrays are fitted in float32 while double precision is off."""
    if _trace.x64():
        return
    # Of NumPy and pandas, in any byte order; a Python float has no dtype, and NumPy's scalars no axis.
    leaves = [leaf for leaf in jax.tree.leaves(values) if not isinstance(leaf, jax.Array | float | int)]
    floats = [leaf for leaf in leaves if getattr(getattr(leaf, "dtype", None), "kind", "") == "f" and np.ndim(leaf)]
    if any(getattr(leaf.dtype, "itemsize", 8) >= 8 for leaf in floats):
        warnings.warn(
            "float64 arrays are fitted in float32, with 3 to 4 digits; for all digits call "
            'jax.config.update("jax_enable_x64", True) before the first array is made',
            stacklevel=level,
        )


def refuse(name: str, value: Any, condition: ArrayLike, wanted: str) -> None:
    """Raise, with the first of the values that does not fulfil a concrete condition on each."""
    if not np.all(condition):
        index = tuple(np.argwhere(~np.asarray(condition))[0])
        place = f" at index {', '.join(map(str, index))}" if index else ""
        raise ValueError(f"{name} must be {wanted}, got {np.asarray(value)[index]}{place}")
