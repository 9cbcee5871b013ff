"""Tables: columns of text, the parts of a report, and the names of a labelled table's variables and axes."""

import importlib
import math
from collections.abc import Iterable, Sequence
from html import escape
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


class Table(NamedTuple):
    """Rows of words, under a line of their own.

    Attributes:
        rows: of cells, as many in each.
        title: what stands above them.
        header: whether the first row names the columns.
    """

    rows: Sequence[Sequence[str]]
    title: str = ""
    header: bool = True


def as_text(parts: Iterable[str | Table]) -> str:
    """A report of paragraphs and tables, for a terminal.

    >>> print(as_text(["2 fits", Table([["", "rate"], ["0", "1.5"], ["1", "2"]])]))
    2 fits
    <BLANKLINE>
       rate
    0   1.5
    1     2
    """
    shown = [part if isinstance(part, str) else f"{part.title}\n{text(part.rows)}".lstrip("\n") for part in parts]
    return "\n\n".join(part for part in shown if part)


def as_html(parts: Iterable[str | Table]) -> str:
    """The same for a notebook.

    >>> as_html(["a < b"])
    '<div><p>a &lt; b</p></div>'
    """
    return f"<div>{''.join(_html(part) for part in parts if part)}</div>"


def _html(part: str | Table) -> str:
    if isinstance(part, str):
        return f"<p>{escape(part).replace(chr(10), '<br/>')}</p>"
    head, rows = (part.rows[:1], part.rows[1:]) if part.header else ([], part.rows)
    title = _html(part.title) if part.title else ""
    lines = [f"<thead>{_row(head[0], 'th')}</thead>"] if head else []
    return f"{title}<table>{''.join(lines)}<tbody>{''.join(_row(row, 'td') for row in rows)}</tbody></table>"


def _row(cells: Sequence[str], kind: str) -> str:
    first, *others = map(escape, cells)
    return f"<tr><th>{first}</th>{''.join(f'<{kind}>{cell}</{kind}>' for cell in others)}</tr>"


UNKNOWN = "–"


def significant(value: float, digits: int) -> str:
    """A number to so many digits, trailing zeros too.

    >>> significant(2.0, 4), number(2.0, 4), number(float("nan"), 4)
    ('2.000', '2', '–')
    """
    return number(value, digits, "#").removesuffix(".")


def number(value: float, digits: int, form: str = "") -> str:
    """A number to so many digits at most."""
    return UNKNOWN if math.isnan(value) else f"{value:{form}.{digits}g}"


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
        raise ImportError("tables need pandas and xarray: pip install 'jaxreg[tables]'") from error


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
