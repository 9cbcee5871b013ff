"""How a fit ended: one set of codes for every solver, and the check that names the failed members."""

from collections.abc import Collection
from enum import IntEnum
from typing import Any

import numpy as np

from jaxreg import _names

_MAX_NAMED = 20  # failed members named in one message; the rest are counted


class Status(IntEnum):
    """How a fit ended. Zero is success; results carry it as an int32 scalar (an array under ``vmap``).

    >>> Status(2)
    <Status.DIVERGED: 2>
    """

    OK = 0
    """Ended as asked: all epochs run, or converged."""
    MAX_STEPS = 1
    """The budget of steps ran out before convergence."""
    DIVERGED = 2
    """A step made the parameters non-finite; the result holds the last finite ones."""
    NONFINITE = 3
    """The start, or the model or the data at the start, is not finite; nothing was done."""
    SINGULAR = 4
    """The data do not determine every parameter at these values: there is no covariance, and no standard error."""
    INVALID_INPUT = 5
    """A value was out of its range; found under a trace, where nothing can be raised."""
    KINK = 6
    """Converged to a kink, where the model's derivative jumps; errors are of the side that has the larger."""
    NOT_OPTIMUM = 7
    """The fit that was given is not the optimum of what came with it: other data, another sigma, another loss."""
    TIMEOUT = 8
    """The time limit that was given passed first; of members that were not begun nothing is known."""


class Part(IntEnum):
    """What was not finite, or not usable, where that is why a fit failed.

    >>> Part(4)
    <Part.PREDICTION: 4>
    """

    NOTHING = 0
    X = 1
    Y = 2
    SIGMA = 3
    PREDICTION = 4
    """The model's value, for x and parameters that are finite."""
    DERIVATIVE = 5
    """The model's derivative by a parameter, where its value is finite and the derivative has no limit either."""
    PARAMETER = 6
    """At the start."""
    SQUARES = 7
    """The sum of the residuals' squares, which is out of the range of the dtype at the start."""
    ERROR = 8
    """The standard error of a parameter, or the parameter, which is out of the range of the dtype."""
    LOSS = 9
    """The loss at the start, as that of a count's expectation below zero is, where the model is finite."""


def is_optimum(status: Any) -> Any:
    """Whether each fit ended at an optimum, smooth or at a kink, and so has errors.

    >>> import jax.numpy as jnp
    >>> print(is_optimum(jnp.array([Status.OK, Status.KINK, Status.SINGULAR])))
    [ True  True False]
    """
    return (status == Status.OK) | (status == Status.KINK)


def raise_if_failed(result: Any, *, allowed: Collection[Status] = ()) -> None:
    """Raise unless every member of a result ended with ``Status.OK``. For the host, outside ``jit``.

    Args:
        result: anything with a ``status`` field (a ``Training``, a ``CurveFit``), or an integer array of status codes.
        allowed: statuses that are no failure either, such as ``(Status.KINK,)``.

    Raises:
        RuntimeError: naming each failed member by its index and its status, and the combination of parameters that the
            data do not determine where that is what failed.

    >>> import jax.numpy as jnp
    >>> raise_if_failed(jnp.array([0, 0]))
    >>> raise_if_failed(jnp.array([0, 2, 0, 1]))
    Traceback (most recent call last):
        ...
    RuntimeError: 2 of 4 fits failed: [1] DIVERGED, [3] MAX_STEPS
    """
    codes = np.asarray(_status_of(result))
    failed = np.argwhere(~np.isin(codes, [Status.OK, *allowed]))
    if not len(failed):
        return
    if codes.ndim == 0:
        raise RuntimeError(f"the fit failed: {_name(codes)}{_why(result, ())}")
    members = [
        f"[{', '.join(map(str, index))}] {_name(codes[tuple(index)])}{_why(result, tuple(index))}"
        for index in failed[:_MAX_NAMED].tolist()
    ]
    if len(failed) > _MAX_NAMED:
        members.append(f"and {len(failed) - _MAX_NAMED} more")
    raise RuntimeError(f"{len(failed)} of {codes.size} fits failed: {', '.join(members)}")


def _status_of(result: Any) -> Any:
    """The status in a result, in the values of a sweep, or in a dict that a swept function returned."""
    if hasattr(result, "axes") and hasattr(result, "values"):
        result = result.values
    if isinstance(result, dict):
        if "status" not in result:
            raise ValueError(f"result must have a status, got only {', '.join(map(repr, result))}")
        return result["status"]
    return getattr(result, "status", result)


def _name(code: Any) -> str:
    try:
        return Status(int(code)).name
    except ValueError:
        return f"unknown status {int(code)}"


def _why(result: Any, index: tuple[int, ...]) -> str:
    """What a curve fit says of its failure, in words."""
    if hasattr(result, "of_shared"):  # of data sets: of what they share, or of the first that failed
        failed = np.flatnonzero(~is_optimum(np.asarray(result.each.status)))
        named = (f", data set {place}{why}" for place in failed.tolist() if (why := _why(result.each, (place,))))
        return _why(result.of_shared, index) or next(named, "")
    words = culprit_of(result, index)
    if hasattr(result, "undetermined") and int(np.asarray(result.status)[index]) == Status.SINGULAR:
        words = _names.combination(result.params, np.asarray(result.undetermined)[index], leading=len(index))
        words = words and f"not determined: {words}"
    return words and f", {words}"


_WORDS = {
    Part.X: "x is not finite at row {row}",
    Part.Y: "y is not finite at row {row} (mask= leaves rows out)",
    Part.SIGMA: "sigma is not positive and finite at row {row}",
    Part.PREDICTION: "the model's value at the start is not finite at row {row}",
    Part.DERIVATIVE: "the model's derivative by {name} is not finite at row {row}, nor has it a limit there",
    Part.PARAMETER: "the start of {name} is not finite",
    Part.SQUARES: "the residuals at the start are so large that the sum of their squares is not finite",
    Part.LOSS: "the loss at the start is not finite at row {row}, where the model may be out of its domain",
    Part.ERROR: "{name} or its standard error is out of the range of {dtype}",
}


def culprit_of(result: Any, index: tuple[int, ...] = ()) -> str:
    """What was not finite in one fit, in words: empty where nothing is said.

    >>> import jax.numpy as jnp
    >>> import jaxreg
    >>> fit = jaxreg.curve_fit(jaxreg.models.ohm(), jnp.arange(3.0), jnp.array([0.0, jnp.nan, 2.0]))
    >>> culprit_of(fit)
    'y is not finite at row 1 (mask= leaves rows out)'
    """
    if not hasattr(result, "culprit"):
        return ""
    part, row, parameter = np.asarray(result.culprit)[index]
    if part <= Part.NOTHING:  # below it where nothing was computed
        return ""
    names = _names.of(result.params, leading=len(index))
    dtype = np.asarray(result.chi2).dtype
    return _WORDS[Part(int(part))].format(row=row, name=names[parameter], dtype=dtype)
