"""``curve_fit``: what the user gives, checked, and the fit as one compiled program."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jaxreg import _trace
from jaxreg.least_squares import _quantile_regression as quantile_regression
from jaxreg.least_squares._arguments import LINEAR_PROGRAMS, prepare
from jaxreg.least_squares._kinks import minimise, without_derivative
from jaxreg.least_squares._problem import Options, Task, problem_of
from jaxreg.least_squares._result import UNRESOLVED, CurveFit, finish, status_of
from jaxreg.models import Apply, Model, Params
from jaxreg.objective import Loss
from jaxreg.status import Status


def curve_fit(
    model: Model | Apply,
    x: ArrayLike,
    y: ArrayLike,
    p0: Params | None = None,
    *,
    sigma: ArrayLike | None = None,
    absolute_sigma: bool = False,
    mask: ArrayLike | None = None,
    bounds: tuple[Any, Any] | None = None,
    fixed: Any = None,
    loss: str | Loss = "squared",
    scale: str | None = None,
    covariance: str = "classic",
    max_steps: int = 5000,
) -> CurveFit:
    """Fit a model by least squares, minimise Σ ((y - model)/sigma)², or under a robust loss, with standard errors.

    With a loss ρ it minimises Σ ρ((y - model)/(scale·sigma)). Pure: jit, vmap and grad go through it (the gradient by
    the implicit function theorem; NaN at a kink, where there is none). Called at the top level it is compiled once for
    the same model object and shapes. Use float64 (``jax.config.update("jax_enable_x64", True)``) where more than three
    or four digits are wanted.

    Args:
        model: a Model, or ``f(params, x) -> (n,)``; ``models.positional`` makes one of ``f(x, *params)``.
        x: (n,) or (n, d), features.
        y: (n,), targets.
        p0: the start, any pytree of floats; None where the Model can guess it from the data.
        sigma: standard deviation of y in its units, a scalar or (n,), positive; or the errors' covariance, (n, n).
            None for ones.
        absolute_sigma: True takes sigma as it is; False scales the covariance by chi2/dof, so that only the ratios of
            the sigmas count. It matters under the squared loss only, and not to a sandwich: those take the size of the
            errors from the residuals.
        mask: (n,), True for the points that are there; whatever stands at the others, NaN too, takes no part.
        bounds: (lower, upper), each a number for all parameters or shaped like p0; infinite where there is none.
        fixed: booleans shaped like p0, static: True keeps a parameter at its start.
        loss: "squared"; "huber", "soft_l1", "log_cosh", "cauchy" or "tukey", with the threshold that they have in
            ``losses``, in units of sigma (of scale·sigma); for a model that is linear in its parameters (``features``)
            "absolute" and "quantile", without bounds; or the function itself, as in ``partial(losses.huber,
            delta=1.345)``, elementwise in prediction and target, r²/2 near zero.
        scale: None takes the loss's threshold in sigmas; "mad" in sigmas times the median absolute residual / 0.6745,
            found together with the parameters: for errors whose size is not known beforehand.
        covariance: "classic", a sandwich "HC0" to "HC3" where the errors' sizes are not as sigma says, "hessian", or
            "H1", for robust losses the form that R and statsmodels take; see ``covariance.estimate``.
        max_steps: budget of steps tried, static.

    Returns:
        CurveFit.

    Raises:
        ValueError: for shapes that do not fit, what is no real number, fewer points than parameters, a missing start,
            an unknown name, and values out of range (INVALID_INPUT under a trace): sigma ≤ 0, bounds that cross, a
            start outside.

    A loss that descends again (Cauchy, Tukey) has many minima and finds the one at its start: start it at the model's
    own init or at a robust fit, not at least squares, which outliers may have carried away.

    >>> from jaxreg import Status
    >>> x = jnp.linspace(0.0, 1.0, 50)
    >>> y = 2.0 * jnp.exp(-3.0 * x) + 0.01 * jax.random.normal(jax.random.key(0), (50,))
    >>> fit = curve_fit(lambda p, x: p["a"] * jnp.exp(-p["k"] * x), x, y, {"a": 1.0, "k": 1.0})
    >>> print(f"{fit.params['k']:.2f} ± {fit.stderr['k']:.2f}", Status(int(fit.status)).name)
    3.01 ± 0.01 OK
    """
    warn_if_narrowed(x, y, p0, sigma)
    task, options = prepare(
        model,
        x,
        y,
        p0,
        sigma=sigma,
        absolute_sigma=absolute_sigma,
        mask=mask,
        bounds=bounds,
        fixed=fixed,
        loss=loss,
        scale=scale,
        covariance=covariance,
        max_steps=max_steps,
    )
    return with_care(lambda options: solve(task, options), options)


def with_care(run: Callable[[Options], Any], options: Options) -> Any:
    """What ``run`` finds without care, which few fits need; with it where one does, and where nobody can ask."""
    if _trace.at_top_level():
        found = run(options._replace(careful=False))
        if UNRESOLVED not in np.asarray(found.status).ravel().tolist():
            return found
    return run(options)


@_trace.compiled("options")
def solve(task: Task, options: Options) -> CurveFit:
    """One fit, pure and differentiable."""
    problem = problem_of(task, options)
    if options.loss in LINEAR_PROGRAMS:
        return quantile_regression.solve(problem, task, options)

    def iterate(_: Any, start: Array) -> tuple[Array, tuple[Array, ...]]:
        end = minimise(problem, options.max_steps)
        counts = status_of(problem, end), end.num_steps  # custom_root takes only floats
        return end.params, (end.side, *(count.astype(start.dtype) for count in counts))

    def newton(slope: Any, rhs: Array) -> Array:
        return jnp.linalg.solve(jax.vmap(slope, out_axes=1)(jnp.eye(rhs.size, dtype=rhs.dtype)), rhs)

    # At the optimum this is zero; custom_root differentiates through that equation, not the iterations.
    params, (side, *counts) = lax.custom_root(problem.stationarity, problem.start, iterate, newton, has_aux=True)
    status, num_steps = (count.astype(jnp.int32) for count in counts)
    params = without_derivative(params, status == Status.KINK)
    return finish(problem, options, params, side, status, num_steps)


def warn_if_narrowed(*values: Any) -> None:
    if _trace.x64():
        return
    # Of NumPy and pandas, in any byte order; a Python float has no dtype, and NumPy's scalars no axis.
    leaves = [leaf for leaf in jax.tree.leaves(values) if not isinstance(leaf, jax.Array | float | int)]
    floats = [leaf for leaf in leaves if getattr(getattr(leaf, "dtype", None), "kind", "") == "f" and np.ndim(leaf)]
    if any(getattr(leaf.dtype, "itemsize", 8) >= 8 for leaf in floats):
        warnings.warn(
            "float64 arrays are fitted in float32, with 3 to 4 digits; for all digits call "
            'jax.config.update("jax_enable_x64", True) before the first array is made',
            stacklevel=3,
        )
