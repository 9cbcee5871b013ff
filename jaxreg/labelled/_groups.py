"""``fit_table``: a fit of each group of rows in a table."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxreg import _checks, _names, _tables
from jaxreg.fits import fit_many
from jaxreg.labelled._own import names_of
from jaxreg.least_squares._table import check_names
from jaxreg.models import Apply, Model
from jaxreg.problems._problem import checked_problem
from jaxreg.problems._starts import shapes_of_start
from jaxreg.status import is_optimum

if TYPE_CHECKING:
    from pandas import DataFrame, Index

_PADDED = 2**22  # numbers that groups of unequal length may be padded to before they are fitted by classes of length
_WASTE = 4  # and beyond that, as a multiple of the rows


def fit_table(
    df: "DataFrame",
    model: Model | Apply,
    x: str | Sequence[str],
    y: str,
    by: str | Sequence[str],
    *,
    p0: Any = None,
    sigma: Any = None,
    absolute_sigma: bool = False,
    bounds: Any = None,
    fixed: Any = None,
    loss: Any = "squared",
    scale: str | None = None,
    covariance: str = "classic",
    max_steps: int = 5000,
) -> "DataFrame":
    """Fit a model to each group of rows of a pandas DataFrame, such as the wells of a plate or the runs of a day.

    All groups are fitted at once, as ``fit_many`` does; they may have unequal lengths.

    Args:
        df: a row for each point.
        model: a Model, or ``f(params, x)`` with x (n,), or (n, d) of several columns.
        x: a column, or several.
        y: a column.
        by: the column that says which group a row belongs to, or several.
        p0: the start of all fits; None where the model guesses it for each group.
        sigma: a column of standard deviations, or a number.
        absolute_sigma, bounds, fixed, loss, scale, covariance, max_steps: as for ``curve_fit``, the same for all.

    Returns:
        DataFrame with a row for each group, in the order of their keys, on the index ``by``: each parameter and its
        ``…_stderr``, "chi2", "dof", "num_steps", and "status" in words. What a fit that failed would say of its
        parameters is NaN; a group with fewer points than parameters is INVALID_INPUT.

    Rows with an empty cell in x, y or sigma are left out.

    Raises:
        ValueError: for columns that are not there or hold no numbers, a parameter with the name of a result or of
            ``by``, and what ``curve_fit`` refuses.
        ImportError: without pandas (``pip install 'jaxreg[tables]'``).

    Warns:
        UserWarning: if rows belong to no group.

    >>> import pandas
    >>> from jaxreg import models
    >>> df = pandas.DataFrame({"run": [1, 1, 1, 2, 2], "amp": [1, 2, 3, 1, 2], "volt": [2, 4, 6, 3, 6]})
    >>> found = fit_table(df.astype("float32"), models.ohm(), x="amp", y="volt", by="run")
    >>> found.resistance.to_dict(), found.status.to_list()
    ({1.0: 2.0, 2.0: 3.0}, ['OK', 'OK'])
    """
    pandas = _tables.pandas()
    if not isinstance(df, pandas.DataFrame):
        raise ValueError(f"df must be a pandas.DataFrame, got {type(df).__name__}")
    keys = names_of("by", by, df.columns)
    data, group, index = _rows(df, names_of("x", x, df.columns), y, keys, sigma)
    _checks.warn_if_narrowed(*data.values(), level=3)
    count = np.bincount(group, minlength=len(index))
    most = int(count.max())
    one = checked_problem(
        model, data["x"][:most], data["y"][:most], p0, sigma=None if "sigma" in data else sigma, mask=None,
        bounds=bounds, absolute_sigma=absolute_sigma, fixed=fixed, loss=loss, scale=scale,
    )  # fmt: skip
    shapes = shapes_of_start(one.p0, one.bounds, one.terms, one.form)
    check_names(shapes, 0, keys)
    least = len(_names.of(shapes))  # of points, as fits are refused where no group has as many
    parts, alike = [], _alike(count)
    for sets in alike:
        each = _padded(data, group, count, sets, least)
        fits = fit_many(one, each=each, residuals=False, covariance=covariance, max_steps=max_steps)
        frame = fits.to_dataframe().set_axis(index[sets])
        estimates = [name for name in frame if frame[name].dtype.kind == "f" and name != "chi2"]
        frame.loc[~is_optimum(np.asarray(fits.status)), estimates] = np.nan
        parts.append(frame)
    return pandas.concat(parts).iloc[np.argsort(np.concatenate(alike))]


def _rows(
    df: "DataFrame", x: list[str], y: str, by: list[str], sigma: Any
) -> tuple[dict[str, Any], np.ndarray, "Index"]:
    """The numbers of the rows without an empty cell, the number of the group of each, and the groups' keys."""
    named = isinstance(sigma, str)
    if not named and np.ndim(sigma):
        raise ValueError("sigma must be a number or the name of a column, got an array: df.assign(sigma=…) makes one")
    columns = {name: _column(df, name) for name in (*x, y, *([sigma] if named else []))}
    group, index = _groups(df, by)
    there = (group >= 0) & ~np.any([np.isnan(column) for column in columns.values()], axis=0)
    features = [columns[name][there] for name in x]
    data = {"y": columns[y][there], "x": features[0] if len(x) == 1 else np.stack(features, axis=-1)}
    return data | ({"sigma": columns[sigma][there]} if named else {}), group[there], index


