"""Reports of fits. For the host: they read numbers, so not under ``jit``."""

import math
from typing import Any

import jax
import numpy as np

from jaxreg import _checks, _names
from jaxreg._tables import UNKNOWN, Table, significant
from jaxreg.least_squares import Fit
from jaxreg.least_squares._solver import num_free
from jaxreg.least_squares._table import in_order
from jaxreg.losses._kinds import Kind
from jaxreg.problems._priors import prior_names
from jaxreg.results import Sweep
from jaxreg.status import Part, Status, culprit_of, is_optimum
from jaxreg.uncertainty import quantile
from jaxreg.uncertainty._followed import distribution_of, is_absolute
from jaxreg.uncertainty._linear import Fits

WORDS = {
    Status.OK: "converged",
    Status.MAX_STEPS: "not converged: the budget of steps ran out",
    Status.DIVERGED: "diverged",
    Status.NONFINITE: "not fitted: the start, or the model there, is not finite",
    Status.SINGULAR: "the data do not determine every parameter here, so there are no errors",
    Status.INVALID_INPUT: "not fitted: an input was out of its range",
    Status.KINK: "converged to a kink, where the model's derivative jumps; errors are of the side that has the larger",
    Status.TIMEOUT: "not converged: the time limit passed",
    Status.NOT_OPTIMUM: "not the optimum of the data, sigma and loss that came with it",
}

_MOST_CORRELATIONS = 20  # in a table


def parts_of_fit(
    fit: Fits, *, level: float = 0.95, distribution: str | None = None, least_correlation: float = 0.1, digits: int = 3
) -> list[str | Table]:
    """The paragraphs and tables of ``summary``."""
    digits = _checks.count("digits", digits, least=1)
    given: Fit = fit.values if isinstance(fit, Sweep) else fit
    if np.ndim(given.chi2):
        return _many(given, digits)
    # NumPy keeps float64 where JAX does not.
    one: Fit = jax.device_get(given.without_data()).replace(problem=given.problem)
    if int(one.status) < 0:
        return ["not done: of a store whose fits are not all computed"]
    distribution, status = distribution_of(one, distribution), Status(int(one.status))
    return [
        f"{status.name}: {_words(one, status)} ({max(int(one.num_steps), 0)} steps)",
        parameters(one, level, distribution, digits),
        undetermined(one),
        _without_error(one),
        *correlations(one, least_correlation),
        *_terms(one),
        *_goodness(one),
        *_notes(one),
    ]


def _notes(fit: Fit) -> list[str]:
    """What the errors rest on, where that is not what it is in most fits."""
    notes = [] if fit.pooled is None else ["one data set of a global fit, from all of which its errors come"]
    if fit.scale is not None:
        scales = ", ".join(significant(float(scale), 4) for scale in jax.tree.leaves(fit.scale))
        notes.append(f"scale of the residuals, estimated: {scales} sigmas")
    if int(fit.dof) <= 0 and is_optimum(int(fit.status)) and not (fit.problem and fit.problem.absolute_sigma):
        notes.append("no errors: as many parameters as points leave nothing that says how large they are")
    if fit.adjusted_x is not None:
        notes.append("errors in x are counted: χ² is of the distances from the curve in both coordinates")
    for term, form in () if fit.problem is None else zip(fit.problem.terms, fit.problem.form.terms, strict=True):
        if np.ndim(term.sigma) or term.sigma != 1 or form.is_prior:
            continue
        if form.kind is Kind.ROBUST and form.scale is None:
            notes.append("the loss's threshold is in units of y, as sigma is 1: say sigma, or scale='mad'")
        elif form.kind is Kind.SQUARED and form.absolute_sigma:
            notes.append("sigma is 1 in units of y, and taken as known: say how large it is, or absolute_sigma=False")
        elif term.sigma_x is not None:
            notes.append("sigma is 1 in units of y, beside sigma_x: say how large it is, or at least its ratio to that")
    return notes


def _words(fit: Fit, status: Status) -> str:
    culprit = culprit_of(fit)
    return f"not fitted: {culprit}" if culprit else WORDS[status]


