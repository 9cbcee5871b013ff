"""SciPy's call: ``curve_fit(f, xdata, ydata)`` as ``scipy.optimize`` has it, solved by this package in float64."""

import dataclasses
import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxreg import _checks, _jit, _names, covariance, least_squares, losses
from jaxreg._trace import at_top_level
from jaxreg.least_squares._flattening import flat_problem
from jaxreg.models._model import apply_of
from jaxreg.problems import Problem
from jaxreg.status import Status, culprit_of, is_optimum

_LOSSES = {"huber": losses.huber, "soft_l1": losses.soft_l1, "cauchy": losses.cauchy}
# How derivatives are differenced, steps scaled and stopped: what changes no optimum.
_TUNING = (
    "ftol", "xtol", "gtol", "epsfcn", "factor", "diag", "col_deriv", "x_scale", "diff_step", "tr_solver", "tr_options",
    "jac_sparsity", "verbose", "workers",
)  # fmt: skip
_REMEDIES = {
    **dict.fromkeys(
        ("args", "kwargs"), "f takes x and the parameters alone: define, once, one that calls it with more"
    ),
    "callback": "a compiled fit calls nothing back: maxfev bounds its steps, and infodict['nfev'] counts them",
}


class CovarianceWarning(UserWarning):
    """The data do not determine the parameters or the size of their errors: pcov is infinite."""


def curve_fit(
    f: Callable[..., Any],
    xdata: Any,
    ydata: Any,
    p0: Any = None,
    sigma: Any = None,
    absolute_sigma: bool = False,
    check_finite: bool | None = None,
    bounds: Any = (-np.inf, np.inf),
    method: str | None = None,
    jac: Any = None,
    *,
    full_output: bool = False,
    nan_policy: str | None = None,
    **kwargs: Any,
) -> tuple[Any, ...]:
    """Fit ``f(x, *params)`` by least squares with the signature of ``scipy.optimize.curve_fit``.

    Computed in float64, whatever the precision is outside, to all digits; for the host. The first call with a function
    object and shapes compiles it.

    Args:
        f: the model, ``f(x, a, b, …)`` of y's shape or a number, written with ``jax.numpy``.
        xdata: what f takes: a list, tuple or array becomes one float64 array; else any pytree of arrays, or None.
        ydata: (m,), or a number that f's values are all compared with.
        p0: (n,), the start; None for ones, where f names its parameters, or between the bounds.
        sigma: None, a number or (m,), the standard deviations; (m, m), the covariance, whose lower half is read.
        absolute_sigma: whether sigma is taken as it is; otherwise pcov is scaled by chi2/(m - n).
        check_finite: whether NaN and infinite data are refused; None for yes, unless nan_policy is given.
        bounds: (lower, upper), numbers or (n,), or an object with ``lb`` and ``ub``.
        method: "lm", "trf" or "dogbox" name one and the same method here; "lm" goes without bounds.
        jac: taken and ignored: the derivatives are f's own, exact.
        full_output: whether infodict, mesg and ier are returned too.
        nan_policy: None, "raise", or "omit", which leaves out points where x or y is NaN.
        kwargs: ``maxfev`` or ``max_nfev``, the budget of calls; ``loss``, one of "linear", "huber", "soft_l1" and
            "cauchy", with ``f_scale``, in units of sigma. What tunes steps and differences is taken and ignored: ftol,
            xtol, gtol, epsfcn, factor, diag, col_deriv, x_scale, diff_step, tr_solver, tr_options, jac_sparsity,
            verbose, workers. All else is refused.

    Returns:
        popt (n,) and pcov (n, n), NumPy's float64. pcov is SciPy's, s² (Σ ρ″ᵢ JᵢJᵢᵀ)⁻¹ with s² = 2·cost/(m - n) or 1:
        it knows of no bounds. With ``full_output`` also infodict (nfev, fvec = (f - y)/sigma, and but for "trf" and
        "dogbox" fjac, ipvt, qtf), mesg, and ier, SciPy's number for an end by ftol.

    Raises:
        ValueError: for data or a start that are not finite, an option that cannot be honoured, shapes that do not fit.
        TypeError: for more parameters than f takes, or than there are points, and for an unknown option.
        RuntimeError: without convergence within the budget.

    Warns:
        CovarianceWarning: where pcov is infinite, as nothing determines it.

    >>> import jax.numpy as jnp
    >>> def decay(x, amplitude, rate):
    ...     return amplitude * jnp.exp(-rate * x)
    >>> x = [0.0, 0.5, 1.0, 1.5, 2.0]
    >>> popt, pcov = curve_fit(decay, x, [3.03, 1.38, 0.68, 0.30, 0.16])
    >>> print(popt.dtype, popt.round(3), (pcov.diagonal() ** 0.5).round(3))
    float64 [3.023 1.529] [0.024 0.024]
    """
    if not at_top_level():
        raise ValueError("compat.curve_fit is for the host: under jit, vmap or grad take jaxreg.curve_fit")
    options = _options(kwargs)
    start, box = _start_and_bounds(f, p0, bounds)
    method = _checked_method(method, jac, box is not None)
    x, y, sigma = _data(xdata, ydata, sigma, check_finite, nan_policy)
    options |= {"bounds": box, "sigma": sigma, "absolute_sigma": bool(absolute_sigma)}
    with jax.enable_x64(True):
        fit = _fit(f, x, y, start, method, options)
        popt, pcov, rows = _numbers(fit, full_output)
        factors = _factors(*rows) if full_output and method == "lm" else {}

    mesg = "Converged: a further step would lower the cost by less than 1e-20 of it."
    if not np.isfinite(pcov).all():
        pcov = np.full(pcov.shape, np.inf)
        mesg = f"Covariance of the parameters could not be estimated: {_undetermined(fit)}"
        warnings.warn(mesg, CovarianceWarning, stacklevel=2)
    if not full_output:
        return popt, pcov
    info = {"nfev": int(fit.num_steps) + 1, "fvec": rows[0], **factors}
    return popt, pcov, info, mesg, 1 if method == "lm" else 2


