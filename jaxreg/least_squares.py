"""Nonlinear least squares: ``curve_fit``, a Levenberg-Marquardt solver with exact derivatives and honest errors."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.scipy.linalg import solve_triangular
from jax.typing import ArrayLike

from jaxreg import _checks, _trace
from jaxreg.models import Apply, Model, Params, apply_of
from jaxreg.status import Status


class CurveFit(NamedTuple):
    """The result of ``curve_fit``.

    Attributes:
        params: the estimate, shaped like p0, in the widest dtype of p0, x and y.
        stderr: standard errors, shaped like p0: square roots of the covariance's diagonal.
        covariance: (p, p) in ravel_pytree order (a dict is sorted by its keys); infinite where the data do not
            determine it.
        residuals: (n,), y - model, unweighted, in units of y.
        chi2: scalar, Σ (residual/sigma)².
        dof: degrees of freedom, n - p.
        status: int32 scalar, a ``Status``: OK, MAX_STEPS, NONFINITE, SINGULAR or INVALID_INPUT.
        num_steps: int32 scalar, the steps tried.
    """

    params: Params
    stderr: Params
    covariance: Array
    residuals: Array
    chi2: Array
    dof: Array
    status: Array
    num_steps: Array


def curve_fit(
    model: Model | Apply,
    x: ArrayLike,
    y: ArrayLike,
    p0: Params | None = None,
    *,
    sigma: ArrayLike | None = None,
    absolute_sigma: bool = False,
    max_steps: int = 5000,
) -> CurveFit:
    """Fit a model by least squares: minimise Σ ((y - model)/sigma)², with standard errors.

    Pure: jit, vmap and grad go through it (the gradient by the implicit function theorem). Steps are damped
    Gauss-Newton steps by QR, scaled by the running maximum of the Jacobian's column norms, with geodesic acceleration;
    it stops when the next step would decrease chi2 by less than 1e-20 of it (or than rounding can show). Called at the
    top level it is compiled once for the same model object and shapes. Use float64
    (``jax.config.update("jax_enable_x64", True)``) where more than three or four digits are wanted.

    Args:
        model: a Model, or ``f(params, x) -> (n,)``.
        x: (n,) or (n, d), features.
        y: (n,), targets.
        p0: the start, any pytree of floats; None where the model can guess it from the data.
        sigma: standard deviation of y in its units, a scalar or (n,), positive; None for ones.
        absolute_sigma: True takes sigma as it is; False scales the covariance by chi2/dof, so that only the ratios of
            the sigmas count (and the covariance is infinite where dof is 0).
        max_steps: budget of steps tried, static.

    Returns:
        CurveFit.

    Raises:
        ValueError: for shapes that do not fit, integers, fewer points than parameters, a missing start, and sigma ≤ 0
            (INVALID_INPUT under a trace).

    Source: K. Levenberg, Quarterly of Applied Mathematics 2 (1944) 164; J. J. Moré, Lecture Notes in Mathematics 630
    (1978) 105, for the scaling; H. B. Nielsen, report IMM-REP-1999-05, for the damping; M. K. Transtrum and
    J. P. Sethna, arXiv:1201.5885 (2012), for the acceleration; D. M. Bates and D. G. Watts, Technometrics 23 (1981)
    179, for the stopping rule.

    >>> x = jnp.linspace(0.0, 1.0, 50)
    >>> y = 2.0 * jnp.exp(-3.0 * x) + 0.01 * jax.random.normal(jax.random.key(0), (50,))
    >>> fit = curve_fit(lambda p, x: p["a"] * jnp.exp(-p["k"] * x), x, y, {"a": 1.0, "k": 1.0})
    >>> print(f"{fit.params['k']:.2f} ± {fit.stderr['k']:.2f}", Status(int(fit.status)).name)
    3.01 ± 0.01 OK
    """
    _warn_if_narrowed(x, y, p0, sigma)
    x, y = jnp.asarray(x), jnp.asarray(y)
    num_rows = _checks.rows(x, y)
    max_steps = _checks.count("max_steps", max_steps, least=0)
    if p0 is None:
        if not isinstance(model, Model) or model.guess is None:
            raise ValueError("p0 must be given where the model has no guess")
        p0 = model.guess(x, y)
    _checks.params("p0", p0)
    dtype = jnp.result_type(x, y, *(jnp.asarray(leaf).dtype for leaf in jax.tree.leaves(p0)))
    p0 = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), p0)
    num_params = ravel_pytree(p0)[0].size
    if num_params > num_rows:
        raise ValueError(f"y must have at least as many points as there are parameters, {num_params}, got {num_rows}")
    if sigma is not None:
        _checks.floating("sigma", sigma)
    sigma = jnp.asarray(1.0 if sigma is None else sigma, y.dtype)
    if sigma.ndim:
        _checks.shape("sigma", sigma, (num_rows,))
    valid = _checks.valid("sigma", sigma, (sigma > 0) & jnp.isfinite(sigma), "positive and finite")

    run = _run_compiled if _trace.at_top_level() else _run
    return run(p0, x, y, sigma, valid, model=model, absolute_sigma=absolute_sigma, max_steps=max_steps)


def _run(
    p0: Params,
    x: Array,
    y: Array,
    sigma: Array,
    valid: Array,
    *,
    model: Model | Apply,
    absolute_sigma: bool,
    max_steps: int,
) -> CurveFit:
    apply = apply_of(model)
    start, unravel = ravel_pytree(p0)

    def residual(flat: Array) -> Array:
        prediction = apply(unravel(flat), x)
        _checks.shape("the model's prediction", prediction, y.shape)
        return (prediction - y) / sigma

    def solve(_: Any, start: Array) -> tuple[Array, tuple[Array, Array]]:
        flat, outcome = _levenberg_marquardt(residual, start, jnp.linalg.norm(y / sigma), valid, max_steps)
        return flat, jax.tree.map(lambda count: count.astype(flat.dtype), outcome)  # custom_root takes only floats

    def newton(slope: Callable[[Array], Array], rhs: Array) -> Array:
        return jnp.linalg.solve(jax.vmap(slope, out_axes=1)(jnp.eye(rhs.size, dtype=rhs.dtype)), rhs)

    # At the optimum the gradient of chi2 is zero; custom_root differentiates through that equation, not the iterations.
    half_gradient = jax.grad(lambda flat: 0.5 * jnp.sum(residual(flat) ** 2))
    flat, outcome = jax.lax.custom_root(half_gradient, start, solve, newton, has_aux=True)
    status, num_steps = jax.tree.map(lambda count: count.astype(jnp.int32), outcome)

    weighted = residual(flat)
    chi2 = jnp.vdot(weighted, weighted)
    dof = y.size - flat.size
    covariance, regular = _covariance(jax.jacfwd(residual)(flat))
    if not absolute_sigma:
        variance = chi2 / dof if dof else jnp.inf
        covariance = jnp.where(regular, covariance, 1) * jnp.where(regular, variance, jnp.inf)
    status = jnp.where((status == Status.OK) & ~regular, jnp.int32(Status.SINGULAR), status)
    return CurveFit(
        params=unravel(flat),
        stderr=unravel(jnp.sqrt(jnp.diagonal(covariance))),
        covariance=covariance,
        residuals=y - apply(unravel(flat), x),
        chi2=chi2,
        dof=jnp.asarray(dof, jnp.int32),
        status=status,
        num_steps=num_steps,
    )


_run_compiled = jax.jit(_run, static_argnames=("model", "absolute_sigma", "max_steps"))


class _State(NamedTuple):
    params: Array  # (p,)
    residual: Array  # (n,), weighted
    jacobian: Array  # (n, p), weighted
    scale: Array  # (p,), running maximum of the Jacobian's column norms
    damping: Array
    growth: Array  # the factor of the damping at the next rejection
    last_decrease: Array  # the predicted decrease of the last step below the rounding floor
    stalled: Array  # such steps that did not halve it
    converged: Array
    num_steps: Array


_FIRST_DAMPING = 1e-3  # relative to the scaled system
_RELATIVE_OFFSET = 1e-10  # of the residual's length
_LEAST_GAIN = 1e-4
_MOST_ACCELERATION = 0.3
_MOST_STALLED = 3


def _levenberg_marquardt(
    residual: Callable[[Array], Array], start: Array, size: Array, valid: Array, max_steps: int
) -> tuple[Array, tuple[Array, Array]]:
    """Minimise ‖residual‖² from a start; ``size`` is the length of the weighted targets, for the rounding floor."""

    def linearise(params: Array) -> tuple[Array, Array]:
        return residual(params), jax.jacfwd(residual)(params)

    def finite(values: Array, jacobian: Array) -> Array:
        return jnp.isfinite(values).all() & jnp.isfinite(jacobian).all()

    def going(state: _State) -> Array:
        return startable & ~state.converged & (state.num_steps < max_steps)

    def body(state: _State) -> _State:
        params, values, jacobian = state.params, state.residual, state.jacobian
        scale = jnp.where(state.scale > 0, state.scale, 1)
        solve = _damped_solver(jacobian / scale[None], state.damping)
        velocity = solve(-values)
        decrease = jnp.sum((jacobian @ (velocity / scale)) ** 2) + 2 * state.damping * jnp.sum(velocity**2)

        cost = jnp.vdot(values, values)
        columns = jnp.linalg.norm(jacobian, axis=0)
        eps = jnp.finfo(cost.dtype).eps
        floor = 4 * eps * (cost + jnp.sqrt(cost) * (size + jnp.vdot(jnp.abs(params), columns)))
        below = decrease <= floor  # then the costs of two points can no longer be compared, and the model decides
        small = (decrease <= _RELATIVE_OFFSET**2 * cost) & (state.damping <= _FIRST_DAMPING)

        direction = velocity / scale
        along = lambda point: jax.jvp(residual, (point,), (direction,))[1]  # noqa: E731
        acceleration = solve(-jax.jvp(along, (params,), (direction,))[1])
        straight = 2 * jnp.linalg.norm(acceleration) <= _MOST_ACCELERATION * jnp.linalg.norm(velocity)
        step = jnp.where(below, velocity, velocity + acceleration / 2) / scale

        trial = params + step
        trial_values, trial_jacobian = linearise(trial)
        gain = (cost - jnp.vdot(trial_values, trial_values)) / decrease
        gain = jnp.where(below, 1, gain)
        # Written so that a NaN rejects.
        accept = finite(trial_values, trial_jacobian) & (straight | below) & (gain > _LEAST_GAIN) & ~small
        shrink = jnp.maximum(1 / 3, 1 - (2 * gain - 1) ** 3)
        damping = jnp.where(accept, state.damping * shrink, state.damping * state.growth)
        stalled = state.stalled + (below & (decrease > 0.5 * state.last_decrease))
        norms = jnp.maximum(state.scale, jnp.linalg.norm(trial_jacobian, axis=0))
        return _State(
            params=jnp.where(accept, trial, params),
            residual=jnp.where(accept, trial_values, values),
            jacobian=jnp.where(accept, trial_jacobian, jacobian),
            scale=jnp.where(accept, norms, state.scale),
            damping=jnp.clip(damping, eps**2, 1 / eps**2),
            growth=jnp.where(accept, 2, 2 * state.growth),
            last_decrease=jnp.where(below, decrease, state.last_decrease),
            stalled=stalled,
            converged=small | ((stalled >= _MOST_STALLED) & (state.damping <= _FIRST_DAMPING)),
            num_steps=state.num_steps + 1,
        )

    values, jacobian = linearise(start)
    nonfinite = ~(finite(values, jacobian) & jnp.isfinite(start).all())
    startable = valid & ~nonfinite
    one = jnp.ones((), values.dtype)
    end = jax.lax.while_loop(
        going,
        body,
        _State(
            params=start,
            residual=values,
            jacobian=jacobian,
            scale=jnp.linalg.norm(jacobian, axis=0),
            damping=_FIRST_DAMPING * one,
            growth=2 * one,
            last_decrease=jnp.inf * one,
            stalled=jnp.zeros((), jnp.int32),
            converged=jnp.asarray(False),
            num_steps=jnp.zeros((), jnp.int32),
        ),
    )
    status = jnp.where(end.converged, Status.OK, Status.MAX_STEPS)
    status = jnp.where(nonfinite, Status.NONFINITE, status)
    status = jnp.where(valid, status, Status.INVALID_INPUT).astype(jnp.int32)
    return end.params, (status, end.num_steps)


def _damped_solver(jacobian: Array, damping: Array) -> Callable[[Array], Array]:
    """rhs -> argmin ‖J v - rhs‖² + damping·‖v‖², by a QR of J with √damping·I below it."""
    num_rows, num_params = jacobian.shape
    root = jnp.sqrt(damping) * jnp.eye(num_params, dtype=jacobian.dtype)
    q, r = jnp.linalg.qr(jnp.concatenate([jacobian, root]))
    return lambda rhs: solve_triangular(r, q[:num_rows].T @ rhs)


def _covariance(jacobian: Array) -> tuple[Array, Array]:
    """(JᵀJ)⁻¹ by a QR of the column-scaled J, and whether J has full rank; infinite if not."""
    norms = jnp.linalg.norm(jacobian, axis=0)
    scale = jnp.where(norms > 0, norms, 1)
    r = jnp.linalg.qr(jacobian / scale[None], mode="r")
    spectrum = jnp.linalg.svd(r, compute_uv=False)
    regular = spectrum[-1] > max(jacobian.shape) * jnp.finfo(r.dtype).eps * spectrum[0]
    identity = jnp.eye(r.shape[0], dtype=r.dtype)
    inverse = solve_triangular(jnp.where(regular, r, identity), identity) / scale[:, None]
    return jnp.where(regular, inverse @ inverse.T, jnp.inf), regular


def _warn_if_narrowed(*values: Any) -> None:
    doubles = (leaf for leaf in jax.tree.leaves(values) if isinstance(leaf, np.ndarray) and leaf.dtype == np.float64)
    if jnp.result_type(float) == jnp.float32 and any(True for _ in doubles):
        warnings.warn(
            "float64 arrays are fitted in float32, with 3 to 4 digits; for all digits call "
            'jax.config.update("jax_enable_x64", True) before the first array is made',
            stacklevel=3,
        )