def parameters(fit: Fit, level: float, distribution: str, digits: int) -> Table:
    names = _names.of(fit.params)
    value, error = (_names.numbers(part)[0] for part in (fit.params, fit.stderr))
    with jax.enable_x64(True):
        half_width = float(quantile(int(fit.dof), level, distribution)) * error
    lower, upper = value - half_width, value + half_width
    marks = _marks(fit)
    rows = []
    for index in in_order(fit.params, fit.problem, 0):
        known = math.isfinite(error[index]) and not marks[index]
        spread = error[index] if known else math.nan
        rows.append(
            [
                names[index],
                to_error(value[index], spread, digits),
                significant(spread, digits),
                f"{100 * spread / abs(value[index]):.2g} %" if known and value[index] else UNKNOWN,
                f"{to_error(lower[index], spread, digits - 1)} to {to_error(upper[index], spread, digits - 1)}"
                if known
                else UNKNOWN,
                marks[index],
            ]
        )
    header = ["parameter", "value", "± error", "relative", f"{100 * level:g} % interval ({distribution})", ""]
    return Table([header, *rows])


def _marks(fit: Fit) -> list[str]:
    # A fixed parameter has no error; in an exact fit without absolute sigma none has.
    error = _names.numbers(fit.stderr)[0]
    fixed = (error == 0) & (error != 0).any()
    stopped = np.zeros(fixed.shape, bool) if fit.at_bound is None else _names.numbers(fit.at_bound)[0]
    return ["at a bound" if stop else "fixed" if fix else "" for stop, fix in zip(stopped, fixed, strict=True)]


def undetermined(fit: Fit) -> str:
    terms = _names.combination(fit.params, fit.undetermined)
    return f"not determined: {terms}" if terms else ""


def _without_error(fit: Fit) -> str:
    """The parameters of a fit that ended well that have no error nevertheless, and why."""
    unknown = np.isnan(_names.numbers(fit.stderr)[0]) & (np.array(_marks(fit)) == "")
    if not is_optimum(int(fit.status)) or int(fit.dof) <= 0 or not unknown.any():
        return ""
    names = ", ".join(name for name, lost in zip(_names.of(fit.params), unknown, strict=True) if lost)
    size = np.abs(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(fit.residuals)]))
    rows = np.flatnonzero(size <= np.finfo(fit.chi2.dtype).eps ** 0.5 * np.nanmax(size))
    if not len(rows):
        return f"no error of {names}: the loss bends down at too many of the residuals"
    where = ", ".join(map(str, rows[:5].tolist()))
    return (
        f"no error of {names}: one point alone sets it, with leverage 1, which HC2 and HC3 divide by zero for "
        f"(the curve goes through row {where})"
    )


def correlations(fit: Fit, least: float) -> list[Table]:
    covariance, names = np.asarray(fit.covariance, float), _names.of(fit.params)
    with np.errstate(all="ignore"):
        error = np.sqrt(np.diagonal(covariance))
        correlation = covariance / np.outer(error, error)
    pairs = [
        (correlation[row, column], f"{names[row]}, {names[column]}")
        for row in range(len(names))
        for column in range(row + 1, len(names))
        if abs(correlation[row, column]) >= least  # NaN is not
    ]
    rows = [[name, f"{correlation:+.4f}"] for correlation, name in sorted(pairs, key=lambda pair: -abs(pair[0]))]
    if len(rows) > _MOST_CORRELATIONS:
        rows[_MOST_CORRELATIONS:] = [[f"… and {len(rows) - _MOST_CORRELATIONS} more", ""]]
    return [Table(rows, f"correlations of at least {least:g}", header=False)] if rows else []


def _goodness(fit: Fit) -> list[Table]:
    chi2, prior, dof = float(fit.chi2), fit.chi2_prior, int(fit.dof)
    num_points = _num_points(fit)
    started = int(fit.culprit[0]) in (Part.NOTHING, Part.ERROR)
    if not num_points or not started:
        return []
    num_params = num_points + _num_prior_rows(fit) - dof
    total = chi2 + float(prior or 0)
    is_count = fit.problem is not None and fit.problem.form.has(Kind.LIKELIHOOD)
    rows = [
        ["points", str(num_points)],
        ["parameters" if fit.pooled is None else "own parameters", str(num_params)],
        ["degrees of freedom", str(dof)],
        ["deviance" if is_count else "χ²", significant(chi2, 6)],
        *([] if prior is None else [["χ² of the priors", significant(float(prior), 6)]]),
        ["reduced χ²", significant(total / dof if dof > 0 else math.nan, 6)],
    ]
    if fit.problem is not None and fit.pooled is None:
        num_rows = num_points + _num_prior_rows(fit)
        cost = _cost(fit, total, num_rows)
        rows.append(["AIC", significant(cost + 2 * num_params, 6)])
        rows.append(["BIC", significant(cost + num_params * math.log(num_rows), 6)])
    return [Table(rows, header=False)]


