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


def exponential(*, offset: bool = False) -> Model:
    """An exponential decay: y = amplitude·exp(-rate·x) [+ offset].

    Args:
        offset: whether there is a level that it decays to.

    Returns:
        Model with params ``{"amplitude": (), "rate": ()[, "offset": ()]}``, the amplitude and offset in units of y and
        the rate in those of 1/x, and x (n,). It starts at ones (offset zero); guess takes the rate from y' = -rate·(y -
        offset), integrated, and then amplitude and offset by least squares.

    Source: J. Jacquelin, Régressions et équations intégrales (2009), for the guess.

    >>> x = jnp.linspace(0.0, 2.0, 50)
    >>> guess = exponential().guess(x, 3.0 * jnp.exp(-1.5 * x))
    >>> print(f"{guess['amplitude']:.2f} {guess['rate']:.2f}")
    3.00 1.50
    """

    def init(key: Array) -> Params:
        del key
        return _with_offset({"amplitude": jnp.ones(()), "rate": jnp.ones(())}, jnp.zeros(()), offset)

    def apply(params: Params, x: Array) -> Array:
        decayed = params["amplitude"] * jnp.exp(-params["rate"] * x)
        return decayed + params["offset"] if offset else decayed

    def guess(x: Array, y: Array) -> Params:
        order = jnp.argsort(x)
        first, x, y = x[order[0]], x[order] - x[order[0]], y[order]
        area = jnp.concatenate([jnp.zeros(1, y.dtype), jnp.cumsum(jnp.diff(x) * (y[1:] + y[:-1]) / 2)])
        # y - y₀ = -rate·∫y [+ rate·offset·x]; y₀ is a parameter too, because its noise would be everyone's.
        columns = [area, jnp.ones_like(y), *([x] if offset else [])]
        rate = -_least_squares(columns, y)[0]
        # From the last point backwards where it grows, so that the exponential does not overflow.
        origin = jnp.where(rate < 0, x[-1], 0)
        shape = jnp.exp(-rate * (x - origin))
        level = _least_squares([shape, jnp.ones_like(y)] if offset else [shape], y)
        amplitude = level[0] * jnp.exp(rate * (first + origin))
        return _with_offset({"amplitude": amplitude, "rate": rate}, level[-1], offset)

    return Model(init, apply, guess)


def gaussian(*, offset: bool = False) -> Model:
    """A Gaussian peak (or dip): y = amplitude·exp(-((x - center)/width)²/2) [+ offset].

    Args:
        offset: whether there is a level that it stands on.

    Returns:
        Model with params ``{"amplitude": (), "center": (), "width": ()[, "offset": ()]}``, amplitude and offset in
        units of y, center and width (the standard deviation) in those of x, and x (n,). It starts at amplitude 1,
        center 0, width 1, offset 0; guess takes the highest point (or the lowest, if that is further from the level),
        and the width from how far y is over half of that.

    >>> x = jnp.linspace(-5.0, 5.0, 101)
    >>> peak = {"amplitude": jnp.array(2.0), "center": jnp.array(0.5), "width": jnp.array(1.0)}
    >>> guess = gaussian().guess(x, gaussian().apply(peak, x))
    >>> print(f"{guess['amplitude']:.1f} {guess['center']:.1f} {guess['width']:.1f}")
    2.0 0.5 1.0
    """

    def init(key: Array) -> Params:
        del key
        one, zero = jnp.ones(()), jnp.zeros(())
        return _with_offset({"amplitude": one, "center": zero, "width": one}, zero, offset)

    def apply(params: Params, x: Array) -> Array:
        peak = params["amplitude"] * jnp.exp(-(((x - params["center"]) / params["width"]) ** 2) / 2)
        return peak + params["offset"] if offset else peak

    def guess(x: Array, y: Array) -> Params:
        order = jnp.argsort(x)
        x, y = x[order], y[order]
        low, middle, high = jnp.min(y), jnp.median(y), jnp.max(y)
        up = high - middle > middle - low if offset else high > -low
        level = jnp.where(up, low, high) if offset else jnp.zeros((), y.dtype)
        amplitude = jnp.where(up, high, low) - level
        over = (y - level) / jnp.where(amplitude == 0, 1, amplitude) > 0.5
        spacing = jnp.diff(x, append=2 * x[-1:] - x[-2:-1])
        width = jnp.sum(jnp.where(over, spacing, 0)) / _FULL_WIDTH
        params = {"amplitude": amplitude, "center": x[jnp.argmax(jnp.where(up, y, -y))], "width": width}
        return _with_offset(params, level, offset)

    return Model(init, apply, guess)


_FULL_WIDTH = 2.3548200450309493  # at half maximum, in standard deviations: 2√(2 log 2)


def _with_offset(params: Params, level: Array, offset: bool) -> Params:
    return {**params, "offset": level} if offset else params


def _least_squares(columns: list[Array], y: Array) -> Array:
    """Coefficients of the columns, each scaled to a largest value of 1, so that units do not matter."""
    design = jnp.stack(columns, axis=1)
    largest = jnp.max(jnp.abs(design), axis=0)
    scale = jnp.where(largest > 0, largest, 1)
    return jnp.linalg.lstsq(design / scale[None], y)[0] / scale


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
