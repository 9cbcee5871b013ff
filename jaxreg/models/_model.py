"""What a model is: a pair of pure functions, or the second of them alone."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg import _checks, _names

Settings = ParamSpec("Settings")

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
        rowwise: whether row i of the output depends on row i of x alone. Only then is training free to take the rows
            apart, which is faster: one by one, or by the statistics of their features.
    """

    init: Callable[[Array], Params]
    apply: Apply
    guess: Callable[[Array, Array], Params] | None = None
    features: Callable[[Array], Array] | None = None
    rowwise: bool = False


def apply_of(model: Model | Apply, *, is_complex: bool = False) -> Apply:
    """The prediction function of a model, or of a plain function ``f(params, x)``, that says what does not fit it.

    ``is_complex`` lets its output be complex.
    """
    apply = model.apply if isinstance(model, Model) else model
    if not callable(apply):
        remedy = ": models.expression makes one of a formula" if isinstance(model, str) else ""
        raise ValueError(f"model must be a Model or a function f(params, x), got {type(model).__name__}{remedy}")

    def predict(params: Params, x: Array) -> Array:
        try:
            prediction = _checks.traceable("model")(apply)(params, x)
            return _checks.array("the model's prediction", prediction, is_complex=is_complex)
        except KeyError as error:
            names = ", ".join(_names.of(params))
            raise ValueError(f"params must have {error}, which the model reads, got {names}") from error
        except (TypeError, IndexError, AttributeError) as error:
            signature = _unlike(apply)
            if signature is None and not _takes_x_first(apply, params, x):
                given = f"params of shapes {_names.shapes(params)} and x of {_names.shapes(x)}"
                if isinstance(params, Array):
                    raise ValueError(
                        f"p0 must be what the model reads, got one array: it was called with {given}"
                    ) from error
                error.add_note(f"The model was called as model(params, x), with {given}.")
                raise
            if signature is None:
                raise ValueError("model must be a function f(params, x), got one that takes x first") from error
            raise ValueError(
                f"model must be a function f(params, x), got one of {signature}: models.positional makes one of "
                "f(x, *params)"
            ) from error

    return predict


def _takes_x_first(apply: Apply, params: Params, x: Array) -> bool:
    """Whether a model that fails can be called with its two arguments the other way round."""
    try:
        jax.eval_shape(apply, x, params)
    except Exception:  # whatever it is, it is no model of that kind either
        return False
    return True


def _unlike(fn: Callable[..., Any]) -> str | None:
    """The signature of a function that cannot be called with two arguments."""
    try:
        signature = inspect.signature(fn)
    except ValueError:  # a builtin that does not tell
        return None
    try:
        signature.bind(None, None)
    except TypeError:
        return str(signature)
    return None


@dataclasses.dataclass(frozen=True)
class _Positional:
    fn: Callable[..., Array]
    names: tuple[str, ...] | None

    def __call__(self, params: Params, x: Array) -> Array:
        return self.fn(x, *(params if self.names is None else (params[name] for name in self.names)))


def positional(fn: Callable[..., Array], *, names: Sequence[str] | None = None) -> Apply:
    """A model written as SciPy's are, ``fn(x, *params) -> (n,)``, as ``f(params, x)`` with a tuple of parameters.

    Args:
        fn: the model.
        names: of its parameters in their order; then ``params`` is a dict, as problems that are added need it.

    Two of one function and names are equal, so they make one compiled program.

    >>> import jax.numpy as jnp
    >>> def line(x, slope, offset):
    ...     return slope * x + offset
    >>> positional(line)((2.0, 1.0), jnp.array([0.0, 3.0]))
    Array([1., 7.], dtype=float32)
    >>> positional(line, names=("slope", "offset"))({"slope": 2.0, "offset": 1.0}, jnp.array([0.0, 3.0]))
    Array([1., 7.], dtype=float32)
    """
    if isinstance(names, str):
        raise ValueError(f"names must be one for each parameter, as in ('slope', 'offset'), got {names!r}")
    return _Positional(fn, None if names is None else tuple(names))


