"""What a model is: a pair of pure functions, or the second of them alone."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array

Params = Any
Apply = Callable[[Params, Array], Array]


class Model(NamedTuple):
    """A regression model: y = apply(params, x) + noise.

    Attributes:
        init: ``init(key) -> params``, any pytree of floating arrays.
        apply: ``apply(params, x) -> (n,)``.
        guess: ``guess(x, y) -> params``, a start for a fit from the data; None if there is none.
        features: ``features(x) -> (n, p)`` with apply(params, x) = features(x) @ ravel_pytree(params), for a model that
            is linear in its parameters; None says that it is not.
    """

    init: Callable[[Array], Params]
    apply: Apply
    guess: Callable[[Array, Array], Params] | None = None
    features: Callable[[Array], Array] | None = None


def apply_of(model: Model | Apply) -> Apply:
    """The prediction function of a model, or a plain function ``f(params, x)`` itself."""
    if isinstance(model, Model):
        return model.apply
    if not callable(model):
        raise ValueError(f"model must be a Model or a function f(params, x), got {type(model).__name__}")
    return model


@dataclasses.dataclass(frozen=True)
class _Positional:
    fn: Callable[..., Array]

    def __call__(self, params: Params, x: Array) -> Array:
        return self.fn(x, *params)


def positional(fn: Callable[..., Array]) -> Apply:
    """A model written as SciPy's are, ``fn(x, *params) -> (n,)``, as ``f(params, x)`` with a tuple of parameters.

    Two of one function are equal, so they make one compiled program.

    >>> import jax.numpy as jnp
    >>> positional(lambda x, slope, offset: slope * x + offset)((2.0, 1.0), jnp.array([0.0, 3.0]))
    Array([1., 7.], dtype=float32)
    """
    return _Positional(fn)