@dataclasses.dataclass(frozen=True)
class _Model:
    """``f(x, *params)`` as a model; a number is a value for each point of that shape."""

    fn: Callable[..., Any]
    shape: tuple[int, ...] | None

    def __call__(self, params: Array, x: Any) -> Any:
        found = self.fn(x, *params)
        is_number = self.shape is not None and getattr(found, "size", 0) == 1
        return jnp.broadcast_to(found, self.shape) if is_number else found


def _checked_method(method: str | None, jac: Any, bounded: bool) -> str:
    method = method or ("trf" if bounded else "lm")
    _checks.one_of("method", method, ("lm", "trf", "dogbox"))
    if method == "lm" and bounded:
        raise ValueError("method 'lm' goes without bounds, got bounds: take 'trf' or 'dogbox'")
    if jac is not None and not callable(jac):
        _checks.one_of("jac", jac, ("2-point", "3-point", "cs"))
    return method


def _start_and_bounds(f: Any, p0: Any, bounds: Any) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray] | None]:
    """The start, and the box if any end of it is finite."""
    if not callable(f):
        raise TypeError(f"f must be a function f(x, a, b, …), got {type(f).__name__}: jaxreg.curve_fit takes a Model")
    signature = inspect.signature(f)
    if p0 is None:
        named = (one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in signature.parameters.values())
        size = sum(named) - 1
        if size < 1:
            raise ValueError("p0 must be given where f does not name its parameters, as in f(x, a, b), got None")
    else:
        p0 = np.asarray(p0, float).ravel()
        size = p0.size
        signature.bind(None, *p0)
    pair = (bounds.lb, bounds.ub) if hasattr(bounds, "lb") else bounds
    if len(pair) != 2 or any(np.shape(one) not in ((), (size,)) for one in pair):
        raise ValueError(f"bounds must be (lower, upper), each a number or of shape ({size},), got {bounds!r}")
    lower, upper = (np.broadcast_to(np.asarray(one, float), (size,)) for one in pair)
    if not (lower < upper).all():
        raise ValueError(f"bounds must be in order, lower < upper, got {lower} and {upper}")
    ends = np.isfinite(lower), np.isfinite(upper)
    bounded = bool(np.any(ends))
    if p0 is None and bounded:
        low, high = (np.where(end, one, 0) for end, one in zip(ends, (lower, upper), strict=True))
        p0 = np.select([ends[0] & ends[1], *ends], [(low + high) / 2, low + 1, high - 1], 1.0)
    p0 = np.ones(size) if p0 is None else p0
    if bounded and ((p0 < lower) | (p0 > upper)).any():
        raise ValueError(f"Initial guess is outside of provided bounds: p0 {p0} is not between {lower} and {upper}")
    return p0, (lower, upper) if bounded else None