@dataclasses.dataclass(frozen=True)
class _Rowwise:
    fn: Apply

    def __call__(self, params: Params, x: Array) -> Array:
        return self.fn(params, x)


class _Part(functools.partial[Any]):
    """A function of a model that is made by one of this package: pickled as how it is made, and then the same."""

    recipe: tuple[Any, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, self.recipe


def _made_again(make: Callable[..., Model], args: Any, keywords: dict[str, Any], name: str) -> Any:
    return getattr(make(*args, **keywords), name)


def picklable(make: Callable[Settings, Model]) -> Callable[Settings, Model]:
    """A function that makes models of plain settings: of the same settings the same model, which can be pickled."""

    @functools.lru_cache(maxsize=256, typed=True)
    def kept(*args: Any, **keywords: Any) -> Model:
        parts: dict[str, Any] = make(*args, **keywords)._asdict()
        for name, part in parts.items():
            if callable(part):
                parts[name] = _Part(part)
                parts[name].recipe = known, args, keywords, name
        return Model(**parts)

    @functools.wraps(make)
    def known(*args: Any, **keywords: Any) -> Model:
        try:
            return kept(*args, **keywords)
        except TypeError:  # an array among the settings
            return kept.__wrapped__(*args, **keywords)

    return known


Given = TypeVar("Given", bound=Model | Apply)


def rowwise(model: Given) -> Given:
    """The same model, saying that row i of its output depends on row i of x alone: sweeps of ``train`` are faster then.

    Args:
        model: ``f(params, x)`` or a Model. What takes a mean, a maximum or a cumulative sum over the rows of x is no
            such model: said of it all the same, it is trained to something else.

    Returns:
        A Model with ``rowwise=True``, or a function; two of one function are equal.

    >>> import jax.numpy as jnp
    >>> rowwise(lambda params, x: params["slope"] * x)({"slope": 2.0}, jnp.array([1.0, 3.0]))
    Array([2., 6.], dtype=float32)
    """
    marked: Any = model._replace(rowwise=True) if isinstance(model, Model) else _Rowwise(model)
    return marked


def is_rowwise(model: Model | Apply) -> bool:
    """Whether a model says that it takes each row of x for itself."""
    return model.rowwise or is_rowwise(model.apply) if isinstance(model, Model) else isinstance(model, _Rowwise)


def shown(params: Params) -> Params:
    """Parameters at which predictions depend on x: a 0 may hide all of it."""
    return jax.tree.map(lambda leaf: jnp.where(leaf == 0, 1, leaf), params)


def couples_rows(predict: Callable[[Any], Array], x: Any) -> Array:
    """Whether predictions depend on other points' x: every second point is moved, once these and once the others.

    Args:
        predict: of x alone.
        x: a pytree; of its leaves those that begin with the prediction's shape are moved, a part of the way to a point
            that stays, so that a model meets no x far from all that it knows.
    """
    still = predict(x)
    shape, size = still.shape, jnp.max(jnp.where(jnp.isfinite(still), jnp.abs(still), 0), initial=0)
    odd = (jnp.arange(still.size) % 2 == 1).reshape(shape)
    found = jnp.asarray(False)
    for moves, place in ((odd, 0), (~odd, 1)) if still.size > 1 else ():

        def moved(leaf: Array, moves: Array = moves, place: int = place) -> Array:
            if leaf.shape[: len(shape)] != shape or not jnp.issubdtype(leaf.dtype, jnp.inexact):
                return leaf
            own = leaf.shape[len(shape) :]
            there = leaf.reshape(still.size, *own)[place].reshape((1,) * len(shape) + own)
            moves = moves.reshape(shape + (1,) * len(own))
            return jnp.where(
                moves.reshape(shape + (1,) * (leaf.ndim - len(shape))), leaf + (there - leaf) * 0.375, leaf
            )

        change = jnp.abs(predict(jax.tree.map(moved, x)) - still)
        same = (change <= jnp.finfo(change.dtype).eps ** 0.75 * size) | moves | ~jnp.isfinite(still)
        found |= ~same.all()
    return found
