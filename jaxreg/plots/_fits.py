"""Figures of fits: the curve with its band, and the residuals."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike
from matplotlib.axes import Axes

from jaxreg.least_squares import CurveFit
from jaxreg.models import Apply, Model, apply_of
from jaxreg.plots._style import axes_or_new, finish, is_many, style


def curve(
    model: Model | Apply,
    fit: CurveFit,
    x: ArrayLike,
    y: ArrayLike,
    *,
    sigma: ArrayLike | None = None,
    xlabel: str = "x",
    ylabel: str = "y",
    ax: Axes | None = None,
) -> Axes:
    """Data, the fitted curve of one feature, and its 95 % confidence band from the covariance (first order).

    Args:
        model: the fitted model.
        fit: its ``curve_fit``.
        x: (n,).
        y: (n,).
        sigma: scalar or (n,), drawn as error bars.
        xlabel: with its unit.
        ylabel: with its unit.
    """
    ax = axes_or_new(ax)
    flat, unravel = ravel_pytree(fit.params)
    grid = jnp.linspace(jnp.min(jnp.asarray(x)), jnp.max(jnp.asarray(x)), 400)

    def predict(parameters: Array) -> Array:
        return apply_of(model)(unravel(parameters), grid)

    slope = jax.jacfwd(predict)(flat)
    half_width = 1.96 * jnp.sqrt(jnp.einsum("ni,ij,nj->n", slope, fit.covariance, slope))
    middle = predict(flat)
    ax.plot(grid, middle, **style(0), label="fit")
    band = {"color": style(1)["color"], "alpha": 0.4, "linewidth": 0}
    ax.fill_between(grid, middle - half_width, middle + half_width, label="95 % band", **band)
    # Few points are drawn large, over the curve; many small, below it.
    many = is_many(x)
    marker: dict[str, Any] = {
        "color": "gray" if many else "black",
        "markersize": 3 if many else 5,
        "zorder": 1 if many else 3,
    }
    if sigma is None:
        ax.plot(x, y, ".", label="data", rasterized=many, **marker)
    else:
        ax.errorbar(x, y, sigma, fmt=".", label="data ± σ", rasterized=many, **marker)
    return finish(ax, xlabel, ylabel)


def residuals(
    x: ArrayLike, residual: ArrayLike, sigma: ArrayLike, *, xlabel: str = "x", ax: Axes | None = None
) -> Axes:
    """Residuals in units of their standard deviation, with the ±2 band.

    Args:
        x: (n,).
        residual: (n,), y - model.
        sigma: scalar or (n,), in the same units.
        xlabel: with its unit.
    """
    ax = axes_or_new(ax)
    ax.axhspan(-2, 2, color="gray", alpha=0.15, linewidth=0)
    ax.axhline(0, color="gray", linewidth=1)
    values = np.asarray(residual) / np.asarray(sigma)
    ax.plot(x, values, ".", color=style(0)["color"], markersize=4, rasterized=is_many(x))
    return finish(ax, xlabel, "residual / σ", legend=False)
