"""Results as tables of text, for ``print``."""

from typing import Any

import jax
import numpy as np

from jaxreg import _names, _tables, _trace
from jaxreg.status import Status

_MOST_ROWS = 30


def print_as_tables(*things: Any) -> None:
    """Have ``print`` show the NamedTuples among these as tables; their ``repr`` stays."""
    for thing in things:
        if hasattr(thing, "_fields") and thing.__str__ is object.__str__:
            thing.__str__ = text


def text(result: Any) -> str:
    """A row for each number of ``lower``, a column for each field of that shape; what is left stands below.

    >>> from typing import NamedTuple
    >>> class Ends(NamedTuple):
    ...     lower: Any
    ...     upper: Any
    ...     refits: int
    >>> print(text(Ends({"a": 1.0, "b": 2.0}, {"a": 1.5, "b": 2.5}, 40)))
       lower  upper
    a      1    1.5
    b      2    2.5
    <BLANKLINE>
    refits: 40
    """
    if not _trace.concrete(result):  # under a trace
        return repr(result)
    fields = dict(_flat(result, ""))
    like = fields.get("lower")
    names = [name if isinstance(like, dict) else f"value{name.removeprefix('params')}" for name in _names.of(like)]
    if len(names) > _MOST_ROWS:
        names = []
    columns = [name for name, value in fields.items() if names and _names.shapes(value) == _names.shapes(like)]
    table = [[name, *(_word(name, number) for number in _names.numbers(fields[name])[0])] for name in columns]
    rest = [f"{name}: {_cell(name, value)}" for name, value in fields.items() if name not in columns]
    parts = [_tables.text([*zip(["", *names], *table, strict=True)])] if table else []
    return "\n\n".join([*parts, *(["\n".join(rest)] if rest else [])])


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
    return f"of shape {_names.shapes(value)}" if leaves else "–"


def _word(name: str, number: Any) -> str:
    if name.split(".")[-1] == "status":
        return Status(int(number)).name
    number = np.asarray(number)[()]
    return str(number) if number.dtype.kind in "biu" else "–" if np.isnan(number) else f"{number:.6g}"
