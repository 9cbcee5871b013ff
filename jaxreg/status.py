"""How a fit ended: one set of codes for every solver, and the check that names the failed members."""

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
    """The data do not determine every parameter: there is no covariance, and no standard error."""
    INVALID_INPUT = 5
    """A value was out of its range; found under a trace, where nothing can be raised."""
    NOT_OPTIMUM = 7
    """The fit that was given is not the optimum of what came with it: other data, another sigma, another loss."""


def raise_if_failed(result: Any) -> None:
    """Raise unless every member of a result ended with ``Status.OK``. For the host, outside ``jit``.

    Args:
        result: anything with a ``status`` field (a ``Training``, a ``CurveFit``), or an integer array of status codes.

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
    failed = np.argwhere(codes != Status.OK)
    if not len(failed):
        return
    if codes.ndim == 0:
        raise RuntimeError(f"the fit failed: {_name(codes)}{_undetermined(result, ())}")
    members = [
        f"[{', '.join(map(str, index))}] {_name(codes[tuple(index)])}{_undetermined(result, tuple(index))}"
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


def _undetermined(result: Any, index: tuple[int, ...]) -> str:
    """The combination that a singular curve fit could not determine, in words."""
    if not hasattr(result, "undetermined") or int(np.asarray(result.status)[index]) != Status.SINGULAR:
        return ""
    terms = _names.combination(result.params, np.asarray(result.undetermined)[index], leading=len(index))
    return f", not determined: {terms}" if terms else ""
