"""The loss of a term: its function and its keywords apart, and what it goes with."""

import functools
import inspect
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxreg import _cache, _checks, _trace, losses
from jaxreg.likelihoods import Likelihood
from jaxreg.losses._kinds import Kind, kind_of
from jaxreg.models import Model
from jaxreg.objective import Loss

LOSSES: dict[str, Loss] = {
    "absolute": losses.absolute,
    "cauchy": losses.cauchy,
    "huber": losses.huber,
    "log_cosh": losses.log_cosh,
    "poisson": losses.poisson,
    "pseudo_huber": losses.pseudo_huber,
    "quantile": losses.quantile,
    "soft_l1": losses.soft_l1,
    "squared": losses.squared,
    "tukey": losses.tukey,
}


def function_and_keywords(loss: str | Loss) -> tuple[Loss | None, dict[str, Any]]:
    """The function and its keywords apart, so that another threshold is not another program."""
    if not callable(loss):
        _checks.one_of("loss", loss, tuple(LOSSES))
        loss = LOSSES[loss]
    if kind_of(loss) is Kind.SQUARED:
        return None, {}
    function: Any = loss
    keywords: dict[str, Any] = {}
    while isinstance(function, functools.partial) and not function.args:
        keywords = function.keywords | keywords
        function = function.func
    keywords = _defaults(function) | keywords
    found = {key: _checks.array(f"the loss's {key}", value) for key, value in keywords.items()}
    return function, found


@_cache.kept(1)
def _defaults(loss: Loss) -> dict[str, Any]:
    """The numbers that a loss's keywords have if none are given."""
    try:
        parameters = inspect.signature(loss).parameters.values()
    except (TypeError, ValueError):  # a builtin that does not tell
        return {}
    return {
        one.name: one.default
        for one in parameters
        if one.kind is one.KEYWORD_ONLY and isinstance(one.default, float | int) and not isinstance(one.default, bool)
    }


def check_loss(loss: Any, function: Any, model: Any, scale: Any) -> None:
    """Refuse what a loss does not go with."""
    if scale is not None:
        _checks.one_of("scale", scale, ("mad",))
        if kind_of(function) in (Kind.SQUARED, Kind.LINEAR_PROGRAM):
            raise ValueError(f"scale must be None for a loss without a threshold, {loss}, got {scale!r}")
    if kind_of(function) is Kind.LINEAR_PROGRAM and (not isinstance(model, Model) or model.features is None):
        raise ValueError(f"model must be a Model with features, linear in its parameters, for {loss}, got {model}")


def check_keywords(function: Any, keywords: dict[str, Any]) -> None:
    for name, value in keywords.items():
        if _trace.concrete(value):
            is_share = kind_of(function) is Kind.LINEAR_PROGRAM
            wanted = "between 0 and 1" if is_share else "positive"
            usable = (value > 0) & ((value < 1) | (not is_share))
            _checks.refuse(f"the loss's {name}", value, usable, wanted)


def check_likelihood(loss: Likelihood, sigma: Any, scale: Any, keywords: dict[str, Any]) -> None:
    """Refuse what a likelihood knows by itself, and the lack of what it needs."""
    if sigma is not None or scale is not None:
        what = "sigma" if sigma is not None else "scale"
        raise ValueError(f"{what} must be None for the {loss.name} loss, which knows the size of its errors")
    for name in loss.needs:
        if name not in keywords:
            raise ValueError(f"the {loss.name} loss needs {name}: loss=partial(losses.{loss.name}, {name}=…)")


def check_counts(loss: Likelihood, y: Any, mask: Any, keywords: dict[str, Any]) -> None:
    for name, value in keywords.items():
        if value.shape not in ((), jnp.shape(y)):
            raise ValueError(f"the loss's {name} must be a number or have y's shape {jnp.shape(y)}, got {value.shape}")
    if _trace.concrete(y, mask, keywords):
        usable = np.asarray(loss.usable(np.asarray(y), **{name: np.asarray(value) for name, value in keywords.items()}))
        _checks.refuse("y", y, usable if mask is None else usable | ~np.asarray(mask), loss.wanted)
