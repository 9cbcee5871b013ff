"""Fits as tables of pandas and xarray; below the solvers, so that their results can have them as methods."""

import re
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxreg import _names, _tables
from jaxreg.status import Status, is_optimum

if TYPE_CHECKING:
    import pandas
    import xarray

_NUMBERS = ("chi2", "dof", "num_steps")
_MATRIX = ("param", "param_2")


def axes_of(fit: Any) -> list[str]:
    """Names of the leading axes."""
    count = np.ndim(fit.chi2)
    return [f"fit_{axis}" if count > 1 else "fit" for axis in range(count)]


def in_order(params: Any, problem: Any, leading: int) -> list[int]:
    """The places of the numbers of parameters, in the order in which their names were given to the problem."""
    names = _names.of(params, leading=leading)
    order = {} if problem is None else {name: place for place, name in enumerate(problem.order)}
    tops = [re.split(r"[.\[]", name, maxsplit=1)[0] for name in names]
    return sorted(range(len(names)), key=lambda place: order.get(tops[place], len(order)))


def check_names(params: Any, leading: int, taken: Any) -> None:
    """Refuse parameters whose numbers, or errors, would have the name of something else in a table."""
    used = {*taken, *_NUMBERS, "status"}
    for name in _names.of(params, leading=leading):
        for column in (name, f"{name}_stderr"):
            if column in used:
                raise ValueError(
                    f"the parameter {name!r} cannot stand in a table where {column!r} is something else: rename it"
                )
            used.add(column)


def check_results(taken: Any) -> None:
    """Refuse dimensions and coordinates with the name of a result."""
    for name in (*_NUMBERS, *_MATRIX, "covariance", "status"):
        if name in taken:
            raise ValueError(f"da has a dimension or coordinate {name!r}, as a result is called: rename or drop it")


def table_of(fit: Any) -> "pandas.DataFrame":
    """One fit: a row for each parameter. Many: a row for each fit, on the index of the leading axes."""
    pandas = _tables.pandas()
    members = np.shape(fit.chi2)
    order = in_order(fit.params, fit.problem, len(members))
    names = _names.of(fit.params, leading=len(members))
    value, stderr = (_names.numbers(part, leading=len(members)) for part in (fit.params, fit.stderr))
    named = {int(one): one.name for one in Status}
    status = [named.get(code, str(code)) for code in np.ravel(fit.status).tolist()]
    if not members:
        index = pandas.Index(names, name="parameter")
        frame = pandas.DataFrame({"value": value[0], "stderr": stderr[0], "status": status * len(names)}, index)
        return frame.iloc[order]
    check_names(fit.params, len(members), axes_of(fit))
    index = pandas.MultiIndex.from_product([range(size) for size in members], names=axes_of(fit))
    columns: dict[str, Any] = {names[place]: value[:, place] for place in order}
    columns |= {f"{names[place]}_stderr": stderr[:, place] for place in order}
    columns |= {name: np.asarray(getattr(fit, name)).ravel() for name in _NUMBERS}
    columns["status"] = status
    return pandas.DataFrame(columns, index if len(members) > 1 else index.get_level_values(0))


def dataset_of(fit: Any, dims: Any, problem: Any) -> "xarray.Dataset":
    """The fits of a problem over their leading axes, called ``dims``; of those that failed the parameters are NaN."""
    leading = len(dims)
    taken = [*dims, *_MATRIX, "covariance"]
    check_names(fit.params, leading, taken)
    found = _tables.variables(fit.params, taken, leading=leading)
    fields: dict[str, Any] = {}
    leaves = list(zip(found, *map(jax.tree.leaves, (fit.params, fit.stderr)), strict=True))
    for place in in_order(jax.tree.map(lambda _: 0, fit.params), problem, 0):
        one, value, stderr = leaves[place]
        fields |= {one.name: ((*dims, *one.dims), value), f"{one.name}_stderr": ((*dims, *one.dims), stderr)}
    fields["covariance"] = ((*dims, *_MATRIX), fit.covariance)
    uncertain = list(fields)
    fields |= {name: (dims, getattr(fit, name)) for name in (*_NUMBERS, "status")}
    names = np.array(_names.of(fit.params, leading=leading), object)  # as Zarr has no words of fixed length
    table = _tables.xarray().Dataset(fields, dict.fromkeys(_MATRIX, names))
    table.update(table[uncertain].where(is_optimum(table.status)))
    table.status.attrs = {"flag_values": [int(one) for one in Status], "flag_meanings": " ".join(Status.__members__)}
    return table
