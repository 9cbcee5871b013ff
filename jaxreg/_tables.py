"""Tables: columns of text, and the names of a labelled table's variables and axes."""

import importlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax

from jaxreg._names import leaf_names


def text(rows: Sequence[Sequence[str]]) -> str:
    """Columns, the first to the left and the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def xarray() -> Any:
    """The library, or what to install."""
    return _needed("xarray")


def pandas() -> Any:
    """The library, or what to install."""
    return _needed("pandas")


def _needed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"tables need {name}: pip install 'jaxreg[tables]'") from error


class Variable(NamedTuple):
    """A leaf of a sweep's values in a table: its name, and the names of its own axes."""

    name: str
    dims: tuple[str, ...]


def variables(values: Any, taken: Iterable[str], *, leading: int = 0) -> list[Variable]:
    """A name for each leaf of a sweep's values and for each axis of its own, none of them twice.

    Args:
        values: a pytree of arrays, or of their shapes.
        taken: the names of axes and coordinates; a leaf of the same name gets a ``_``.
        leading: how many leading axes of each leaf are the sweep's.

    >>> import numpy as np
    >>> variables({"rate": np.zeros(()), "w": np.zeros(3)}, ["rate"])
    [Variable(name='rate_', dims=()), Variable(name='w', dims=('w_0',))]
    """
    used = set(taken)
    found = []
    for name, leaf in zip(leaf_names(values), jax.tree.leaves(values), strict=True):
        dims = _own_dims(name, leaf.ndim - leading)
        while used & {name, *dims}:
            name += "_"
            dims = _own_dims(name, leaf.ndim - leading)
        used |= {name, *dims}
        found.append(Variable(name, dims))
    return found


def _own_dims(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name}_{number}" for number in range(count))
