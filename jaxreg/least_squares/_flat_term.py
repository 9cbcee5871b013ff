"""One term as the solver sees it: its residuals, flat, as functions of all parameters."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.linalg import solve_triangular

from jaxreg import _checks, _names
from jaxreg._shapes import Bool, Float, Int
from jaxreg.least_squares._errors_in_x import Factors, factors_of
from jaxreg.likelihoods import Likelihood
from jaxreg.models import Params
from jaxreg.models._model import apply_of
from jaxreg.objective import Loss
from jaxreg.problems._errors import positive
from jaxreg.problems._form import Term, TermForm
from jaxreg.problems._starts import neutral_rows

_NORMAL_QUARTILE = 0.6744897501960817
_INSIDE = 0.5  # the domain of every likelihood


class FlatTerm(NamedTuple):
    """One term: its residuals, flat, of all parameters."""

    rows: slice  # of the problem's
    root: Array  # sigma·unit, or its Cholesky factor where it is a covariance
    residual: Callable[[Params], Array]  # (k,), (model - y)/(sigma·unit), zero where masked; see information
    whiten: Callable[[Array], Array]  # y's shape -> (k,), divided by sigma·unit
    raw: Callable[[Params], Array]  # y's shape, y - model, unweighted
    predict: Callable[..., Array]  # y's shape, at the x of the data, adjusted if it has errors, or at another
    true_x: Any  # of errors in x, a TrueX; None without any
    counted: Bool[Array, "k"]  # rows that are there
    loss: Callable[[Array], Array] | None  # elementwise, of residuals in units of the noise; None for the squared one
    information: Callable[[Array], Array] | None  # of a likelihood, whose residual is the prediction: of that
    scale: str | None
    units: Int[np.ndarray, "k"]  # the number of each row's unit, which a sandwich takes as independent of the others
    is_robust: bool
    is_prior: bool

    def noise(self, residual: Float[Array, "k"], unit: Float[Array, ""], size: Float[Array, ""]) -> Float[Array, ""]:
        """The unit of the loss, in that of the residuals: sigma, or the normalised median absolute residual."""
        if self.scale is None:
            return 1 / unit
        length = jnp.sort(jnp.where(self.counted, jnp.abs(residual), jnp.inf))
        middle = self.counted.sum() - 1
        median = (length[middle // 2] + length[(middle + 1) // 2]) / 2
        # More than half the residuals may be exactly zero: then the unit is the rounding of the targets.
        least = jnp.finfo(length.dtype).eps * size / math.sqrt(length.size)
        return jnp.maximum(median / _NORMAL_QUARTILE, jnp.where(least > 0, least, 1))

    def chi2(self, residual: Float[Array, "k"], unit: Float[Array, ""]) -> Float[Array, ""]:
        """Σ ((model - y)/sigma)², or the deviance."""
        if self.information is not None and self.loss is not None:
            return 2 * jnp.sum(self.loss(residual * unit))
        return jnp.vdot(residual, residual) * unit * unit


def flat_term(
    term: Term, form: TermForm, root: Array, counted: Bool[Array, "k"], first: int, dtype: Any, *, neutral: bool = False
) -> FlatTerm:
    """The term; ``neutral`` if rows that are not there are already like one that is."""
    x, y = (term.x, jnp.asarray(term.y)) if neutral else neutral_rows(term.x, term.y, term.mask)
    shape, apply = y.shape, model_of(term, form)

    def predict(params: Params, at: Any = x) -> Array:
        prediction = apply(params, at)
        if prediction.shape != shape and form.is_prior:
            raise ValueError(f"a prior's function must give the shape of its mean {shape}, got {prediction.shape}")
        if prediction.shape != shape:
            of_x = f" from x of shape {_names.shapes(x)}" if jax.tree.leaves(x) else ""
            raise ValueError(f"the model's prediction must have y's shape {shape}, got {prediction.shape}{of_x}")
        return prediction

    def expected(prediction: Array) -> Array:
        if isinstance(form.loss, Likelihood):
            return form.loss.expected(prediction, **term.keywords)
        return prediction

    def raw(params: Params) -> Array:
        difference = y - expected(predict(params))
        return difference if jnp.iscomplexobj(difference) else difference.astype(dtype)

    def whiten(values: Array) -> Float[Array, "k"]:
        rows = parts_of(values).astype(dtype)
        return whitened(root, rows if term.mask is None else jnp.where(counted, rows, 0))

    def residual(params: Params) -> Float[Array, "k"]:
        return whiten(-raw(params))

    def prediction(params: Params) -> Float[Array, "k"]:
        return predict(params).ravel().astype(dtype) / root

    likelihood = form.loss if isinstance(form.loss, Likelihood) else None
    of_count = (None, None) if likelihood is None else _of_prediction(likelihood, term, y, counted, dtype)
    # Rows of y's first axis, and both parts of a complex number, go together; a prior's do not.
    per_row = max(math.prod(shape[1:]), 1)
    units = np.arange(math.prod(shape)) // (1 if form.is_prior else per_row)
    units = np.concatenate([units, units]) if jnp.iscomplexobj(y) else units
    return FlatTerm(
        rows=slice(first, first + counted.size),
        root=root,
        residual=residual if likelihood is None else prediction,
        whiten=whiten,
        raw=raw,
        predict=predict,
        true_x=None,
        counted=counted,
        loss=_of_residual(form.loss, term.keywords, dtype) if likelihood is None else of_count[0],
        information=None if likelihood is None else of_count[1],
        scale=form.scale,
        units=units.astype(np.int32),
        is_robust=form.loss is not None and likelihood is None,
        is_prior=form.is_prior,
    )


def model_of(term: Term, form: TermForm) -> Callable[[Params, Any], Array]:
    """The prediction of a term, of all parameters of its problem."""
    apply, names = apply_of(form.model, is_complex=jnp.iscomplexobj(term.y)), form.names
    if names is None:
        return apply
    return lambda params, x: apply({own: params[theirs] for own, theirs in names}, x)


def parts_of(value: Array) -> Array:
    """Flat, of complex numbers first the real parts and then the imaginary ones."""
    flat = value.ravel()
    return jnp.concatenate([flat.real, flat.imag]) if jnp.iscomplexobj(value) else flat


def flat_of(value: Array, y: Array) -> Array:
    """Of y's shape, real: a number for each row."""
    flat = value.ravel()
    return jnp.concatenate([flat, flat]) if jnp.iscomplexobj(y) else flat


