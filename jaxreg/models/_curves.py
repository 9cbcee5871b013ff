"""Curves that instruments see: a decay, a peak."""

import jax.numpy as jnp
from jax import Array

from jaxreg import _checks
from jaxreg._linear_algebra import least_squares
from jaxreg.models._model import Model, Params, picklable


@picklable
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
    offset = _checks.flag("offset", offset)

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
        rate = -least_squares(jnp.stack(columns), y)[0]
        # From the last point backwards where it grows, so that the exponential does not overflow.
        origin = jnp.where(rate < 0, x[-1], 0)
        shape = jnp.exp(-rate * (x - origin))
        level = least_squares(jnp.stack([shape, jnp.ones_like(y)] if offset else [shape]), y)
        amplitude = level[0] * jnp.exp(rate * (first + origin))
        return _with_offset({"amplitude": amplitude, "rate": rate}, level[-1], offset)

    return Model(init, apply, guess, rowwise=True)


@picklable
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
    offset = _checks.flag("offset", offset)

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

    return Model(init, apply, guess, rowwise=True)


_FULL_WIDTH = 2.3548200450309493  # at half maximum, in standard deviations: 2√(2 log 2)


def _with_offset(params: Params, level: Array, offset: bool) -> Params:
    return {**params, "offset": level} if offset else params
