"""``prior``: what is known of parameters beforehand, as one Gaussian term."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxreg import _checks, _trace
from jaxreg.models import Params
from jaxreg.problems import _arguments as arguments
from jaxreg.problems._errors import positive
from jaxreg.problems._form import Form, Term


@dataclasses.dataclass(frozen=True)
class _Chosen:
    """The parameters of some names, flat."""

    names: tuple[str, ...]

    def __call__(self, params: Params, _: Any) -> Array:
        return jnp.concatenate([jnp.ravel(leaf) for name in self.names for leaf in jax.tree.leaves(params[name])])


@dataclasses.dataclass(frozen=True)
class _OfParams:
    """A function of the parameters, as a model; two of one function are equal."""

    fn: Callable[[Params], Array]

    def __call__(self, params: Params, _: Any) -> Array:
        return self.fn(params)


def prior_names(model: Any) -> tuple[str, ...]:
    """The parameters that a prior names; none of one on a function."""
    return model.names if isinstance(model, _Chosen) else ()


def named_prior(names: Iterable[str]) -> Any:
    """The model of a prior of some names."""
    return _Chosen(tuple(names))


def prior_term(what: Any, mean: Any, sigma: Any) -> tuple[Term, Form]:
    """The term of a prior, and its form."""
    if isinstance(what, Mapping):
        if mean is not None or sigma is not None:
            raise ValueError('prior takes a dict, prior({"rate": (1.5, 0.1)}), or a function, its mean and its sigma')
        if not what:
            raise ValueError("prior must name at least one parameter, got an empty dict")
        model = named_prior(what)
        means, sigmas = zip(*(_pair(name, value) for name, value in what.items()), strict=True)
        mean, sigma = (_together(parts) for parts in (means, sigmas))
    elif callable(what):
        if mean is None or sigma is None:
            raise ValueError("prior of a function needs its mean and its sigma, prior(fn, mean, sigma)")
        model = _OfParams(what)
    else:
        raise ValueError(f'prior takes a dict, as in prior({{"rate": (1.5, 0.1)}}), or a function, got {what!r}')
    mean = _checks.array("the prior's mean", mean)
    if _trace.concrete(mean):
        _checks.refuse("the prior's mean", mean, np.isfinite(mean), "finite")
    term, form = arguments.checked_term(
        model, (), mean, sigma=sigma, mask=None, loss="squared", scale=None, absolute_sigma=True
    )
    return term, Form((form._replace(is_prior=True),))


def _pair(name: str, value: Any) -> tuple[Any, Any]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ValueError(f"the prior of {name} must be a pair (mean, sigma), got {value!r}")
    mean, sigma = (
        _checks.array(f"the prior's mean of {name}", value[0]),
        _checks.array(f"its sigma of {name}", value[1]),
    )
    if _trace.concrete(sigma):
        _checks.refuse(f"the sigma of the prior of {name}", sigma, positive(sigma), "positive and finite")
    if sigma.shape not in ((), mean.shape):
        raise ValueError(
            f"the sigma of the prior of {name} must be a number or shaped like its mean {mean.shape}, got "
            f"{sigma.shape}: a covariance is given with a function, prior(fn, mean, covariance)"
        )
    return jnp.ravel(mean) if not _trace.concrete(mean) else np.ravel(mean), _like(sigma, mean)


def _like(sigma: Any, mean: Any) -> Any:
    broadcast = np.broadcast_to if _trace.concrete(sigma, mean) else jnp.broadcast_to
    return broadcast(sigma, mean.shape).ravel()


def _together(parts: Any) -> Any:
    return np.concatenate(parts) if _trace.concrete(parts) else jnp.concatenate(parts)