def sigma_of(term: Term) -> Array:
    """sigma as a scalar, one for each row, or the covariance of all rows."""
    sigma = term.sigma
    if sigma.ndim == 0:
        return sigma
    if sigma.shape == term.y.shape:
        return flat_of(sigma, term.y)
    if jnp.iscomplexobj(term.y):
        zero = jnp.zeros_like(sigma)
        return jnp.block([[sigma, zero], [zero, sigma]])
    return sigma


def _of_residual(loss: Loss | None, keywords: dict[str, Any], dtype: Any) -> Callable[[Array], Array] | None:
    if loss is None:
        return None
    given = {name: value.astype(dtype) for name, value in keywords.items()}
    traceable = _checks.traceable("loss")(loss)
    return lambda residual: traceable(residual, jnp.zeros_like(residual), **given)


def _of_prediction(
    loss: Likelihood, term: Term, y: Array, counted: Bool[Array, "k"], dtype: Any
) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """A likelihood's loss and information as functions of the prediction, flat; 0 where masked."""
    target = y.ravel().astype(dtype)
    keywords = {name: jnp.broadcast_to(value, y.shape).ravel().astype(dtype) for name, value in term.keywords.items()}

    def of_rows(fn: Callable[[Array], Array]) -> Callable[[Array], Array]:
        if term.mask is None:
            return fn
        return lambda prediction: jnp.where(counted, fn(jnp.where(counted, prediction, _INSIDE)), 0)

    return (
        of_rows(lambda prediction: loss.half_deviance(prediction, target, **keywords)),
        of_rows(lambda prediction: loss.information(prediction, **keywords)),
    )


