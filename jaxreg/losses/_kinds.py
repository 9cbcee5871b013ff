"""What a loss is, said by a value."""

import dataclasses
import enum
import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from jax import Array

from jaxreg.likelihoods import Likelihood
from jaxreg.losses._functions import (
    absolute,
    cauchy,
    huber,
    log_cosh,
    pseudo_huber,
    quantile,
    squared,
    tukey,
)


@dataclasses.dataclass(frozen=True)
class _Elementwise:
    fn: Callable[..., Array]

    def __call__(self, *args: Any, **thresholds: Any) -> Array:
        return self.fn(*args, **thresholds)

    @property
    def __name__(self) -> str:  # the label of a sweep over losses
        return getattr(self.fn, "__name__", "elementwise")


def elementwise(loss: Callable[..., Array]) -> Callable[..., Array]:
    """The same loss, saying that each element of it depends on that of prediction and target alone, and not on n.

    A sweep of ``train`` is faster then. Said of a loss that is divided by a norm, a count or a maximum of the batch, it
    is trained to something else. Two of one function are equal; the losses here need no such word.

    >>> elementwise(lambda prediction, target: (prediction - target) ** 4)(jnp.array([3.0]), jnp.array([1.0]))
    Array([16.], dtype=float32)
    """
    return _Elementwise(loss)


def is_elementwise(loss: Callable[..., Array]) -> bool:
    """Whether a loss is known, or says, to be elementwise, with one threshold for all rows.

    >>> is_elementwise(functools.partial(huber, delta=0.5)), is_elementwise(lambda prediction, target: target)
    (True, False)
    """
    if isinstance(loss, functools.partial):
        bound = not loss.args and all(jnp.ndim(value) == 0 for value in loss.keywords.values())
        return bound and is_elementwise(loss.func)
    return isinstance(loss, _Elementwise | Likelihood) or loss in _KNOWN


_KNOWN = (squared, optax.l2_loss, absolute, huber, pseudo_huber, log_cosh, quantile, cauchy, tukey)


class Kind(enum.Enum):
    """What a loss is, which decides how it is fitted."""

    SQUARED = enum.auto()
    """½r²: least squares."""
    ROBUST = enum.auto()
    """Any other function of the residual, r²/2 near zero."""
    LINEAR_PROGRAM = enum.auto()
    """Straight on both sides of zero: without a curvature anywhere."""
    LIKELIHOOD = enum.auto()
    """Of the prediction and the target, not of their difference alone."""


def kind_of(loss: Callable[..., Array] | None) -> Kind:
    """What a loss is, whatever is bound to it; None and optax's ½r² are the squared one.

    >>> from jaxreg.likelihoods import poisson
    >>> kind_of(functools.partial(quantile, q=0.1)), kind_of(optax.l2_loss), kind_of(poisson)
    (<Kind.LINEAR_PROGRAM: 3>, <Kind.SQUARED: 1>, <Kind.LIKELIHOOD: 4>)
    """
    while isinstance(loss, functools.partial | _Elementwise):
        loss = loss.func if isinstance(loss, functools.partial) else loss.fn
    return Kind.LIKELIHOOD if isinstance(loss, Likelihood) else _KINDS.get(loss, Kind.ROBUST)


_KINDS: dict[Any, Kind] = {
    None: Kind.SQUARED,
    squared: Kind.SQUARED,
    optax.l2_loss: Kind.SQUARED,
    absolute: Kind.LINEAR_PROGRAM,
    quantile: Kind.LINEAR_PROGRAM,
}
