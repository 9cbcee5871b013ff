"""``compare``: which of several models the data prefer."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.scipy.special import betainc, gammaincc

from jaxreg import _names
from jaxreg._tables import Table, number
from jaxreg.comparison._goodness import goodness
from jaxreg.least_squares import Fit
from jaxreg.least_squares._solver import num_counted
from jaxreg.losses._kinds import Kind
from jaxreg.status import is_optimum


class Comparison(NamedTuple):
    """Fits of one data set by several models, one entry each; ``print`` shows it as a table.

    Attributes:
        names: of the fits.
        num_params: fitted parameters.
        dof: degrees of freedom.
        chi2: of data and priors, or the deviance.
        aic: as in ``Goodness``, and so are aicc and bic.
        aicc: likewise.
        bic: likewise.
        aic_difference: aic - the least of all.
        weight: exp(-aic_difference/2), normalised: how much the data speak for each among these.
        p_value: if nested, of each fit against the one before it in the order of num_params: the probability that the
            added parameters gain as much by chance; NaN of the first, and if not nested.
    """

    names: tuple[str, ...]
    num_params: np.ndarray
    dof: np.ndarray
    chi2: np.ndarray
    aic: np.ndarray
    aicc: np.ndarray
    bic: np.ndarray
    aic_difference: np.ndarray
    weight: np.ndarray
    p_value: np.ndarray


def parts_of_comparison(found: Comparison) -> list[str | Table]:
    """A row for each fit."""
    heads = ("fit", "parameters", "χ²", "AIC", "difference", "weight", "AICc", "BIC", "p (nested)")
    columns = [
        list(found.names),
        [str(count) for count in found.num_params],
        *([number(value, 6) for value in column] for column in (found.chi2, found.aic, found.aic_difference)),
        [number(value, 3) for value in found.weight],
        *([number(value, 6) for value in column] for column in (found.aicc, found.bic)),
        [number(value, 3) for value in found.p_value],
    ]
    return [Table([heads, *zip(*columns, strict=True)])]


def compare(fits: Mapping[str, Fit] | Sequence[Fit], *, nested: bool = False) -> Comparison:
    """Fits of the same data by several models: information criteria, weights, and tests where models are nested.

    Args:
        fits: name -> fit, or a sequence of at least two.
        nested: whether, in the order of their numbers of parameters, each model is a special case of the next: then the
            χ² test of the likelihood ratio says whether that one is needed, or without absolute sigmas the F test.

    Returns:
        Comparison, in the order given. The least AIC is the model that predicts best; a difference below 2 says little.

    Raises:
        ValueError: for fits of different data, sigma, masks or losses, of which nothing can be compared, robust losses,
            which have no likelihood, and fits that failed.

    Source: K. P. Burnham and D. R. Anderson, Model Selection and Multimodel Inference (2002), sections 2.6 and 2.9.

    >>> import jax.numpy as jnp
    >>> import jaxreg
    >>> x, y = jnp.arange(5.0), jnp.array([0.0, 1.1, 1.9, 3.1, 3.9])
    >>> line = jaxreg.models.expression("a + b*x")
    >>> found = compare({"ohm": jaxreg.curve_fit(jaxreg.models.ohm(), x, y), "line": jaxreg.curve_fit(line, x, y)})
    >>> print(found.aic_difference.round(1))
    [0.  1.6]
    """
    named = dict(fits) if isinstance(fits, Mapping) else {f"fit {place}": fit for place, fit in enumerate(fits)}
    if len(named) < 2:
        raise ValueError(f"fits must be at least two, got {len(named)}")
    for name, fit in named.items():
        if not isinstance(fit, Fit) or np.ndim(fit.status):
            raise ValueError(f"{name} must be one fit, got {type(fit).__name__}")
    measures = {name: jax.device_get(goodness(fit)) for name, fit in named.items()}
    _comparable(named)
    fields = ("chi2", "aic", "aicc", "bic")
    columns = {name: np.array([float(getattr(one, name)) for one in measures.values()]) for name in fields}
    dof = np.array([int(fit.dof) for fit in named.values()])
    num_params = num_counted(next(iter(named.values())).problem) - dof
    difference = columns["aic"] - columns["aic"].min()
    weight = np.exp(-difference / 2)
    absolute = next(iter(named.values())).problem.absolute_sigma
    p_value = _nested_tests(columns["chi2"], dof, absolute=absolute) if nested else np.full(len(dof), np.nan)
    return Comparison(
        names=tuple(named),
        num_params=num_params,
        dof=dof,
        aic_difference=difference,
        weight=weight / weight.sum(),
        p_value=p_value,
        **columns,
    )


def _comparable(named: Mapping[str, Fit]) -> None:
    """Refuse fits that are not of the same data under the same loss."""
    (first, wanted), *others = ((name, _facts(fit)) for name, fit in named.items())
    for name, fit in named.items():
        if not is_optimum(int(fit.status)):
            raise ValueError(f"{name} must have ended at an optimum, got status {int(fit.status)}")
        if fit.problem.form.has(Kind.ROBUST, Kind.LINEAR_PROGRAM):
            raise ValueError(f"{name} has a robust loss, which is no likelihood, so nothing can be compared by one")
    for name, facts in others:
        for what, values in wanted.items():
            if not _equal(values, facts[what]):
                raise ValueError(f"{first} and {name} have different {what}, so their likelihoods cannot be compared")


def _facts(fit: Fit) -> dict[str, Any]:
    pairs = list(zip(fit.problem.terms, fit.problem.form.terms, strict=True))
    data = [(term, form) for term, form in pairs if not form.is_prior]
    return {
        "priors": [(term.y, term.sigma) for term, form in pairs if form.is_prior],
        "data": [term.y for term, _ in data],
        "masks": [np.ones(np.shape(term.y), bool) if term.mask is None else term.mask for term, _ in data],
        "losses": [form.loss for _, form in data],
        "sigmas": [term.sigma for term, _ in data],
        "sigma_x": [term.sigma_x for term, _ in data],
        "kinds of sigma": [form.absolute_sigma for _, form in data],
        "keywords of the loss": [term.keywords for term, _ in data],
    }


def _equal(one: Any, other: Any) -> bool:
    leaves, others = jax.tree.leaves(one), jax.tree.leaves(other)
    return _names.structure(one) == _names.structure(other) and all(
        left is right
        or (not callable(left) and np.array_equal(left, right, equal_nan=np.asarray(left).dtype.kind in "fc"))
        for left, right in zip(leaves, others, strict=True)
    )


def _nested_tests(chi2: np.ndarray, dof: np.ndarray, *, absolute: bool) -> np.ndarray:
    """Each fit against the one before it in the order of parameters."""
    found, order = np.full(len(dof), np.nan), np.argsort(-dof, kind="stable")
    with jax.enable_x64(True):
        for small, large in itertools.pairwise(order):
            added, gain = float(dof[small] - dof[large]), float(chi2[small] - chi2[large])
            if added <= 0 or gain < 0:
                continue
            if absolute:
                found[large] = gammaincc(added / 2, gain / 2)
            elif dof[large] > 0:  # F's survival function is I_s(ν₂/2, ν₁/2) with s = ν₂/(ν₂ + ν₁F)
                share = chi2[large] / (chi2[large] + gain)
                found[large] = betainc(dof[large] / 2, added / 2, share)
    return found
