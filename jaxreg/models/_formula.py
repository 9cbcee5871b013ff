"""Models from formulas as text."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg import _checks
from jaxreg._linear_algebra import least_squares
from jaxreg.models import _expressions
from jaxreg.models._model import Model, Params, picklable


def expression(
    text: str,
    *,
    independent: str | Sequence[str] = "x",
    parameters: Sequence[str] | None = None,
    constants: Mapping[str, float] | None = None,
) -> Model:
    """A model from a formula as text, such as "a*exp(-b*x) + c". The same text gives the same object.

    Arithmetic (``+ - * / **``, round or square brackets, any number of lines) and the usual functions: exp, log, sqrt,
    sin, arctan, erf and the like. The text is parsed, never run, so it may come from a stranger.

    Args:
        text: the formula.
        independent: the name of the variable, or several for x (n, d), one for each column.
        parameters: the names of the parameters, to refuse any other; None takes all names that are left.
        constants: name -> number, beside pi and e.

    Returns:
        Model with params ``{name: ()}`` and x (n,), or (n, d) where several variables are named. It starts at ones.
        Where the text is a sum of parameters times what is free of them, features are given and guess is least squares.

    Raises:
        ValueError: naming what is refused and its position.

    >>> model = expression("a*exp(-b*x)")
    >>> model.apply({"a": 2.0, "b": 0.0}, jnp.array([0.0, 1.0]))
    Array([2., 2.], dtype=float32)
    >>> expression("a*exq(-b*x)", parameters=("a", "b"))
    Traceback (most recent call last):
        ...
    ValueError: the expression's functions must be exp, ..., got exq at position 3 of 'a*exq(-b*x)'
    """
    variables = (independent,) if isinstance(independent, str) else tuple(independent)
    allowed = None if parameters is None else tuple(parameters)
    return _expression(text, variables, allowed, tuple(sorted((constants or {}).items())))


def expression_names(text: str) -> tuple[str, ...]:
    """All names in a formula but those of functions, in their order: variables, parameters and constants.

    >>> expression_names("a*exp(-t/tau)")
    ('a', 't', 'tau')
    """
    return _expressions.names(text)


@picklable
def _expression(
    text: str,
    variables: tuple[str, ...] = ("x",),
    allowed: tuple[str, ...] | None = None,
    constants: tuple[tuple[str, float], ...] = (),
) -> Model:
    formula = _expressions.parse(text, independent=variables, parameters=allowed, constants=dict(constants))
    names = formula.parameters
    _checks.count("the number of parameters in the expression", len(names), least=1)

    def init(key: Array) -> Params:
        del key
        return {name: jnp.ones(()) for name in names}

    def apply(params: Params, x: Array) -> Array:
        if not isinstance(params, Mapping) or set(params) != set(names):
            kind = "an array" if isinstance(params, Array) else type(params).__name__
            got = ", ".join(map(str, params)) if isinstance(params, Mapping) else kind
            raise ValueError(f"params must be a dict of {', '.join(names)}, got {got}")
        if len(variables) == 1 and jnp.ndim(x) != 1:
            raise ValueError(f"x must have shape (n,), got {jnp.shape(x)}")
        if len(variables) > 1 and (jnp.ndim(x) != 2 or jnp.shape(x)[1] != len(variables)):
            raise ValueError(f"x must have shape (n, {len(variables)}), got {jnp.shape(x)}")
        columns = x if jnp.ndim(x) == 2 else x[:, None]
        values = {name: columns[:, index] for index, name in enumerate(variables)}
        return jnp.broadcast_to(formula.evaluate({**params, **values}), jnp.shape(x)[:1])

    def features(x: Array) -> Array:
        zeros = {name: jnp.zeros((), x.dtype) for name in sorted(names)}
        return jnp.stack(jax.tree.leaves(jax.jacfwd(apply)(zeros, x)), axis=1)

    def guess(x: Array, y: Array) -> Params:
        return dict(zip(sorted(names), least_squares(features(x).T, y), strict=True))

    # Every function that a text can call is elementwise.
    model = Model(init, apply, rowwise=True)
    return model._replace(guess=guess, features=features) if formula.linear else model
