"""Models of the exercises: a line, Ohm's law, Planck's law."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxreg import _checks
from jaxreg._linear_algebra import least_squares
from jaxreg.models._model import Model, Params, picklable


@picklable
def linear(num_features: int, *, bias: bool = True, scale: ArrayLike = 0.01) -> Model:
    """A line in d features: y = x·w + b.

    Args:
        num_features: d, static.
        bias: whether b is there.
        scale: standard deviation of the initial w; may be traced. The initial b is zero.

    Returns:
        Model with params ``{"w": (d,), "b": ()}`` (or ``{"w": (d,)}``) and x (n, d); guess is least squares. Its apply
            raises ValueError for params or x of other shapes.

    >>> model = linear(2)
    >>> params = {"w": jnp.array([2.0, -3.5]), "b": jnp.array(4.0)}
    >>> model.apply(params, jnp.array([[0.0, 0.0], [1.0, 1.0]]))
    Array([4. , 2.5], dtype=float32)
    """
    num_features = _checks.count("num_features", num_features, least=1)
    bias = _checks.flag("bias", bias)
    shapes = {"b": (), "w": (num_features,)} if bias else {"w": (num_features,)}

    def init(key: Array) -> Params:
        params = {"w": scale * jax.random.normal(key, (num_features,))}
        return {**params, "b": jnp.zeros(())} if bias else params

    def apply(params: Params, x: Array) -> Array:
        check_x(x)
        if jax.tree.map(jnp.shape, params) != shapes:
            raise ValueError(f"params must have the shapes {shapes}, got {jax.tree.map(jnp.shape, params)}")
        prediction = x @ params["w"]
        return prediction + params["b"] if bias else prediction

    def features(x: Array) -> Array:
        check_x(x)
        # ravel_pytree sorts a dict by its keys: b comes before w.
        return jnp.hstack([jnp.ones((x.shape[0], 1), x.dtype), x]) if bias else x

    def guess(x: Array, y: Array) -> Params:
        solution = least_squares(features(x).T, y)
        return {"b": solution[0], "w": solution[1:]} if bias else {"w": solution}

    def check_x(x: Array) -> None:
        if jnp.ndim(x) != 2 or jnp.shape(x)[1] != num_features:
            raise ValueError(f"x must have shape (n, {num_features}), got {jnp.shape(x)}")

    return Model(init, apply, guess, features, rowwise=True)


@picklable
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

    return Model(init, apply, guess, features, rowwise=True)


@picklable
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
    gain = _checks.flag("gain", gain)

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

    return Model(init, apply, guess, rowwise=True)


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
