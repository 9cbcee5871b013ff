"""How results are pickled and copied: JAX's own arrays come back as float32 wherever double precision is off."""

import pickle
from typing import Any

import jax
import numpy as np

from jaxreg import _trace


def keep_dtypes(*things: Any) -> None:
    """Have pickles and copies of the NamedTuples among these hold NumPy's arrays, whose dtype is kept everywhere."""
    for thing in things:
        if hasattr(thing, "_fields"):
            thing.__reduce__ = _reduced


def _reduced(self: Any) -> tuple[Any, ...]:
    return type(self), tuple(jax.tree.map(on_host, field) for field in self)


def on_host(leaf: Any) -> Any:
    """A leaf as NumPy's, if it is an array of JAX's with values."""
    return np.asarray(leaf) if isinstance(leaf, jax.Array) and _trace.concrete(leaf) else leaf


class Lost:
    """Stands for a function that could not be pickled, or saved."""

    def __init__(self, name: str) -> None:
        self.name = self.__name__ = name

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise ValueError(
            f"{self.name} was left out when this fit was kept, as no file can hold it: give the fit its problem again, "
            "fit.with_problem(problem(…)), or the function to load(path, model=…)"
        )


def picklable(part: Any) -> Any:
    """A function, or what stands for it if it cannot be pickled."""
    if not callable(part):
        return part
    try:
        pickle.dumps(part)
    except (pickle.PicklingError, AttributeError, TypeError):
        return Lost(getattr(part, "__qualname__", type(part).__name__))
    return part
