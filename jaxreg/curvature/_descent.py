"""Gradient descent on a quadratic, known from its Hessian before it is run.

It moves along each eigenvector on its own, by 1 - learning_rate·λ a step; that is all that the predictions use.

Source: B. Polyak, Introduction to Optimization (1987), section 1.4.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from jaxreg import _checks
from jaxreg._shapes import Float
from jaxreg.curvature._derivatives import Objective, flat_of, gradient, hessian
from jaxreg.curvature._spectrum import critical_of
from jaxreg.models import Params


class TrainingPrediction(NamedTuple):
    """What a quadratic's eigenvalues say about gradient descent on it; p modes in order of rising eigenvalue.

    Attributes:
        learning_rate: scalar, of the descent.
        eigenvalues: (p,), λ.
        decay: (p,), 1 - learning_rate·λ, the factor of each mode's amplitude a step; below -1 it grows.
        excess_loss: (p,), λ·amplitude²/2, each mode's share of the loss above its minimum at the start.
        minimum_loss: scalar, the objective at its minimum.
        critical_learning_rate: scalar, 2/λmax.
        best_learning_rate: scalar, 2/(λmin + λmax), for which the slowest mode decays fastest.
        steps: scalar, the step count from which on the excess loss stays at most the tolerance; infinite if there is
            none.
        epochs: scalar, steps / steps_per_epoch.
    """

    learning_rate: Array
    eigenvalues: Array
    decay: Array
    excess_loss: Array
    minimum_loss: Array
    critical_learning_rate: Array
    best_learning_rate: Array
    steps: Array
    epochs: Array

    def loss(self, steps: ArrayLike) -> Array:
        """The predicted loss after any numbers of steps, shaped like ``steps``."""
        return self.minimum_loss + _excess(self, jnp.asarray(steps))


def predict_training(
    objective: Objective,
    params: Params,
    *args: Any,
    learning_rate: ArrayLike,
    tolerance: ArrayLike = 1e-4,
    steps_per_epoch: int = 1,
) -> TrainingPrediction:
    """Predict gradient descent from ``params`` before it is run: exact for a quadratic and full batches.

    With H = V diag(λ) Vᵀ and aᵢ = vᵢᵀ∇f/λᵢ, the loss after k steps is f_min + ½ Σ λᵢ aᵢ² (1 - learning_rate·λᵢ)²ᵏ.
    Minibatches of a small learning rate follow it but for their noise. A slope in a direction that does not curve
    upwards has no minimum to reach: minimum_loss is -inf and steps inf.

    Args:
        objective: ``objective(params, *args) -> scalar``, quadratic in params.
        params: the start.
        args: the objective's other arguments.
        learning_rate: of plain gradient descent; may be traced.
        tolerance: the excess loss above the minimum that counts as done, in units of the objective.
        steps_per_epoch: steps counted as an epoch, static.

    Returns:
        TrainingPrediction. It needs the Hessian: p² numbers.

    >>> bowl = lambda p: p[0] ** 2 / 2 + 5 * p[1] ** 2
    >>> prediction = predict_training(bowl, jnp.ones(2), learning_rate=0.1, tolerance=1e-4)
    >>> print(prediction.decay, prediction.steps)
    [0.9 0. ] 41.0
    >>> print(0.5 * 0.9 ** (2 * 40) > 1e-4 > 0.5 * 0.9 ** (2 * 41))
    True
    """
    steps_per_epoch = _checks.count("steps_per_epoch", steps_per_epoch, least=1)
    flat, unravel = flat_of(params)
    eigenvalues, vectors = jnp.linalg.eigh(hessian(objective, params, *args))
    slope = vectors.T @ ravel_pytree(gradient(objective, params, *args))[0]
    floor = flat.size * jnp.finfo(eigenvalues.dtype).eps * jnp.abs(eigenvalues).max()
    curved = eigenvalues > floor
    noise = 4 * floor * jnp.linalg.norm(flat) + 4 * flat.size * jnp.finfo(slope.dtype).eps * jnp.linalg.norm(slope)
    sloped = jnp.abs(slope) > noise  # what rounding leaves of a gradient that is zero
    minimum = flat - vectors @ jnp.where(curved, slope / jnp.where(curved, eigenvalues, 1), 0)
    # In this order, because the square of a slope may leave the range of floats.
    share = 0.5 * slope * (slope / jnp.where(curved, eigenvalues, 1))
    share = jnp.where(curved, share, jnp.where(sloped, jnp.inf, 0))
    prediction = TrainingPrediction(
        learning_rate=jnp.asarray(learning_rate, eigenvalues.dtype),
        eigenvalues=eigenvalues,
        decay=1 - learning_rate * eigenvalues,
        excess_loss=share,
        # Not the loss here less the excess: that cancels where the start is far.
        minimum_loss=jnp.where(jnp.isinf(share).any(), -jnp.inf, objective(unravel(minimum), *args)),
        critical_learning_rate=critical_of(eigenvalues[-1]),
        best_learning_rate=2 / (eigenvalues[0] + eigenvalues[-1]),
        steps=jnp.zeros(()),
        epochs=jnp.zeros(()),
    )
    steps = _first_below(lambda count: _excess(prediction, count), jnp.asarray(tolerance))
    return prediction._replace(steps=steps, epochs=steps / steps_per_epoch)


def epoch_map(objective: Objective, params: Params, batches: Any, *, learning_rate: ArrayLike) -> Float[Array, "p p"]:
    """The linear map of one epoch of gradient steps on a quadratic: the product of I - learning_rate·H_batch.

    After an epoch the distance to the map's fixed point is multiplied by it, so repeated epochs in the same order
    converge if and only if its ``spectral_radius`` is below 1, even where single steps grow.

    Args:
        objective: ``objective(params, batch) -> scalar``.
        params: the point at which the Hessians are taken (any, for a quadratic).
        batches: what ``objective`` takes, with a leading axis of steps, such as ``batching.gather`` returns.
        learning_rate: may be traced.

    Returns:
        The matrix, (p, p), the first step rightmost.

    >>> scale = jnp.array([1.0, 2.0])
    >>> epoch_map(lambda p, s: s * p @ p, jnp.ones(2), scale, learning_rate=0.1)
    Array([[0.48, 0.  ],
           [0.  , 0.48]], dtype=float32)
    """
    flat, _ = flat_of(params)
    identity = jnp.eye(flat.size, dtype=flat.dtype)

    def step(product: Float[Array, "p p"], batch: Any) -> tuple[Float[Array, "p p"], None]:
        return product - learning_rate * hessian(objective, params, batch) @ product, None

    return jax.lax.scan(step, identity, batches)[0]


def _excess(prediction: TrainingPrediction, steps: Array) -> Array:
    # Powers through logarithms, for counts too large to multiply; log1p keeps the digits of a slow rate.
    product = prediction.learning_rate * prediction.eigenvalues
    shrinks = product < 1
    grows = jnp.log(jnp.where(shrinks, 1, product - 1))
    log_decay = jnp.where(shrinks, jnp.log1p(-jnp.where(shrinks, product, 0)), grows)
    share = prediction.excess_loss

    def after(count: Array) -> Array:
        exponent = jnp.where(count > 0, 2 * count * log_decay, 0)
        return jnp.where(share != 0, share * jnp.exp(exponent), 0).sum()

    return jnp.vectorize(after)(steps.astype(share.dtype))


def _first_below(excess: Callable[[Array], Array], tolerance: Float[Array, ""]) -> Float[Array, ""]:
    """The first count at which a decreasing function is within the tolerance, by bisection over whole numbers."""
    most = jnp.asarray(2.0**62)

    def halve(_: Array | int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends  # above the tolerance at low, within it at high
        middle = jnp.floor((low + high) / 2)
        within = excess(middle) <= tolerance
        return jnp.where(within, low, middle), jnp.where(within, middle, high)

    _, high = jax.lax.fori_loop(0, 63, halve, (jnp.zeros_like(most), most))
    first = jnp.where(excess(jnp.zeros_like(most)) <= tolerance, 0, high)
    return jnp.where(excess(most) <= tolerance, first, jnp.inf)