def _data(x: Any, y: Any, sigma: Any, check_finite: bool | None, nan_policy: str | None) -> tuple[Any, np.ndarray, Any]:
    """x, y and sigma in float64, without what is to be left out."""
    if check_finite is None:
        check_finite = nan_policy is None
    read = np.asarray_chkfinite if check_finite else np.asarray
    y = read(y, float)
    if isinstance(x, list | tuple | np.ndarray | jax.Array):
        x = read(x, float)
    if y.size == 0:
        raise ValueError(f"ydata must have at least one point, got shape {y.shape}")
    if sigma is not None:
        sigma = np.asarray(sigma, float)
        sigma = sigma.reshape(()) if sigma.size == 1 else sigma
    if not check_finite and nan_policy is not None:
        x, y, sigma = _without_nan(x, y, sigma, nan_policy)
    if np.ndim(sigma) == 2 and sigma.shape == (y.size, y.size):
        sigma = np.tril(sigma) + np.tril(sigma, -1).T
    return x, y, sigma


def _without_nan(x: Any, y: np.ndarray, sigma: Any, policy: str) -> tuple[Any, np.ndarray, Any]:
    if policy not in ("raise", "omit"):
        refused = f"`nan_policy={policy!r}` is not supported by this function."
        raise ValueError(f"nan_policy must be one of {{None, 'raise', 'omit'}}: {refused}")
    missing = np.isnan(y)
    if isinstance(x, np.ndarray):
        missing = missing | np.isnan(x).any(axis=tuple(range(x.ndim - 1)))
    if not missing.any():
        return x, y, sigma
    if policy == "raise":
        raise ValueError(
            f"The input contains nan values, the first at point {np.argmax(missing)}: 'omit' leaves it out"
        )
    kept = ~missing
    if sigma is not None:
        sigma = sigma[np.ix_(*[kept] * sigma.ndim)] if sigma.ndim else sigma
    return x[..., kept] if isinstance(x, np.ndarray) else x, y[kept], sigma


