"""``fit``, and ``curve_fit``, the easy door to it."""

from collections.abc import Callable
from typing import Any

from jax.typing import ArrayLike

from jaxreg import _checks
from jaxreg.least_squares._chunks import are_chunks
from jaxreg.least_squares._fit import Fit
from jaxreg.least_squares._in_chunks import fit_in_chunks
from jaxreg.least_squares._solver import checked_options, refuse_coupled, solve, with_care
from jaxreg.least_squares._watched import Step, check_watching, watched
from jaxreg.models import Apply, Model, Params
from jaxreg.objective import Loss
from jaxreg.problems import Problem
from jaxreg.problems._problem import checked_problem


def fit(
    problem: Problem,
    *misplaced: Any,
    covariance: str = "classic",
    max_steps: int = 5000,
    verbose: bool = False,
    callback: Callable[[Step], Any] | None = None,
    timeout: float | None = None,
) -> Fit:
    """Solve a fit problem, with standard errors.

    Pure: jit, vmap and grad go through ``fit(problem.replace(…))`` (the gradient by the implicit function theorem; NaN
    at a kink, where there is none). Called at the top level it is compiled once for the same form and shapes. A fit
    that is mapped over by your own ``vmap`` carries the problem's numbers for each member: return ``fit.params``, or
    ``fit.without_data()``, where memory counts.

    Args:
        problem: what ``problem`` makes.
        misplaced: nothing; what is given there is refused with the call that was meant.
        covariance: "classic", a sandwich "HC0" to "HC3" where the errors' sizes are not as sigma says, "hessian", or
            "H1", for robust losses the form that R and statsmodels take; see ``covariance.estimate``. A sandwich takes
            the rows of y's first axis as independent of each other.
        max_steps: budget of steps tried, static.
        verbose: whether to print a line for each step. This and what follows is for the top level.
        callback: ``callback(step)``, called after each step with a ``Step``: num_steps, chi2, damping, params. What it
            raises ends the fit.
        timeout: seconds, compilation included, after which the fit ends with ``Status.TIMEOUT`` where it stands; a step
            that has begun is not cut short.

    Returns:
        Fit, with the problem.

    Raises:
        ValueError: for fewer points than parameters, an unknown name, a model whose output has not y's shape, and what
            else is no problem.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> import jaxreg
    >>> x = jnp.linspace(0.0, 1.0, 50)
    >>> y = 2.0 * jnp.exp(-3.0 * x) + 0.01 * jax.random.normal(jax.random.key(0), (50,))
    >>> p = jaxreg.problem(lambda p, x: p["a"] * jnp.exp(-p["k"] * x), x, y, {"a": 1.0, "k": 1.0}, sigma=0.01)
    >>> found = fit(p)
    >>> print(f"{found.params['k']:.2f} ± {found.stderr['k']:.2f}")
    3.01 ± 0.01
    """
    if misplaced and isinstance(problem, Problem):
        raise ValueError("fit takes one problem, and all else by name: fit(problem, covariance=…, max_steps=…)")
    if misplaced or not isinstance(problem, Problem):
        raise ValueError(
            f"fit takes one problem, problem(model, x, y, …), got {type(problem).__name__}: curve_fit(model, x, y, …) "
            "says both in one call"
        )
    options = checked_options(problem, covariance, max_steps)
    if check_watching(problem, verbose=verbose, callback=callback, timeout=timeout):
        found = watched(problem, options, verbose=verbose, callback=callback, timeout=timeout)
    else:
        found = with_care(lambda options: solve(problem, options), options)
    refuse_coupled(problem, found.status)
    return found.replace(problem=problem)


