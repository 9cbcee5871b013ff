"""Fits as tables of pandas and xarray; below the solvers, so that their results can have them as methods."""

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


def table_of(fit: Any) -> "pandas.DataFrame":
    """One fit: a row for each parameter. Many: a row for each fit, on the index of the leading axes."""
    pandas = _tables.pandas()
    members = np.shape(fit.chi2)
    names = _names.of(fit.params, leading=len(members))
    value, stderr = (_names.numbers(part, leading=len(members)) for part in (fit.params, fit.stderr))
    named = {int(one): one.name for one in Status}
    status = [named.get(code, str(code)) for code in np.ravel(fit.status).tolist()]
    if not members:
        index = pandas.Index(names, name="parameter")
        return pandas.DataFrame({"value": value[0], "stderr": stderr[0], "status": status * len(names)}, index)
    check_names(fit.params, len(members), axes_of(fit))
    index = pandas.MultiIndex.from_product([range(size) for size in members], names=axes_of(fit))
    columns: dict[str, Any] = {name: value[:, place] for place, name in enumerate(names)}
    columns |= {f"{name}_stderr": stderr[:, place] for place, name in enumerate(names)}
    columns |= {name: np.asarray(getattr(fit, name)).ravel() for name in _NUMBERS}
    columns["status"] = status
    return pandas.DataFrame(columns, index if len(members) > 1 else index.get_level_values(0))


def dataset_of(fit: Any, dims: Any) -> "xarray.Dataset":
    """The fits over their leading axes, which are called ``dims``; of those that failed the parameters are NaN."""
    leading = len(dims)
    taken = [*dims, *_MATRIX, "covariance"]
    check_names(fit.params, leading, taken)
    found = _tables.variables(fit.params, taken, leading=leading)
    fields: dict[str, Any] = {}
    for one, value, stderr in zip(found, *map(jax.tree.leaves, (fit.params, fit.stderr)), strict=True):
        fields |= {one.name: ((*dims, *one.dims), value), f"{one.name}_stderr": ((*dims, *one.dims), stderr)}
    fields["covariance"] = ((*dims, *_MATRIX), fit.covariance)
    uncertain = list(fields)
    fields |= {name: (dims, getattr(fit, name)) for name in (*_NUMBERS, "status")}
    names = np.array(_names.of(fit.params, leading=leading), object)  # as Zarr has no words of fixed length
    table = _tables.xarray().Dataset(fields, dict.fromkeys(_MATRIX, names))
    table.update(table[uncertain].where(is_optimum(table.status)))
    table.status.attrs = {"flag_values": [int(one) for one in Status], "flag_meanings": " ".join(Status.__members__)}
    return table
