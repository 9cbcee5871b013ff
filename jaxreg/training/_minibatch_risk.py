"""Three ways to the same loss and gradient of a minibatch: plainly, from its statistics, or row by row on scalars.

Which is fastest depends on the problem and on how many members of a sweep are computed together. All give the same
iterates up to rounding and can be differentiated.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from jaxreg import _checks, _members
from jaxreg._linear_algebra import least_squares
from jaxreg._shapes import Float
from jaxreg.batching import Plan, gather
from jaxreg.data import Dataset
from jaxreg.losses._kinds import Kind, is_elementwise, kind_of
from jaxreg.models import Apply, Model, Params
from jaxreg.models._model import apply_of, is_rowwise
from jaxreg.objective import Loss
from jaxreg.objective._risk import batch_risk
from jaxreg.training import _scalars

# A few parameters are cheap as scalars, and their statistics cost no more than one pass over the rows.
_FEW_PARAMS = 4
_MOST_SCALARS = 8  # parameters, or numbers in a row of x, on the path of scalars
_MANY_MEMBERS = 64  # from here on members fill the vector registers
_TILE = 8  # rows that LLVM unrolls; of 16 it makes a loop, and then the members are not on the vector unit
_MOST_TILES = 4  # tiles to an iteration of the loop over rows


class MinibatchRisk(NamedTuple):
    """Loss and gradient of minibatches.

    Attributes:
        batches: ``batches(data, plan)``, a pytree with a leading axis of steps.
        value_and_grad: ``value_and_grad(params, batch)``.
        scan: the ``lax.scan`` that suits them.
    """

    batches: Callable[[Dataset, Plan], Any]
    value_and_grad: Callable[[Params, Any], tuple[Array, Params]]
    scan: Callable[..., Any]


def minibatch_risk(
    model: Model | Apply, loss: Loss, params: Params, data: Dataset, batch_size: int, *, reduction: str
) -> MinibatchRisk:
    """The fastest way for this problem, from what is known when it is traced.

    All but the plain one take the rows apart, which only a model and a loss that say so allow.
    """
    risk = batch_risk(model, loss, reduction=reduction)
    plain = MinibatchRisk(gather, jax.value_and_grad(risk), lax.scan)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves((params, data))}
    # The sums of all are one reduction, of one dtype; of half-precision numbers XLA's own has more digits.
    if not (is_rowwise(model) and is_elementwise(loss)) or len(dtypes) > 1 or jnp.finfo(data.y.dtype).bits < 32:
        return plain
    size, in_a_row = sum(leaf.size for leaf in jax.tree.leaves(params)), data.x.size // data.x.shape[0]
    is_quadratic = kind_of(loss) is Kind.SQUARED and _statistics_pay(size, batch_size)
    if is_quadratic and isinstance(model, Model) and model.features:
        # The statistics never call the model, so what does not fit it would pass in silence.
        _checks.shape("the model's prediction", jax.eval_shape(apply_of(model), params, data.x), data.y.shape)
        return _from_statistics(model, params, data, reduction)
    if max(size, in_a_row) > _MOST_SCALARS or _members.num_members() < _MANY_MEMBERS:
        return plain
    # A threshold of another dtype makes a loss of another.
    return _row_by_row(model, loss, data, reduction) if jax.eval_shape(risk, params, data).dtype in dtypes else plain


def _statistics_pay(size: int, batch_size: int) -> bool:
    """Whether a step on statistics is cheaper: (p + 1)² products, and as many per row once for all that share them."""
    return size <= _FEW_PARAMS or (size + 1) ** 2 * (1 + batch_size / _members.num_sharing()) < 2 * batch_size * size


def _from_statistics(model: Model, params: Params, data: Dataset, reduction: str) -> MinibatchRisk:
    """The squared loss of a model linear in its parameters is a quadratic, known by the Gram matrix of its minibatch.

    With features Z, residuals r = y - Z ref at a reference and G = [Z, r] of q = p + 1 columns, the loss is ½ uᵀ M u
    for M = GᵀWG / ΣW and u = [params - ref, -1]. The reference is near least squares, so that nothing large cancels
    at the optimum.
    """
    assert model.features is not None
    features = model.features
    reference = lax.stop_gradient(_near_least_squares(features(data.x), data))
    unravel = ravel_pytree(params)[1]

    def batches(data: Dataset, plan: Plan) -> Float[Array, "steps q q"]:
        columns = features(data.x)
        _checks.shape("features(x)", columns, (data.y.shape[0], len(reference)))
        residual = data.y - jnp.matmul(columns, reference, precision=lax.Precision.HIGHEST)
        rows = gather(data._replace(x=jnp.column_stack([columns, residual])), plan)
        assert rows.weight is not None
        weighted = rows.weight[..., None] * rows.x
        gram = jnp.einsum("sbi,sbj->sij", weighted, rows.x, precision=lax.Precision.HIGHEST)
        return gram / _total(rows.weight, reduction)[:, None, None]

    def value_and_grad(params: Params, gram: Float[Array, "q q"]) -> tuple[Float[Array, ""], Params]:
        offset = jnp.append(ravel_pytree(params)[0] - reference, -1)
        # The Gram matrix is symmetric, and members come first in a product from the left as in the parameters.
        slope = jnp.matmul(offset, gram, precision=lax.Precision.HIGHEST)
        value = jnp.vdot(offset, slope, precision=lax.Precision.HIGHEST) / 2
        # Infinities of either sign are in the sum before the loss itself is one; rounding may take a zero below zero.
        value = jnp.where(jnp.isfinite(value), jnp.where(value < 0, 0, value), gram[-1, -1] + jnp.inf)
        return value, unravel(slope[:-1])

    few = len(reference) <= _MOST_SCALARS
    return MinibatchRisk(batches, value_and_grad, _scalars.scan if few else lax.scan)


def _near_least_squares(columns: Float[Array, "n p"], data: Dataset) -> Float[Array, "p"]:
    """Parameters near the least squares of all rows, wherever there are finite ones; zero otherwise.

    And zero for a column whose squares leave the range of floats: the loss at a distance y/x would be lost with them.
    """
    root_weight = jnp.ones_like(data.y) if data.weight is None else jnp.sqrt(data.weight)
    rows, limits = root_weight[None] * columns.T, jnp.finfo(columns.dtype)
    solution = least_squares(rows, root_weight * data.y)
    seen = jnp.square(rows).sum(axis=1) > limits.tiny / limits.eps
    return jnp.where(jnp.isfinite(solution).all() & seen, solution, 0)


def _row_by_row(model: Model | Apply, loss: Loss, data: Dataset, reduction: str) -> MinibatchRisk:
    """A loop over the rows, members side by side: the gradient of a row is a few scalars and needs no memory."""
    apply, row_shape, size = apply_of(model), data.x.shape[1:], data.x.size // data.x.shape[0]

    def batches(data: Dataset, plan: Plan) -> Float[Array, "steps groups tiles rows columns"]:
        """The columns are [x…, y, weight], the weights divided by what the sum is."""
        steps, batch_size = plan.indices.shape
        tiles = -(-batch_size // _TILE)
        group = min(tiles, _MOST_TILES)
        filling = ((0, 0), (0, -batch_size % (group * _TILE)))
        filled = Plan(jnp.pad(plan.indices, filling, mode="edge"), jnp.pad(plan.weights, filling))
        rows = gather(data, filled)
        assert rows.weight is not None
        weight = rows.weight / _total(rows.weight, reduction)[:, None]
        columns = [rows.x.reshape(*rows.y.shape, -1), rows.y[..., None], weight[..., None]]
        return jnp.concatenate(columns, axis=-1).reshape(steps, -1, group, _TILE, columns[0].shape[-1] + 2)

    def of_row(params: Params, row: Float[Array, "columns"]) -> Float[Array, ""]:
        x, y, weight = (lax.slice_in_dim(row, *span) for span in ((0, size), (size, size + 1), (size + 1, size + 2)))
        each = loss(apply(params, x.reshape(1, *row_shape)), y)
        _checks.shape("the loss of the rows", each, (1,))
        return jnp.where(weight > 0, weight * each, 0).reshape(())

    def value_and_grad(
        params: Params, batch: Float[Array, "groups tiles rows columns"]
    ) -> tuple[Float[Array, ""], Params]:
        def of_group(tiles: Float[Array, "tiles rows columns"]) -> Any:
            return _scalars.sum_over_rows(jax.value_and_grad(of_row), params, tiles)

        if batch.shape[0] == 1:
            return of_group(batch[0])
        zero = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), jax.eval_shape(of_group, batch[0]))
        return _scalars.scan(
            lambda sums, tiles: (jax.tree.map(jnp.add, sums, of_group(tiles)), None), zero, batch, ahead=True
        )[0]

    return MinibatchRisk(batches, value_and_grad, functools.partial(_scalars.scan, ahead=True))


def _total(weight: Float[Array, "steps b"], reduction: str) -> Float[Array, "steps"]:
    """What the sum over a batch is divided by. Without any row the mean is 0, not 0/0."""
    total = weight.sum(axis=-1)
    return jnp.where(total > 0, total, 1) if reduction == "mean" else jnp.ones_like(total)