def root_of(sigma: Array, counted: Bool[Array, "k"], dtype: Any) -> tuple[Array, Bool[Array, ""]]:
    """sigma, or its Cholesky factor where it is a covariance, and whether it is usable; ones where it is not."""
    sigma = sigma.astype(dtype)
    if sigma.ndim < 2:
        usable = positive(sigma)
        # A sigma that XLA takes for zero, below the normal range, makes 0/0 even of a row that is not there.
        root = jnp.where(usable & counted if sigma.ndim else usable, sigma, 1)
        return root, (usable | ~counted if sigma.ndim else usable).all()
    # The rows that are there have the covariance's block, so the others may have any: the identity's.
    both = counted[:, None] & counted[None]
    identity = jnp.eye(sigma.shape[0], dtype=sigma.dtype)
    factor = jnp.linalg.cholesky(jnp.where(both, sigma, identity), symmetrize_input=False)
    usable = jnp.isfinite(factor).all()
    return jnp.where(usable, factor, identity), usable


def errors_of(
    term: Term, counted: Bool[Array, "k"], dtype: Any
) -> tuple[tuple[Array, Factors | None], Bool[Array, ""]]:
    """The root of sigma and, with errors in x, the factors, and whether they are usable."""
    if term.sigma_x is None:
        root, usable = root_of(sigma_of(term), counted, dtype)
        return (root, None), usable
    there = counted.reshape(term.y.shape)
    factors, each = factors_of(term.sigma_x, term.x, term.sigma, there, dtype)
    return (factors.of_y.ravel(), factors), (each | ~there).all()


def whitened(root: Array, residual: Float[Array, "n"]) -> Float[Array, "n"]:
    return residual / root if root.ndim < 2 else solve_triangular(root, residual, lower=True)


def coloured(root: Array, error: Float[Array, "k"]) -> Float[Array, "k"]:
    """Independent errors of variance 1 as those that ``root`` whitens."""
    return root * error if root.ndim < 2 else root @ error


def counts_are_usable(term: Term, form: TermForm, counted: Bool[Array, "k"]) -> Bool[Array, ""]:
    if not isinstance(form.loss, Likelihood):
        return jnp.asarray(True)
    usable = form.loss.usable(term.y, **term.keywords) | ~jnp.isfinite(term.y)  # which is another fault
    return (usable.ravel() | ~counted).all()


def unusable_rows(term: Term, counted: Bool[Array, "k"]) -> Bool[Array, "4 k"]:
    rows = jnp.zeros(term.y.shape, bool)
    bad_x = rows
    for leaf in jax.tree.leaves(term.x):
        axes = rows.ndim if leaf.shape[: rows.ndim] == rows.shape else 1
        if leaf.shape[:axes] == rows.shape[:axes] and rows.ndim and jnp.issubdtype(leaf.dtype, jnp.inexact):
            bad = ~jnp.isfinite(leaf).reshape(*rows.shape[:axes], -1).all(axis=-1)
            bad_x |= bad.reshape(bad.shape + (1,) * (rows.ndim - axes))
    sigma = sigma_of(term)
    good = positive(sigma) if sigma.ndim < 2 else jnp.isfinite(sigma).all(axis=1)
    parts = [flat_of(bad_x, term.y), ~jnp.isfinite(parts_of(term.y)), jnp.broadcast_to(~good, counted.shape)]
    if term.sigma_x is None:
        parts.append(jnp.zeros_like(counted))
    else:
        parts.append(~factors_of(term.sigma_x, term.x, jnp.ones_like(term.sigma), rows, term.sigma.dtype)[1].ravel())
    return jnp.stack(parts) & counted[None]


def joined(parts: list[Array]) -> Array:
    """The rows of all terms."""
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts)


def loss_of_all(terms: list[FlatTerm]) -> Callable[[Array], Array] | None:
    """The loss of the rows of all terms; None if all are squared."""
    if all(term.loss is None for term in terms):
        return None
    if len(terms) == 1:
        return terms[0].loss

    def loss(residual: Float[Array, "n"]) -> Float[Array, "n"]:
        return jnp.concatenate(
            [residual[term.rows] ** 2 / 2 if term.loss is None else term.loss(residual[term.rows]) for term in terms]
        )

    return loss
