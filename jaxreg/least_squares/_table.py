"""A fit's parameters as a pandas table; below the solvers, so that their results can have it as a method."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxreg import _names
from jaxreg.status import Status

if TYPE_CHECKING:
    import pandas


def table_of(fit: Any) -> "pandas.DataFrame":
    """One fit: a row for each parameter. Many: a row for each fit, on the index of the leading axes."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError("tables need pandas: pip install 'jaxreg[tables]'") from error
    members = np.shape(fit.chi2)
    names = _names.of(fit.params, leading=len(members))
    value, stderr = (_names.numbers(part, leading=len(members)) for part in (fit.params, fit.stderr))
    named = {int(one): one.name for one in Status}
    status = [named.get(code, str(code)) for code in np.ravel(fit.status).tolist()]
    if not members:
        index = pandas.Index(names, name="parameter")
        return pandas.DataFrame({"value": value[0], "stderr": stderr[0], "status": status * len(names)}, index)
    axes = [f"fit_{axis}" if len(members) > 1 else "fit" for axis in range(len(members))]
    index = pandas.MultiIndex.from_product([range(size) for size in members], names=axes)
    columns: dict[str, Any] = {name: value[:, place] for place, name in enumerate(names)}
    columns |= {f"{name}_stderr": stderr[:, place] for place, name in enumerate(names)}
    columns |= {name: np.asarray(getattr(fit, name)).ravel() for name in ("chi2", "dof", "num_steps")}
    columns["status"] = status
    return pandas.DataFrame(columns, index if len(members) > 1 else index.get_level_values(0))
