"""What the noise of minibatches does to gradient descent on a quadratic: first and second moments, exactly.

A step on a minibatch of m of the n rows moves the distance from the minimum by e ← (I - η·H_batch)·e - η·g_batch, with
the minibatch's Hessian and its gradient at the minimum. Where minibatches are drawn independently, the moments of e
follow from those of single rows, scaled by c = (n - m)/(m·(n - 1)) for rows without repeats, 1/m with repeats.
Minibatches of a reshuffled epoch are not independent: each uses rows that the others leave. For them this is an
approximation.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from jaxreg import _checks
from jaxreg._shapes import Float
from jaxreg.curvature import gradient, hessian, predict_training
from jaxreg.data import Dataset, as_dataset
from jaxreg.models import Params
from jaxreg.objective import Objective

MOST_PARAMS = 32  # p⁴ numbers and a dense eigenproblem of p²


def mean_square_edge(
    objective: Objective, params: Params, data: Dataset, *, batch_size: ArrayLike, replace: bool = False
) -> Float[Array, ""]:
    """The learning rate above which the expected loss of SGD on a quadratic grows, and below which it stays bounded.

    E[e·eᵀ] is multiplied at each step by I - η·(H⊗I + I⊗H) + η²·M with M = (1 - c)·H⊗H + c·E[Hᵢ⊗Hᵢ], which is
    contracting for η below 1/λmax of M relative to H⊗I + I⊗H. It is 2/λmax(H) for the full batch and falls with the
    batch size. A single run grows beyond a rate that lies at or above this one, because rare runs carry the mean.

    Args:
        objective: ``objective(params, data) -> scalar``, a mean over the rows, such as ``empirical_risk`` makes.
        params: where the Hessians are taken (any point, for a quadratic), at most 32 numbers.
        data: n rows without weights.
        batch_size: m; may be traced.
        replace: whether a minibatch may hold a row twice.

    Returns:
        Scalar; infinite where nothing curves.

    Source: R. Mulayoff and T. Michaeli, Proceedings of Machine Learning Research 247 (2024) 3915.

    >>> from jaxreg import losses, models
    >>> from jaxreg.objective import empirical_risk
    >>> rows = Dataset(jnp.array([1.0, -3.0]), jnp.zeros(2))  # Hᵢ = xᵢ²: E[H] = 5, E[H²] = 41
    >>> risk = empirical_risk(models.ohm(), losses.squared)
    >>> edge = jax.jit(mean_square_edge, static_argnums=0)
    >>> [round(float(edge(risk, {"resistance": 0.0}, rows, batch_size=m)), 4) for m in (1, 2)]
    [0.2439, 0.4]
    """
    params, data = _checked(params, data)
    eigenvalues, vectors = jnp.linalg.eigh(hessian(objective, params, data))
    unit = _unit(eigenvalues)
    eigenvalues = eigenvalues / unit
    pairs = jnp.add.outer(eigenvalues, eigenvalues)
    share = _noise_share(data.y.shape[0], batch_size, replace)
    curved = pairs > eigenvalues.size * jnp.finfo(pairs.dtype).eps
    scale = jnp.where(curved, jax.lax.rsqrt(jnp.where(curved, pairs, 1)), 0).ravel()
    mean = jnp.diag(jnp.outer(eigenvalues, eigenvalues).ravel())
    each = _products(_row_hessians(objective, params, data, vectors) / unit).reshape(mean.shape)
    relative = jnp.outer(scale, scale) * ((1 - share) * mean + share * each)
    largest = jnp.linalg.eigvalsh(relative)[-1]
    return jnp.where(largest <= 0, jnp.inf, 1 / jnp.where(largest <= 0, 1, largest * unit))


class ExpectedTraining(NamedTuple):
    """What gradient noise does to a run of SGD.

    Attributes:
        loss: (steps + 1,), the expected loss over all rows, before the first step and after each.
        descent: (steps + 1,), the loss without noise: that of full-batch descent.
    """

    loss: Array
    descent: Array


def expected_training(
    objective: Objective,
    params: Params,
    data: Dataset,
    *,
    learning_rate: ArrayLike,
    batch_sizes: ArrayLike,
    replace: bool = False,
) -> ExpectedTraining:
    """The expected loss curve of SGD from ``params``: exact for a quadratic and independent minibatches.

    With A = I - η·H, the mean distance from the minimum and its second moment C step as e ← A·e and
    C ← A·C·A + η²·c·(E[Hᵢ·C·Hᵢ] - H·C·H + E[Hᵢ·e·gᵢᵀ] + E[gᵢ·eᵀ·Hᵢ] + E[gᵢ·gᵢᵀ]); the loss is f_min + ½·tr(H·C).

    Args:
        objective: ``objective(params, data) -> scalar``, a mean over the rows, quadratic in params.
        params: the start, at most 32 numbers.
        data: n rows without weights.
        learning_rate: of plain SGD; may be traced.
        batch_sizes: (steps,), rows in the minibatch of each step; n is the full batch.
        replace: whether a minibatch may hold a row twice.

    Returns:
        ExpectedTraining; infinite from where it leaves the range of floats, NaN where a slope has no curvature.

    >>> from jaxreg import losses, models
    >>> from jaxreg.objective import empirical_risk
    >>> rows = Dataset(jnp.array([1.0, 1.0]), jnp.array([1.0, -1.0]))  # the minimum is 0, gᵢ = ∓1
    >>> risk = empirical_risk(models.ohm(), losses.squared)
    >>> expected = jax.jit(expected_training, static_argnums=0)
    >>> expected(risk, {"resistance": 1.0}, rows, learning_rate=0.5, batch_sizes=jnp.array([1, 1])).loss
    Array([1.    , 0.75  , 0.6875], dtype=float32)
    """
    params, data = _checked(params, data)
    flat, unravel = ravel_pytree(params)
    rate = jnp.asarray(learning_rate, flat.dtype)
    shares = _noise_share(data.y.shape[0], batch_sizes, replace).astype(flat.dtype)
    if shares.ndim != 1:
        raise ValueError(f"batch_sizes must have shape (steps,), got {shares.shape}")
    eigenvalues, vectors = jnp.linalg.eigh(hessian(objective, params, data))
    slope = vectors.T @ ravel_pytree(gradient(objective, params, data))[0]
    prediction = predict_training(objective, params, data, learning_rate=rate)
    curved = (prediction.excess_loss > 0) & jnp.isfinite(prediction.excess_loss)
    start = jnp.where(curved, slope / jnp.where(curved, eigenvalues, 1), 0)  # the distance, in the eigenvectors
    minimum = unravel(flat - vectors @ start)
    unit = _unit(eigenvalues)
    curvatures = jnp.outer(eigenvalues / unit, eigenvalues / unit)
    row_hessians = _row_hessians(objective, params, data, vectors) / unit
    slopes = jax.vmap(lambda row: ravel_pytree(gradient(objective, minimum, row))[0])(_rows(data)) / unit @ vectors
    products = _products(row_hessians)
    crossed = jnp.einsum("nik,nj->ijk", row_hessians, slopes) / len(slopes)
    scatter = slopes.T @ slopes / len(slopes)
    decay = prediction.decay

    def step(state: _Moments, share: Float[Array, ""]) -> tuple[_Moments, Float[Array, "p"]]:
        mean, second = state
        cross = crossed @ mean
        excess = jnp.einsum("ijkl,kl->ij", products, second) - curvatures * second
        noise = (rate * unit) ** 2 * share * (excess + cross + cross.T + scatter)
        after = jnp.outer(decay, decay) * second + jnp.where(share > 0, noise, 0)
        return (decay * mean, after), jnp.diag(after)

    first = jnp.outer(start, start)
    _, variances = jax.lax.scan(step, (start, first), shares)
    excess = 0.5 * jnp.concatenate([jnp.diag(first)[None], variances]) @ eigenvalues
    # Beyond the largest float the recursion subtracts infinities.
    loss = prediction.minimum_loss + jnp.where(jnp.isnan(excess), jnp.inf, excess)
    loss = jnp.where(jnp.isfinite(prediction.minimum_loss) & ~jnp.isnan(shares).any(), loss, jnp.nan)
    return ExpectedTraining(loss, prediction.loss(jnp.arange(len(shares) + 1)))


_Moments = tuple[Float[Array, "p"], Float[Array, "p p"]]


def _checked(params: Params, data: Dataset) -> tuple[Params, Dataset]:
    params, data = _checks.params("params", params), as_dataset(data, of="data.")
    if data.weight is not None:
        raise ValueError("data.weight must be None: a weighted mean over a minibatch is no mean of its rows")
    size = ravel_pytree(params)[0].size
    if size > MOST_PARAMS:
        raise ValueError(f"params must hold at most {MOST_PARAMS} numbers, got {size}: their moments need p⁴")
    return params, data


def _noise_share(num_rows: int, batch_size: ArrayLike, replace: Any) -> Float[Array, "*steps"]:
    """c: the variance of a minibatch's mean, in units of the variance of a row; NaN for sizes that there are not."""
    size = _checks.array("batch_size", batch_size)
    usable = (size >= 1) & (size <= num_rows) & (size == size.round())
    _checks.valid("batch_size", size, usable, f"whole, between 1 and {num_rows}")
    share = 1 / size if _checks.flag("replace", replace) else (num_rows - size) / (size * max(num_rows - 1, 1))
    return jnp.where(usable, share, jnp.nan)


def _unit(eigenvalues: Float[Array, "p"]) -> Float[Array, ""]:
    """The largest curvature: in units of it, products of curvatures stay in the range of floats."""
    largest = jnp.abs(eigenvalues).max()
    return jnp.where(largest > 0, largest, 1)


def _rows(data: Dataset) -> Dataset:
    """Each row as a data set of its own: a leading axis of rows."""
    return jax.tree.map(lambda leaf: leaf[:, None], data)


def _row_hessians(
    objective: Objective, params: Params, data: Dataset, vectors: Float[Array, "p p"]
) -> Float[Array, "n p p"]:
    """The Hessian of each row in the basis of the eigenvectors."""
    each: Any = jax.vmap(lambda row: hessian(objective, params, row))(_rows(data))
    return vectors.T @ each @ vectors


def _products(hessians: Float[Array, "n p p"]) -> Float[Array, "p p p p"]:
    """E[Hᵢ⊗Hᵢ], which takes C to E[Hᵢ·C·Hᵢ] by its last two axes."""
    num_rows, size, _ = hessians.shape
    flat = hessians.reshape(num_rows, size * size)
    return (flat.T @ flat / num_rows).reshape(size, size, size, size).transpose(0, 2, 1, 3)