def _column(df: "DataFrame", name: str) -> np.ndarray:
    """The numbers of a column, NaN where a cell is empty."""
    column = _the_only(df, name)
    kind = getattr(column.dtype, "kind", "O")
    if kind in "mM":
        since = f"(df[{name!r}] - df[{name!r}].min())" if kind == "M" else f"df[{name!r}]"
        raise ValueError(f"the column {name!r} must hold numbers, got times: {since}.dt.total_seconds() makes seconds")
    if kind in "fc" and isinstance(column.dtype, np.dtype):
        return np.asarray(_checks.array(f"the column {name!r}", column.to_numpy()))
    try:
        return np.asarray(column.to_numpy(np.float64, na_value=np.nan))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the column {name!r} must hold numbers, got {column.dtype}: {error}; pandas.to_numeric(df[{name!r}], "
            "errors='coerce') leaves out what is none"
        ) from error


def _the_only(df: "DataFrame", name: Any) -> Any:
    """The column of a name."""
    if name not in df.columns:
        raise ValueError(f"df has no column {name!r}, only {', '.join(map(repr, df.columns))}")
    if df[name].ndim != 1:
        raise ValueError(f"df has several columns {name!r}: give them names of their own")
    return df[name]


def _groups(df: "DataFrame", keys: list[str]) -> tuple[np.ndarray, "Index"]:
    """The number of each row's group, -1 for none, and the groups' keys."""
    for name in keys:
        _the_only(df, name)
    grouped = df.groupby(keys if len(keys) > 1 else keys[0], observed=True)
    group, index = grouped.ngroup().fillna(-1).to_numpy(int), grouped.size().index
    if lost := int(np.count_nonzero(group < 0)):
        warnings.warn(
            f"{lost} of {len(df)} rows have an empty cell in {', '.join(map(str, keys))}: left out", stacklevel=4
        )
    if not len(index):
        raise ValueError(f"df must have at least one group of rows, got {len(df)} rows")
    return group, index


def _alike(count: np.ndarray) -> list[np.ndarray]:
    """The groups, in parts that are padded to the longest of each: one, or where that wastes much one for each length
    up to a power of two.
    """
    wasteful = len(count) * count.max() > max(_PADDED, _WASTE * count.sum())
    lengths = np.ceil(np.log2(np.maximum(count, 1))) if wasteful else np.zeros(len(count))
    return [np.flatnonzero(lengths == length) for length in np.unique(lengths)]


def _padded(data: dict[str, Any], group: np.ndarray, count: np.ndarray, sets: np.ndarray, least: int) -> dict[str, Any]:
    """The rows of some groups as arrays of groups, at least so long, and a mask of those that there are."""
    order = np.argsort(group, kind="stable")
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    longest = max(int(count[sets].max()), least)
    mask = np.arange(longest) < count[sets, None]
    rows = np.where(mask, first[sets, None] + np.arange(longest), 0)
    padded = {name: column[order][rows] for name, column in data.items()}
    return padded | {"mask": mask}
