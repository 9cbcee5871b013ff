"""Text reports of fits. For the host: they read numbers, so not under ``jit``."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxreg import _checks, _names
from jaxreg.least_squares import CurveFit
from jaxreg.results import Sweep
from jaxreg.status import Part, Status, culprit_of, is_optimum
from jaxreg.uncertainty import quantile
from jaxreg.uncertainty._linear import Fits

_WORDS = {
    Status.OK: "converged",
    Status.MAX_STEPS: "not converged: the budget of steps ran out",
    Status.DIVERGED: "diverged",
    Status.NONFINITE: "not fitted: the start, or the model there, is not finite",
    Status.SINGULAR: "the data do not determine every parameter here, so there are no errors",
    Status.INVALID_INPUT: "not fitted: an input was out of its range",
    Status.KINK: "converged to a kink, where the model's derivative jumps; errors are of the side that has the larger",
    Status.NOT_OPTIMUM: "not the optimum of the data, sigma and loss that came with it",
}
_UNKNOWN = "–"


def summary(
    fit: Fits, *, level: float = 0.95, distribution: str = "t", least_correlation: float = 0.1, digits: int = 3
) -> str:
    """A report on a fit: how it ended, parameters with errors and intervals, correlations, goodness of fit.

    With n points and p fitted parameters, AIC = n·log(χ²/n) + 2p and BIC = n·log(χ²/n) + p·log(n).

    Args:
        fit: one ``curve_fit``; of many on leading axes, in memory, in a store or as ``store.load`` gives them, the
            statuses are counted and the parameters' quartiles given.
        level: of the intervals.
        distribution: "t" or "normal", as for ``uncertainty.intervals``.
        least_correlation: correlations smaller than it are left out.
        digits: of the standard error; the estimate is given to the same decimal place.

    Returns:
        Lines of text. What could not be estimated is shown as "–"; parameters at a bound or fixed are marked.

    >>> import jax.numpy as jnp
    >>> import jaxreg
    >>> x, y = jnp.arange(5.0), jnp.array([0.0, 1.1, 1.9, 3.1, 3.9])
    >>> print(summary(jaxreg.curve_fit(jaxreg.models.ohm(), x, y)))
    OK: converged (... steps)
    <BLANKLINE>
    parameter    value  ± error  relative  95 % interval (t)
    resistance  0.9933   0.0180     1.8 %     0.943 to 1.043
    <BLANKLINE>
    points                       5
    parameters                   1
    degrees of freedom           4
    χ²                     0.03867
    reduced χ²            0.009667
    AIC                     -22.31
    BIC                     -22.70
    """
    digits = _checks.count("digits", digits, least=1)
    # NumPy keeps float64 where JAX does not.
    one: CurveFit = jax.device_get(fit.values if isinstance(fit, Sweep) else fit)
    if np.ndim(one.chi2):
        return _many(one, digits)
    status = Status(int(one.status))
    sections = [
        f"{status.name}: {_words(one, status)} ({int(one.num_steps)} steps)",
        _parameters(one, level, distribution, digits),
        _undetermined(one),
        _without_error(one),
        _correlations(one, least_correlation),
        _goodness(one),
        "" if one.scale is None else f"scale of the residuals, estimated: {_significant(float(one.scale), 4)} sigmas",
    ]
    return "\n\n".join(section for section in sections if section)


def _words(fit: CurveFit, status: Status) -> str:
    culprit = culprit_of(fit)
    return f"not fitted: {culprit}" if culprit else _WORDS[status]


def _parameters(fit: CurveFit, level: float, distribution: str, digits: int) -> str:
    names = _names.of(fit.params)
    value, error = _flat(fit.params), _flat(fit.stderr)
    with jax.enable_x64(True):
        half_width = float(quantile(int(fit.dof), level, distribution)) * error
    lower, upper = value - half_width, value + half_width
    marks = _marks(fit)
    rows = []
    for index, name in enumerate(names):
        known = math.isfinite(error[index]) and not marks[index]
        spread = error[index] if known else math.nan
        rows.append(
            [
                name,
                _number(value[index], spread, digits),
                _significant(spread, digits),
                f"{100 * spread / abs(value[index]):.2g} %" if known and value[index] else _UNKNOWN,
                f"{_number(lower[index], spread, digits - 1)} to {_number(upper[index], spread, digits - 1)}"
                if known
                else _UNKNOWN,
                marks[index],
            ]
        )
    header = ["parameter", "value", "± error", "relative", f"{100 * level:g} % interval ({distribution})", ""]
    return _table([header, *rows])


def _marks(fit: CurveFit) -> list[str]:
    # A fixed parameter has no error; in an exact fit without absolute sigma none has.
    error = _flat(fit.stderr)
    fixed = (error == 0) & (error != 0).any()
    stopped = np.zeros(fixed.shape, bool) if fit.at_bound is None else _flat(fit.at_bound)
    return ["at a bound" if stop else "fixed" if fix else "" for stop, fix in zip(stopped, fixed, strict=True)]


def _undetermined(fit: CurveFit) -> str:
    terms = _names.combination(fit.params, fit.undetermined)
    return f"not determined: {terms}" if terms else ""


def _without_error(fit: CurveFit) -> str:
    """The parameters of a fit that ended well that have no error nevertheless, and why."""
    unknown = np.isnan(_flat(fit.stderr)) & (np.array(_marks(fit)) == "")
    if not is_optimum(int(fit.status)) or int(fit.dof) <= 0 or not unknown.any():
        return ""
    names = ", ".join(name for name, lost in zip(_names.of(fit.params), unknown, strict=True) if lost)
    size = np.abs(np.asarray(fit.residuals, float))
    rows = np.flatnonzero(size <= np.finfo(fit.chi2.dtype).eps ** 0.5 * np.nanmax(size))
    if not len(rows):
        return f"no error of {names}: the loss bends down at too many of the residuals"
    where = ", ".join(map(str, rows[:5].tolist()))
    return (
        f"no error of {names}: one point alone sets it, with leverage 1, which HC2 and HC3 divide by zero for "
        f"(the curve goes through row {where})"
    )


def _correlations(fit: CurveFit, least: float) -> str:
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
    return f"correlations of at least {least:g}\n{_table(rows)}" if rows else ""


def _goodness(fit: CurveFit) -> str:
    chi2, dof = float(fit.chi2), int(fit.dof)
    num_points = int(np.isfinite(np.asarray(fit.residuals)).sum())  # masked ones have no residual
    started = int(fit.culprit[0]) in (Part.NOTHING, Part.ERROR)
    if not num_points or not started:
        return ""
    num_params = num_points - dof
    likelihood = num_points * math.log(chi2 / num_points) if chi2 > 0 else -math.inf if chi2 == 0 else math.nan
    rows = [
        ["points", str(num_points)],
        ["parameters", str(num_params)],
        ["degrees of freedom", str(dof)],
        ["χ²", _significant(chi2, 6)],
        ["reduced χ²", _significant(chi2 / dof if dof > 0 else math.nan, 6)],
        ["AIC", _significant(likelihood + 2 * num_params, 6)],
        ["BIC", _significant(likelihood + num_params * math.log(num_points), 6)],
    ]
    return _table(rows)


def _many(fit: CurveFit, digits: int) -> str:
    """Counts of the statuses, and quartiles over the fits that ended well."""
    status = np.asarray(fit.status)
    counts = {_ended(code): int(count) for code, count in zip(*np.unique(status, return_counts=True), strict=True)}
    good = is_optimum(status).ravel()
    names = _names.of(fit.params, leading=status.ndim)
    values, errors = (
        np.concatenate([np.asarray(leaf).reshape(status.size, -1) for leaf in jax.tree.leaves(part)], axis=1)[good]
        for part in (fit.params, fit.stderr)
    )
    lines = [f"{status.size} fits: {', '.join(f'{count} {name}' for name, count in counts.items())}"]
    failed = np.argwhere(~is_optimum(status))[:5]
    if len(failed):
        named = (f"[{', '.join(map(str, index))}] {_ended(status[tuple(index)])}" for index in failed)
        lines.append(f"failed first: {', '.join(named)}")
    if not good.any():
        return "\n".join(lines)
    low, middle, high = np.percentile(values, [25, 50, 75], axis=0)
    typical = np.nanmedian(errors, axis=0)
    rows = [
        [name, *(_number(one, error, digits) for one in quartiles), _significant(error, digits)]
        for name, *quartiles, error in zip(names, low, middle, high, typical, strict=True)
    ]
    return "\n".join([*lines, "", _table([["parameter", "25 %", "median", "75 %", "median error"], *rows])])


def _ended(code: Any) -> str:
    return Status(int(code)).name if code >= 0 else "not done"  # in a store, -1


def _number(value: float, error: float, digits: int) -> str:
    """A value to the decimal place of its error's last digit."""
    if not math.isfinite(value):
        return _UNKNOWN
    if not math.isfinite(error) or error <= 0 or value == 0:
        return _significant(value, 6)
    places = math.floor(math.log10(abs(value))) - math.floor(math.log10(error)) + digits
    return _significant(value, min(max(places, digits), 16))


def _significant(value: float, digits: int) -> str:
    return f"{value:#.{digits}g}".removesuffix(".") if not math.isnan(value) else _UNKNOWN


def _flat(params: Any) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(leaf)) for leaf in jax.tree.leaves(params)])


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Columns, the first to the left and the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
