"""``summary``: a fit in words."""

from typing import Any

from jaxreg._tables import as_text
from jaxreg.global_fits import GlobalFit
from jaxreg.least_squares import Fit
from jaxreg.report._fits import parts_of_fit
from jaxreg.report._global_fits import parts_of_global_fit
from jaxreg.results import Sweep
from jaxreg.uncertainty._linear import Fits


def summary(
    fit: Fits | GlobalFit,
    *,
    level: float = 0.95,
    distribution: str | None = None,
    least_correlation: float = 0.1,
    digits: int = 3,
) -> str:
    """A report on a fit: how it ended, parameters with errors and intervals, correlations, goodness of fit.

    With n points and p fitted parameters AIC is χ² + 2p and BIC χ² + p·log(n) where sigma was absolute, and n·log(χ²/n)
    takes the place of χ² where the size of the errors came from the residuals; a robust loss has neither.
    ``print(fit)`` is this with all settings as they are here.

    Args:
        fit: one ``curve_fit``; of many on leading axes, in memory, in a store or as ``store.load`` gives them, the
            statuses are counted and the parameters' quartiles given; of a global fit a table of the data sets follows.
        level: of the intervals.
        distribution: as for ``uncertainty.intervals``.
        least_correlation: correlations smaller than it are left out.
        digits: of the standard error; the estimate is given to the same decimal place.

    Returns:
        Lines of text. What could not be estimated is shown as "–"; parameters at a bound or fixed are marked.

    >>> import jax.numpy as jnp
    >>> import jaxreg
    >>> x, y = jnp.arange(5.0), jnp.array([0.0, 1.1, 1.9, 3.1, 3.9])
    >>> print(summary(jaxreg.curve_fit(jaxreg.models.ohm(), x, y)))
    OK: converged (... steps)
    <BLANKLINE>
    parameter    value  ± error  relative  95 % interval (t)
    resistance  0.9933   0.0180     1.8 %     0.943 to 1.043
    <BLANKLINE>
    points                       5
    parameters                   1
    degrees of freedom           4
    χ²                     0.03867
    reduced χ²            0.009667
    AIC                     -22.31
    BIC                     -22.70
    """
    if not isinstance(fit, Fit | GlobalFit | Sweep):
        raise ValueError(f"fit must be what jaxreg.fit, curve_fit or fit_many returned, got {type(fit).__name__}")
    parts: Any = parts_of_global_fit if isinstance(fit, GlobalFit) else parts_of_fit
    return as_text(
        parts(fit, level=level, distribution=distribution, least_correlation=least_correlation, digits=digits)
    )
