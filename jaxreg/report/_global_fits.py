"""Reports of global fits: the shared parameters, and a table of the data sets."""

from typing import Any

import jax
import numpy as np
from jax.scipy.special import gammaincc

from jaxreg import _checks, _names
from jaxreg._tables import UNKNOWN, Table, number, significant
from jaxreg.global_fits import GlobalFit
from jaxreg.least_squares._table import in_order
from jaxreg.losses._kinds import Kind
from jaxreg.report._fits import WORDS, correlations, parameters, to_error, undetermined
from jaxreg.status import Status, culprit_of, is_optimum
from jaxreg.uncertainty._followed import distribution_of

_MOST_ROWS = 12  # data sets in a table
_MOST_NAMED = 5  # of those that took no part


def parts_of_global_fit(
    fit: GlobalFit,
    *,
    level: float = 0.95,
    distribution: str | None = None,
    least_correlation: float = 0.1,
    digits: int = 3,
) -> list[str | Table]:
    """The paragraphs and tables of its ``summary``."""
    digits = _checks.count("digits", digits, least=1)
    host: GlobalFit = jax.device_get(fit.without_data())
    shared = jax.device_get(host.of_shared).replace(problem=fit.problem)
    order = host.shared if fit.problem is None else fit.problem.order
    status, code = Status(int(host.status)), np.asarray(host.each.status)
    kept = (code != Status.INVALID_INPUT) & (code != Status.NONFINITE)
    return [
        f"{status.name}: {WORDS[status]} ({max(int(host.num_steps), 0)} steps)",
        f"{_count(kept)} data sets share {', '.join(name for name in order if name in host.shared)}",
        _named("took no part", host, np.flatnonzero(~kept)),
        _named("own parameters not determined", host, np.flatnonzero(kept & (code == Status.SINGULAR))),
        parameters(shared, level, distribution_of(fit, distribution), digits),
        undetermined(shared),
        *_table(host, fit.problem, kept, digits),
        *correlations(shared, least_correlation),
        *_goodness(host, fit.problem, kept),
    ]


def _count(kept: np.ndarray) -> str:
    return str(len(kept)) if kept.all() else f"{np.count_nonzero(kept)} of {len(kept)}"


def _named(title: str, fit: GlobalFit, places: np.ndarray) -> str:
    """Data sets with what is the matter with them."""
    words = []
    for place in places[:_MOST_NAMED].tolist():
        why = culprit_of(fit.each, (place,))
        why = why or _names.combination(fit.each.params, fit.each.undetermined[place], leading=1)
        status = Status(int(fit.each.status[place]))
        if status is Status.INVALID_INPUT:
            why = why or "fewer points than own parameters, or a start outside its bounds"
        words.append(f"{place} ({status.name}{why and ', ' + why})")
    more = [f"and {len(places) - _MOST_NAMED} more"] if len(places) > _MOST_NAMED else []
    return f"{title}: {', '.join(words + more)}" if words else ""


def _table(fit: GlobalFit, problem: Any, kept: np.ndarray, digits: int) -> list[str | Table]:
    """A row for each data set: its own parameters ± errors, χ² and how it ended."""
    each = fit.each
    names = _names.of(each.params, leading=1)
    value, error = (_names.numbers(part, leading=1) for part in (each.params, each.stderr))
    shared = _names.of(fit.of_shared.params)
    own = [place for place in in_order(each.params, problem, 1) if names[place] not in shared]
    rows = []
    for row in range(min(len(kept), _MOST_ROWS)):
        cells = [
            f"{to_error(value[row, place], error[row, place], digits)} ± {significant(error[row, place], digits)}"
            if kept[row]
            else UNKNOWN
            for place in own
        ]
        ended = "" if is_optimum(each.status[row]) else Status(int(each.status[row])).name
        rows.append([str(row), *cells, number(float(each.chi2[row]), 4) if kept[row] else UNKNOWN, ended])
    table = Table([["data set", *(names[place] for place in own), "χ²", ""], *rows])
    more = len(kept) - len(rows)
    return [table, f"… and {more} data sets more: fit.to_dataframe()" if more else ""]


def _goodness(fit: GlobalFit, problem: Any, kept: np.ndarray) -> list[Table]:
    if not kept.any():
        return []
    chi2, dof, rows = float(fit.chi2), int(fit.dof), []
    total = chi2 + float(fit.chi2_prior or 0)
    if problem is not None:
        stopped = [] if fit.at_bound is None else jax.tree.leaves(fit.at_bound)
        own = len(problem.columns.own) * int(kept.sum()) + len(problem.columns.shared)
        rows.append(["parameters", str(own - sum(int(np.sum(one)) for one in stopped))])
    is_count = problem is not None and problem.form.has(Kind.LIKELIHOOD)
    rows += [
        ["degrees of freedom", str(dof)],
        ["deviance" if is_count else "χ²", significant(chi2, 6)],
        *([] if fit.chi2_prior is None else [["χ² of the priors", significant(float(fit.chi2_prior), 6)]]),
        ["reduced χ²", significant(total / dof if dof > 0 else np.nan, 6)],
    ]
    if problem is not None and problem.absolute_sigma and dof > 0 and not problem.form.has(Kind.ROBUST):
        with jax.enable_x64(True):
            rows.append(["p-value", number(float(gammaincc(dof / 2, total / 2)), 3)])
    points = int(np.asarray(fit.each.pooled.num_points).ravel()[0])
    return [Table([["points", str(points)], *rows], header=False)]