def _num_points(fit: Fit) -> int:
    """Residuals that there are, two of a complex number; where none are kept, what the degrees of freedom say."""
    if fit.residuals is not None or fit.problem is None or fit.problem.form.tie is not None:
        kept = map(np.asarray, jax.tree.leaves(fit.residuals))
        return sum(int(np.isfinite(one).sum()) * (2 if np.iscomplexobj(one) else 1) for one in kept)
    at_bound = 0 if fit.at_bound is None else int(_names.numbers(fit.at_bound)[0].sum())
    return int(fit.dof) + num_free(fit.problem) - at_bound - _num_prior_rows(fit)


def _cost(fit: Fit, chi2: float, num_points: int) -> float:
    """-2 log-likelihood but for constants; NaN of a robust loss, which is none."""
    if fit.problem.form.has(Kind.ROBUST, Kind.LINEAR_PROGRAM):
        return math.nan
    if is_absolute(fit):
        return chi2
    return num_points * math.log(chi2 / num_points) if chi2 > 0 else -math.inf if chi2 == 0 else math.nan


def _num_prior_rows(fit: Fit) -> int:
    if fit.problem is None:
        return 0
    pairs = zip(fit.problem.terms, fit.problem.form.terms, strict=True)
    return sum(np.size(term.y) for term, form in pairs if form.is_prior)


def _terms(fit: Fit) -> list[Table]:
    """Which term of a sum reads which parameters."""
    if fit.problem is None or len(fit.problem.terms) == 1:
        return []
    forms = fit.problem.form.terms
    everything = tuple(fit.params) if isinstance(fit.params, dict) else ()
    rows = []
    for place, (term, form) in enumerate(zip(fit.problem.terms, forms, strict=True)):
        names = prior_names(form.model) or tuple(name for _, name in form.names or ()) or everything
        kind = "prior" if form.is_prior else "data"
        size = np.size(term.y) if term.mask is None else int(np.count_nonzero(term.mask))
        size *= 2 if np.iscomplexobj(term.y) else 1
        rows.append([f"{place} {kind}", str(size), ", ".join(names) or "all"])
    return [Table([["term", "rows", "reads"], *rows])]


def _many(fit: Fit, digits: int) -> list[str | Table]:
    """Counts of the statuses, and quartiles over the fits that ended well."""
    status = np.asarray(fit.status)
    good = is_optimum(status).ravel()
    names = _names.of(fit.params, leading=status.ndim)
    lines = [f"{status.size} fits: {counted(status)}"]
    failed = np.argwhere(~is_optimum(status))[:5]
    if len(failed):
        named = (f"[{', '.join(map(str, index))}] {_ended(status[tuple(index)])}" for index in failed)
        lines.append(f"failed first: {', '.join(named)}")
    if not good.any():
        return ["\n".join(lines)]
    values, errors = (_names.numbers(part, leading=status.ndim)[good] for part in (fit.params, fit.stderr))
    quartiles, typical = np.percentile(values, [25, 50, 75], axis=0), np.nanmedian(errors, axis=0)
    rows = []
    for place in in_order(fit.params, fit.problem, status.ndim):
        cells = (to_error(one[place], typical[place], digits) for one in quartiles)
        rows.append([names[place], *cells, significant(typical[place], digits)])
    return ["\n".join(lines), Table([["parameter", "25 %", "median", "75 %", "median error"], *rows])]


def counted(status: Any) -> str:
    """How many members ended how."""
    codes, counts = np.unique(status, return_counts=True)
    return ", ".join(f"{count} {_ended(code)}" for code, count in zip(codes, counts.tolist(), strict=True))


def _ended(code: Any) -> str:
    return Status(int(code)).name if code >= 0 else "not done"  # in a store, -1


def to_error(value: float, error: float, digits: int) -> str:
    """A value to the decimal place of its error's last digit."""
    if not math.isfinite(value):
        return UNKNOWN
    if not math.isfinite(error) or error <= 0 or value == 0:
        return significant(value, 6)
    places = math.floor(math.log10(abs(value))) - math.floor(math.log10(error)) + digits
    return significant(value, min(max(places, digits), 16))
