"""The door to tall fits: the arguments of ``curve_fit`` where data are read in chunks, checked."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import _checks, _trace
from jaxreg import covariance as covariances
from jaxreg.least_squares._chunks import SIZE, as_arrays, of_arrays, of_chunks
from jaxreg.least_squares._fit import Fit
from jaxreg.least_squares._flat_problem import Options
from jaxreg.least_squares._passes import predictions
from jaxreg.least_squares._tall import tall_fit
from jaxreg.least_squares._watched import check_watching, teller
from jaxreg.losses._kinds import Kind, kind_of
from jaxreg.models import Apply, Model
from jaxreg.models._model import is_rowwise, shown
from jaxreg.problems import Problem
from jaxreg.problems import _losses as of_losses
from jaxreg.problems._form import Term, without_rows
from jaxreg.problems._problem import checked_problem
from jaxreg.problems._starts import neutral_rows, start_of

_PROBED = 1024  # rows


def fit_in_chunks(
    model: Model | Apply, x: Any, y: Any, p0: Any, chunk_size: int | None, given: dict[str, Any],
    watching: dict[str, Any], *, covariance: str, max_steps: int,
) -> Fit:  # fmt: skip
    """``curve_fit`` of what is read in chunks, ``given`` the arguments of its problem."""
    size = SIZE if chunk_size is None else _checks.count("chunk_size", chunk_size, least=1)
    sigma, mask, scale = given["sigma"], given["mask"], given["scale"]
    if given["sigma_x"] is not None:
        raise ValueError("sigma_x must be None where data are read in chunks: errors in x need all points in memory")
    if not (_trace.at_top_level() and _trace.concrete(y, sigma, mask, p0)):
        raise ValueError("chunk_size is for the top level: inside jit, vmap or grad nobody can read data in chunks")
    _checks.one_of("covariance", covariance, covariances.KINDS)
    function, keywords = of_losses.function_and_keywords(given["loss"])
    for name, refused, wanted in (
        ("covariance", covariance != "classic", "'classic'"),
        ("scale", scale is not None, "None"),
        ("loss", kind_of(function) is Kind.LINEAR_PROGRAM, "none that is absolute or of a quantile"),
    ):
        if refused:
            raise ValueError(f"{name} must be {wanted} where data are read in chunks: it needs all residuals at once")
    options = Options(max_steps=_checks.count("max_steps", max_steps, least=0), careful=False)

    is_given = y is not None
    if is_given:
        whole = as_arrays(Term(x, y, sigma, mask, keywords))
        chunks = of_arrays(whole, size)
    else:
        if mask is not None:
            raise ValueError("mask must be None where data come in chunks: leave rows out of these")
        chunks = of_chunks(x, sigma, keywords, size)
    rows = next((rows for _, rows in chunks.terms() if rows.mask is None or rows.mask.any()), chunks.like)
    _checks.warn_if_narrowed(rows.x, rows.y, p0, rows.sigma, level=4)
    problem = checked_problem(model, rows.x, rows.y, p0, **given | {"sigma": rows.sigma, "mask": rows.mask})
    one = one_row(problem)
    _check_rowwise(model, one, problem.terms[0])
    check_watching(problem, **watching)
    fit = tall_fit(one, chunks, options, tell=teller(problem, **watching), timeout=watching["timeout"])
    if not is_given:
        return fit.replace(problem=dataclasses.replace(problem, terms=without_rows(problem.terms)))
    sigma = problem.sigma if sigma is None else whole.sigma
    return fit.replace(problem=dataclasses.replace(problem, terms=(whole._replace(sigma=sigma),)))


def one_row(problem: Problem) -> Problem:
    """The problem of the first row that is there, with a start: what does not depend on the rows."""
    term = jax.tree.map(np.asarray, problem.terms[0])
    start = jax.tree.map(np.asarray, start_of(problem.p0, problem.bounds, problem.terms, problem.form))
    known = np.ones(len(term.y), bool) if term.mask is None else term.mask.reshape(len(term.y), -1).any(axis=1)
    place = int(np.argmax(known))
    row = jax.tree.map(lambda leaf: leaf[place : place + 1] if leaf.ndim else leaf, term)
    x, y = jax.tree.map(np.asarray, neutral_rows(row.x, row.y, row.mask))
    return dataclasses.replace(problem, p0=start, terms=(row._replace(x=x, y=y, mask=None),))


def _check_rowwise(model: Model | Apply, problem: Problem, term: Term) -> None:
    """Refuse a model that does not take each row for itself: of rows in another order, half of them moved."""
    if is_rowwise(model):
        return
    x, y = jax.tree.map(lambda leaf: np.asarray(leaf)[:_PROBED], neutral_rows(term.x, term.y, term.mask))
    problem = dataclasses.replace(problem, p0=jax.tree.map(np.asarray, shown(problem.p0)))
    there = predictions(problem, x)
    eps = float(jnp.finfo(there.dtype).eps)
    for first in range(2):
        kept = np.arange(len(y)) % 2 == first

        def moved(leaf: Any, kept: Any = kept) -> Any:
            other = leaf * 1.5 + 1 if np.issubdtype(leaf.dtype, np.inexact) else leaf[::-1]
            return np.where(kept.reshape(-1, *(1,) * (leaf.ndim - 1)), leaf, other).astype(leaf.dtype)[::-1]

        found = predictions(problem, jax.tree.map(moved, x))[::-1][kept]
        own = np.asarray(there)[kept]
        if not np.allclose(found, own, rtol=eps**0.5, atol=eps**0.5 * np.max(np.abs(own), initial=0), equal_nan=True):
            raise ValueError(
                "model must take each row of x for itself where data are read in chunks, got one whose predictions "
                "depend on other rows, or on where a row stands"
            )