def curve_fit(
    model: Model | Apply,
    x: Any = None,
    y: ArrayLike | None = None,
    p0: Params | None = None,
    *,
    sigma: ArrayLike | None = None,
    sigma_x: ArrayLike | None = None,
    absolute_sigma: bool = False,
    mask: ArrayLike | None = None,
    bounds: Any = None,
    fixed: Any = None,
    loss: str | Loss = "squared",
    scale: str | None = None,
    covariance: str = "classic",
    max_steps: int = 5000,
    verbose: bool = False,
    callback: Callable[[Step], Any] | None = None,
    timeout: float | None = None,
    chunk_size: int | None = None,
) -> Fit:
    """Fit a model by least squares, minimise Σ ((y - model)/sigma)², or under a robust loss, with standard errors.

    The easy door to ``fit(problem(…))``. With a loss ρ it minimises Σ ρ((y - model)/(scale·sigma)). Pure: jit, vmap and
    grad go through it. Called at the top level it is compiled once for the same model object and shapes. Use float64
    (``jax.config.update("jax_enable_x64", True)``) where more than three or four digits are wanted.

    Args:
        model, x, y, p0, sigma, sigma_x, absolute_sigma, mask, bounds, fixed, loss, scale: as for ``problem``.
        covariance, max_steps, verbose, callback, timeout: as for ``fit``.
        chunk_size: for more rows than memory holds: how many to read at a time, such as 2**18, of NumPy's arrays or
            memory maps x, y, sigma and mask. Each step is then a pass over all rows, on all cores, of which only as
            many rows as parameters are left: the same estimate with the same errors, without residuals. The model must
            take each row of x for itself, which is tried; what needs all residuals at once (scale, sandwiches, absolute
            and quantile losses) is refused, as is sigma_x, and kinks are not resolved. Instead of x and y there may be
            chunks, as in ``curve_fit(model, chunks, p0=p0)``: a list of (x, y) or (x, y, sigma), or an object that
            gives the same ones whenever it is iterated over; their rows are not in the fit's problem. None takes all at
            once.

    Returns:
        Fit.

    Raises:
        ValueError: what ``problem`` and ``fit`` raise, and for chunks that are not the same at each pass, or can be
            read once only.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from jaxreg import Status
    >>> x = jnp.linspace(0.0, 1.0, 50)
    >>> y = 2.0 * jnp.exp(-3.0 * x) + 0.01 * jax.random.normal(jax.random.key(0), (50,))
    >>> fit = curve_fit(lambda p, x: p["a"] * jnp.exp(-p["k"] * x), x, y, {"a": 1.0, "k": 1.0})
    >>> print(f"{fit.params['k']:.2f} ± {fit.stderr['k']:.2f}", Status(int(fit.status)).name)
    3.01 ± 0.01 OK
    >>> tall = curve_fit(lambda p, x: p["a"] * jnp.exp(-p["k"] * x), x, y, {"a": 1.0, "k": 1.0}, chunk_size=16)
    >>> print(f"{tall.params['k']:.2f} ± {tall.stderr['k']:.2f}")
    3.01 ± 0.01
    """
    if isinstance(model, Problem):
        raise ValueError("curve_fit takes a model, x and y, got a Problem: jaxreg.fit(problem) fits one")
    given: dict[str, Any] = {
        "sigma": sigma, "absolute_sigma": absolute_sigma, "mask": mask, "bounds": bounds, "fixed": fixed, "loss": loss,
        "scale": scale, "sigma_x": sigma_x,
    }  # fmt: skip
    watching: dict[str, Any] = {"verbose": verbose, "callback": callback, "timeout": timeout}
    if chunk_size is not None or are_chunks(x, y):
        return fit_in_chunks(model, x, y, p0, chunk_size, given, watching, covariance=covariance, max_steps=max_steps)
    if y is None:
        raise ValueError("y must be given, as in curve_fit(model, x, y, p0), got None")
    if isinstance(y, dict):
        raise ValueError(
            "y must be of real numbers, got dict: beside chunks p0 goes by name, curve_fit(model, chunks, p0=p0)"
        )
    _checks.warn_if_narrowed(x, y, p0, sigma, sigma_x)
    problem = checked_problem(model, x, y, p0, **given)
    return fit(problem, covariance=covariance, max_steps=max_steps, **watching)