def _options(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The loss and the budget, of the options that SciPy hands on to its solvers."""
    left = dict(kwargs)
    loss, delta = left.pop("loss", "linear"), left.pop("f_scale", 1.0)
    maxfev, max_nfev = left.pop("maxfev", None), left.pop("max_nfev", None)
    for name in left.keys() - set(_TUNING):
        if name in _REMEDIES:
            raise ValueError(f"'{name}' is not a supported keyword argument: {_REMEDIES[name]}")
        known = ", ".join(("loss", "f_scale", "maxfev", "max_nfev", *_TUNING))
        is_ours = name in inspect.signature(least_squares.curve_fit).parameters
        ours = f"jaxreg.curve_fit(model, x, y, p0, {name}=…) has it, this one" if is_ours else "it"
        raise TypeError(f"curve_fit() got an unexpected keyword argument {name!r}: {ours} takes {known}")
    if loss != "linear" and (not isinstance(loss, str) or loss not in _LOSSES):
        raise ValueError(
            f"loss must be one of 'linear', 'huber', 'soft_l1', 'cauchy', got {loss!r}: jaxreg.curve_fit takes "
            "'tukey', which is bounded as 'arctan' is, and functions of prediction and target"
        )
    options: dict[str, Any] = {"loss": "squared" if loss == "linear" else functools.partial(_LOSSES[loss], delta=delta)}
    if budget := max_nfev or maxfev:  # of calls, the first of which is at the start
        options["max_steps"] = _checks.count("maxfev", budget, least=1) - 1
    return options


def _fit(f: Any, x: Any, y: np.ndarray, start: np.ndarray, method: str, options: dict[str, Any]) -> least_squares.Fit:
    """The fit, if it came to an end."""
    if y.size == 1:
        of_f = jax.eval_shape(apply_of(_Model(f, None)), start, x).shape
        y = np.broadcast_to(y, np.broadcast_shapes(y.shape, of_f))
    if method == "lm" and start.size > y.size:
        raise TypeError(f"The number of func parameters={start.size} must be at most that of points, {y.size}")
    model = _Model(f, y.shape)
    fit = least_squares.curve_fit(model, x, y, start, **options)
    if fit.status == Status.SINGULAR and options["bounds"] is not None:
        # A bound may stop a parameter where it moves nothing, as 0 does c in c²: once more from where that was inside.
        stopped = [fit.params == bound for bound in options["bounds"]]
        inside = np.where(stopped[0] | stopped[1], start, fit.params)
        other = least_squares.curve_fit(model, x, y, inside, **options)
        fit = other.replace(num_steps=fit.num_steps + other.num_steps) if is_optimum(other.status) else fit
    status = Status(int(fit.status))
    if status is Status.NONFINITE:
        raise ValueError(f"f, its derivatives and the data must be finite at p0: {_in_popt(culprit_of(fit))}")
    if status is Status.MAX_STEPS:
        calls = f"no convergence in {int(fit.num_steps) + 1} calls"
        raise RuntimeError(f"Optimal parameters not found: {calls}: give p0 nearer to them, bounds, or a larger maxfev")
    return fit


def _undetermined(fit: least_squares.Fit) -> str:
    if fit.status == Status.SINGULAR:
        return f"the data do not determine {_in_popt(_names.combination(fit.params, fit.undetermined))}"
    return "there are no more points than parameters, from which absolute_sigma=False takes the size of the errors"


def _in_popt(words: str) -> str:
    return words.replace("params[", "popt[")


def _numbers(fit: least_squares.Fit, with_rows: bool) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """popt, pcov, not finite where it is not known, and the residuals with their derivatives, if asked for."""
    pcov, rows = fit.covariance, []
    is_scipys = fit.problem.form.terms[0].loss is None and (fit.at_bound is None or not np.any(fit.at_bound))
    if with_rows or not is_scipys:
        *rows, matrix = map(np.array, _linearised(fit.problem, fit.params))
        pcov = pcov if is_scipys else matrix
    return np.array(fit.params), np.array(pcov), rows


@_jit.compiled()
def _linearised(problem: Problem, params: Array) -> tuple[Array, Array, Array]:
    """Weighted residuals (m,), their derivatives (m, n), and pcov as SciPy has it under a loss or at a bound."""
    flat = flat_problem(problem)
    residual, jacobian = flat.linearise(params)
    noise = flat.noise(residual)
    # SciPy's least weight: a row that a loss gives a negative one has none.
    weight = jnp.maximum(flat.curvature(residual, noise), jnp.finfo(residual.dtype).eps)
    bread = covariance.estimate(
        "classic", jacobian * jnp.sqrt(weight)[None], residual, absolute_sigma=True, unit=flat.unit
    ).matrix
    variance = flat.unit**2 * flat.cost(residual, noise) / (residual.size - params.size)
    return residual * flat.unit, jacobian.T * flat.unit, bread * (1.0 if problem.absolute_sigma else variance)


def _factors(fvec: np.ndarray, slope: np.ndarray) -> dict[str, np.ndarray]:
    """The pivoted QR of the weighted Jacobian as MINPACK gives it, R by columns."""
    q, r, places = map(np.asarray, jax.scipy.linalg.qr(slope, mode="economic", pivoting=True))
    missing = np.zeros((r.shape[1], len(fvec) - len(r)))
    return {"fjac": np.hstack([r.T, missing]), "ipvt": places, "qtf": q.T @ fvec}
