"""The numbers that follow a fit, and other results of named fields, as tables."""

from typing import Any

import jax
import numpy as np

from jaxreg import _names
from jaxreg._tables import UNKNOWN, Table, number
from jaxreg.status import Status

_MOST_ROWS = 30


def parts_of_result(result: Any) -> list[str | Table]:
    """A row for each number of ``lower``, a column for each field of that shape; what is left stands below."""
    fields = dict(_flat(result, ""))
    like = fields.get("lower")
    names = [name if isinstance(like, dict) else f"value{name.removeprefix('params')}" for name in _names.of(like)]
    if len(names) > _MOST_ROWS:
        names = []
    columns = [name for name, value in fields.items() if names and _names.shapes(value) == _names.shapes(like)]
    table = [[name, *(_word(name, one) for one in _names.numbers(fields[name])[0])] for name in columns]
    rest = [f"{name}: {_cell(name, value)}" for name, value in fields.items() if name not in columns]
    return [*([Table([*zip(["", *names], *table, strict=True)])] if table else []), "\n".join(rest)]


def _flat(result: Any, prefix: str) -> list[tuple[str, Any]]:
    """The fields, those of a field that is a NamedTuple under two names."""
    found: list[tuple[str, Any]] = []
    for name, value in result._asdict().items():
        found += _flat(value, f"{prefix}{name}.") if hasattr(value, "_fields") else [(prefix + name, value)]
    return found


def _cell(name: str, value: Any) -> str:
    leaves = jax.tree.leaves(value)
    if len(leaves) == 1 and not np.ndim(leaves[0]):
        return _word(name, leaves[0])
    return f"of shape {_names.shapes(value)}" if leaves else UNKNOWN


def _word(name: str, value: Any) -> str:
    if _names.is_status(name):
        return Status(int(value)).name
    value = np.asarray(value)[()]
    return str(value) if value.dtype.kind in "biu" else number(value, 6)
