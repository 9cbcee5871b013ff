"""The bootstrap: the spread of the parameters over refits of resampled data."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from jaxreg import _checks, _trace
from jaxreg.least_squares import CurveFit, curve_fit
from jaxreg.models import Apply, Model, Params, apply_of
from jaxreg.objective import Loss
from jaxreg.status import Status
from jaxreg.uncertainty._held import fixed_of

KINDS = ("pairs", "residual", "parametric")


class Bootstrap(NamedTuple):
    """Refits of resampled data.

    Attributes:
        params: like the fit's, with a leading axis (num,); NaN where a refit failed.
        stderr: shaped like params: the standard deviation over the refits that did not.
        lower: shaped like params, their quantile at (1 - level)/2.
        upper: shaped like params, their quantile at (1 + level)/2.
        status: (num,), of each refit.
    """

    params: Params
    stderr: Params
    lower: Params
    upper: Params
    status: Array


def bootstrap(
    key: Array,
    model: Model | Apply,
    x: ArrayLike,
    y: ArrayLike,
    fit: CurveFit,
    *,
    kind: str = "pairs",
    num: int = 1000,
    sigma: ArrayLike | None = None,
    absolute_sigma: bool = False,
    bounds: tuple[Any, Any] | None = None,
    fixed: Params | None = None,
    loss: str | Loss = "squared",
    scale: str | None = None,
    level: ArrayLike = 0.95,
    batch_size: int = 250,
    max_steps: int = 5000,
) -> Bootstrap:
    """Refit resampled data: standard errors and percentile intervals that do not rest on the covariance.

    Args:
        key: PRNG key.
        model: as given to ``curve_fit``, and so are x, y, sigma, absolute_sigma, bounds, fixed, loss and scale; points
            that a mask took out must be left out.
        fit: the result; each refit starts at it.
        kind: "pairs" draws the points (x, y, sigma) with replacement, right also where the errors' variance varies in
            an unknown way; "residual" keeps x and sigma and draws the residuals in units of sigma, raised by
            1/√(1 - leverage) and centred; "parametric" adds normal noise of the standard deviation sigma, if absolute,
            or else sigma·√(chi2/dof), to the fitted curve.
        num: refits, static.
        level: of the percentile intervals.
        batch_size: refits at once, static: bounds memory.
        max_steps: budget of each refit, static.

    Returns:
        Bootstrap.

    Source: A. C. Davison and D. V. Hinkley, Bootstrap Methods and their Application (1997), sections 6.2 and 7.

    >>> import jaxreg
    >>> x = jnp.arange(5.0)
    >>> y = jnp.array([0.0, 1.1, 1.9, 3.1, 3.9])
    >>> fit = jaxreg.curve_fit(jaxreg.models.ohm(), x, y)
    >>> found = bootstrap(jax.random.key(0), jaxreg.models.ohm(), x, y, fit, kind="residual", num=200)
    >>> print(f"{found.stderr['resistance']:.2f}, {fit.stderr['resistance']:.2f} by the covariance")
    0.02, 0.02 by the covariance
    """
    _checks.one_of("kind", kind, KINDS)
    num = _checks.count("num", num, least=2)
    batch_size = _checks.count("batch_size", batch_size, least=1)
    x, y = jnp.asarray(x), jnp.asarray(y)
    num_rows = _checks.rows(x, y)
    if sigma is not None and jnp.ndim(sigma) > 1:
        raise ValueError(f"sigma must be a scalar or of shape {(num_rows,)}, got {jnp.shape(sigma)}")
    spread = None if sigma is None else jnp.broadcast_to(jnp.asarray(sigma, y.dtype), y.shape)
    run = _run_compiled if _trace.at_top_level() else _run
    options: dict[str, Any] = {"absolute_sigma": absolute_sigma, "loss": loss, "scale": scale, "max_steps": max_steps}
    statics: dict[str, Any] = {"model": model, "num": num, "batch_size": batch_size}
    statics["options"] = tuple(options.items())
    held, index = fixed_of(fit, fixed), jnp.int32(KINDS.index(kind))
    return run(key, x, y, spread, fit, jnp.asarray(level), bounds, index, held=held, **statics)


def _run(
    key: Array,
    x: Array,
    y: Array,
    sigma: Array | None,
    fit: CurveFit,
    level: Array,
    bounds: tuple[Any, Any] | None,
    kind: Array,
    *,
    model: Model | Apply,
    num: int,
    batch_size: int,
    held: tuple[bool, ...] | None,
    options: tuple[tuple[str, Any], ...],
) -> Bootstrap:
    unit = jnp.ones_like(y) if sigma is None else sigma
    curve = apply_of(model)(fit.params, x)
    residual = _standardised(model, x, fit, unit, held)
    fixed = None if held is None else _shaped_like(fit.params, held)
    noise = unit if dict(options)["absolute_sigma"] else unit * jnp.sqrt(fit.chi2 / fit.dof)

    def one(key: Array) -> tuple[Params, Array]:
        key_rows, key_noise = jax.random.split(key)
        drawn = jax.random.randint(key_rows, y.shape, 0, y.size)
        pairs = kind == KINDS.index("pairs")
        rows = jnp.where(pairs, drawn, jnp.arange(y.size))
        normal = noise * jax.random.normal(key_noise, y.shape, y.dtype)
        error = jnp.where(kind == KINDS.index("residual"), unit * residual[drawn], normal)
        drawn_sigma = None if sigma is None else sigma[rows]
        target = jnp.where(pairs, y[rows], curve + error)
        refit = curve_fit(
            model, x[rows], target, fit.params, sigma=drawn_sigma, bounds=bounds, fixed=fixed, **dict(options)
        )
        good = refit.status == Status.OK
        return jax.tree.map(lambda leaf: jnp.where(good, leaf, jnp.nan), refit.params), refit.status

    params, status = jax.lax.map(one, jax.random.split(key, num), batch_size=min(batch_size, num))
    ends = jnp.stack([(1 - level) / 2, (1 + level) / 2])
    quantiles = jax.tree.map(lambda leaf: jnp.nanquantile(leaf, ends.astype(leaf.dtype), axis=0), params)
    return Bootstrap(
        params=params,
        stderr=jax.tree.map(lambda leaf: jnp.nanstd(leaf, axis=0, ddof=1), params),
        lower=jax.tree.map(lambda leaf: leaf[0], quantiles),
        upper=jax.tree.map(lambda leaf: leaf[1], quantiles),
        status=status,
    )


_run_compiled = jax.jit(_run, static_argnames=("model", "num", "batch_size", "held", "options"))


def _standardised(model: Model | Apply, x: Array, fit: CurveFit, unit: Array, held: tuple[bool, ...] | None) -> Array:
    """Residuals in sigmas of the same variance each, r/√(1 - leverage), centred."""
    flat, unravel = ravel_pytree(fit.params)
    jacobian = jax.jacfwd(lambda free: apply_of(model)(unravel(free), x) / unit)(flat)
    if held is not None:
        jacobian = jacobian[:, ~np.asarray(held)]
    norms = jnp.linalg.norm(jacobian, axis=0)
    q, _ = jnp.linalg.qr(jacobian / jnp.where(norms > 0, norms, 1)[None])
    leverage = jnp.clip(jnp.sum(q**2, axis=1), 0, 1 - jnp.sqrt(jnp.finfo(flat.dtype).eps))
    residual = fit.residuals / unit / jnp.sqrt(1 - leverage)
    return residual - residual.mean()


def _shaped_like(params: Params, flat: tuple[bool, ...]) -> Params:
    leaves, structure = jax.tree.flatten(params)
    parts = np.split(np.asarray(flat), np.cumsum([leaf.size for leaf in leaves])[:-1])
    return jax.tree.unflatten(structure, [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)])
