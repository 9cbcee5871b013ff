"""Models: y = apply(params, x) + noise, as pairs of pure functions.

One's own model is two functions, ``Model(init, apply)``; where the parameters are given, the function
``f(params, x) -> (n,)`` alone is enough.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxreg import _checks, _expressions

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


def linear(num_features: int, *, bias: bool = True, scale: ArrayLike = 0.01) -> Model:
    """A line in d features: y = x·w + b.

    Args:
        num_features: d, static.
        bias: whether b is there.
        scale: standard deviation of the initial w; may be traced. The initial b is zero.

    Returns:
        Model with params ``{"w": (d,), "b": ()}`` (or ``{"w": (d,)}``) and x (n, d); guess is least squares.

    >>> model = linear(2)
    >>> params = {"w": jnp.array([2.0, -3.5]), "b": jnp.array(4.0)}
    >>> model.apply(params, jnp.array([[0.0, 0.0], [1.0, 1.0]]))
    Array([4. , 2.5], dtype=float32)
    """
    num_features = _checks.count("num_features", num_features, least=1)

    def init(key: Array) -> Params:
        params = {"w": scale * jax.random.normal(key, (num_features,))}
        return {**params, "b": jnp.zeros(())} if bias else params

    def apply(params: Params, x: Array) -> Array:
        check_x(x)
        prediction = x @ params["w"]
        return prediction + params["b"] if bias else prediction

    def features(x: Array) -> Array:
        check_x(x)
        # ravel_pytree sorts a dict by its keys: b comes before w.
        return jnp.hstack([jnp.ones((x.shape[0], 1), x.dtype), x]) if bias else x

    def guess(x: Array, y: Array) -> Params:
        solution = jnp.linalg.lstsq(features(x), y)[0]
        return {"b": solution[0], "w": solution[1:]} if bias else {"w": solution}

    def check_x(x: Array) -> None:
        if jnp.ndim(x) != 2 or jnp.shape(x)[1] != num_features:
            raise ValueError(f"x must have shape (n, {num_features}), got {jnp.shape(x)}")

    return Model(init, apply, guess, features)


def ohm() -> Model:
    """Ohm's law: voltage = current · resistance.

    Returns:
        Model with params ``{"resistance": ()}`` in ohm and x (n,), the current in ampere. It starts at 1 ohm; guess is
        least squares, ΣIV / ΣI².

    >>> ohm().apply({"resistance": jnp.array(5.1)}, jnp.array([0.0, 2.0]))
    Array([ 0. , 10.2], dtype=float32)
    """

    def init(key: Array) -> Params:
        del key
        return {"resistance": jnp.ones(())}

    def apply(params: Params, current: Array) -> Array:
        return current * params["resistance"]

    def guess(current: Array, voltage: Array) -> Params:
        return {"resistance": jnp.vdot(current, voltage) / jnp.vdot(current, current)}

    def features(current: Array) -> Array:
        return current[:, None]

    return Model(init, apply, guess, features)


def planck(*, gain: bool = False, temperature: ArrayLike = 3000.0) -> Model:
    """A black body's spectral radiance in wavelength, times an unknown gain if asked: y = gain·B(λ, T).

    Args:
        gain: whether the gain of the instrument is a parameter too.
        temperature: the initial temperature in kelvin; may be traced. The initial gain is 1.

    Returns:
        Model with params ``{"temperature": ()[, "gain": ()]}`` in kelvin (the gain has no unit) and x (n,), the
        wavelength in metre; predictions in W/(m²·sr·m). guess takes the temperature from the spectrum's peak by Wien's
        displacement law and then the gain by least squares.

    >>> wavelength = 1e-9 * jnp.arange(300.0, 2000.0)
    >>> model = planck()
    >>> y = model.apply({"temperature": jnp.array(5020.0)}, wavelength)
    >>> print(f"{model.guess(wavelength, y)['temperature']:.0f}")
    5022
    """

    def init(key: Array) -> Params:
        del key
        params = {"temperature": jnp.asarray(temperature, dtype=jnp.result_type(float))}
        return {**params, "gain": jnp.ones(())} if gain else params

    def apply(params: Params, wavelength: Array) -> Array:
        radiance = planck_radiance(wavelength, params["temperature"])
        return params["gain"] * radiance if gain else radiance

    def guess(wavelength: Array, radiance: Array) -> Params:
        start = _WIEN / wavelength[jnp.argmax(radiance)]
        # A power of two near the largest value keeps the squares inside float32.
        unit = planck_radiance(wavelength, start)
        scale = jnp.max(jnp.abs(unit))
        unit = unit / scale
        params = {"temperature": start}
        return {**params, "gain": jnp.vdot(unit, radiance / scale) / jnp.vdot(unit, unit)} if gain else params

    return Model(init, apply, guess)


# The SI's exact constants (BIPM, The International System of Units, 9th ed., 2019).
PLANCK_CONSTANT = 6.62607015e-34  # J s
SPEED_OF_LIGHT = 299792458.0  # m/s
BOLTZMANN_CONSTANT = 1.380649e-23  # J/K
_FIRST_RADIATION = (2 * PLANCK_CONSTANT * SPEED_OF_LIGHT**2) ** 0.2  # fifth root of 2hc²
_SECOND_RADIATION = PLANCK_CONSTANT * SPEED_OF_LIGHT / BOLTZMANN_CONSTANT  # m K
_WIEN = _SECOND_RADIATION / 4.965114231744276  # m K; the root of x = 5(1 - exp(-x))


def planck_radiance(wavelength: ArrayLike, temperature: ArrayLike) -> Array:
    """Spectral radiance of a black body: B(λ, T) = 2hc²/λ⁵ / (exp(u) - 1) with u = hc/(λkT), in W/(m²·sr·m).

    Safe in float32. 1/(exp(u) - 1) is written exp(-u)/(-expm1(-u)), which neither overflows on Wien's side (large u)
    nor cancels on the Rayleigh-Jeans side (small u); and 2hc²/λ⁵·exp(-u) is the fifth power of (2hc²)^⅕/λ·exp(-u/5),
    because its factors leave the range of float32 where their product does not.

    Args:
        wavelength: λ in metre, any shape.
        temperature: T in kelvin, broadcast against it.

    Source: M. Planck, Annalen der Physik 309 (1901) 553.

    >>> print(f"{planck_radiance(5e-7, 5778.0):.3e}")
    2.638e+13
    """
    exponent = _SECOND_RADIATION / (wavelength * jnp.asarray(temperature))
    return (_FIRST_RADIATION / jnp.asarray(wavelength) * jnp.exp(-exponent / 5)) ** 5 / -jnp.expm1(-exponent)


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


@functools.lru_cache(maxsize=256)
def _expression(
    text: str, variables: tuple[str, ...], allowed: tuple[str, ...] | None, constants: tuple[tuple[str, float], ...]
) -> Model:
    formula = _expressions.parse(text, independent=variables, parameters=allowed, constants=dict(constants))
    names = formula.parameters
    _checks.count("the number of parameters in the expression", len(names), least=1)

    def init(key: Array) -> Params:
        del key
        return {name: jnp.ones(()) for name in names}

    def apply(params: Params, x: Array) -> Array:
        if not isinstance(params, Mapping) or set(params) != set(names):
            got = ", ".join(map(str, params)) if isinstance(params, Mapping) else type(params).__name__
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
        matrix = features(x)
        norms = jnp.linalg.norm(matrix, axis=0)
        scale = jnp.where(norms > 0, norms, 1)
        solution = jnp.linalg.lstsq(matrix / scale[None], y)[0] / scale
        return dict(zip(sorted(names), solution, strict=True))

    return Model(init, apply, guess, features) if formula.linear else Model(init, apply)


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

    >>> positional(lambda x, slope, offset: slope * x + offset)((2.0, 1.0), jnp.array([0.0, 3.0]))
    Array([1., 7.], dtype=float32)
    """
    return _Positional(fn)
