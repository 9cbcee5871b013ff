"""Laws of the losses, for residuals and thresholds over the whole range of floats."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays

from jaxreg import losses

pytestmark = pytest.mark.usefixtures("x64_module")
COUNT = 8  # residuals at once: one shape, one program
TINY = float(np.finfo(np.float32).tiny)
NAMES = ("squared", "absolute", "huber", "pseudo_huber", "log_cosh", "quantile", "cauchy", "tukey")
BOUNDED = ("absolute", "huber", "pseudo_huber", "quantile", "cauchy", "tukey")  # slopes, also at infinity
CONVEX = ("squared", "absolute", "huber", "pseudo_huber", "log_cosh", "quantile")
SCALED = ("huber", "pseudo_huber", "cauchy", "tukey")  # have a threshold in units of the target

Both = dict[str, np.ndarray]


def bound(name: str, delta: Any = 1.0, q: Any = 0.5) -> Callable[..., Any]:
    loss = getattr(losses, name)
    return partial(loss, delta=delta) if name in SCALED else partial(loss, q=q) if name == "quantile" else loss


@jax.jit
def compiled(residual: Any, delta: Any, q: Any) -> tuple[Any, Any]:
    """Value and slope of each loss at the target zero."""
    target = jnp.zeros_like(residual)

    def both(name: str) -> tuple[Any, Any]:
        loss = bound(name, delta, q)
        return loss(residual, target), jax.grad(lambda prediction: loss(prediction, target).sum())(residual)

    found = {name: both(name) for name in NAMES}
    return {name: value for name, (value, _) in found.items()}, {name: slope for name, (_, slope) in found.items()}


def losses_at(residual: Any, delta: Any = 1.0, q: Any = 0.5) -> tuple[Both, Both]:
    dtype = residual.dtype
    return jax.tree.map(np.asarray, compiled(residual, np.asarray(delta, dtype), np.asarray(q, dtype)))


def residuals(elements: Any, dtype: Any = np.float64) -> Any:
    return arrays.arrays(dtype, COUNT, elements=elements)


def signed(sizes: Any) -> Any:
    return st.builds(np.copysign, sizes, st.sampled_from([1.0, -1.0]))


# Every float32 but NaN, with infinities, zeros of both signs and numbers below the normal range.
anything = st.floats(width=32, allow_nan=False)
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
# Half the smallest is in the normal range; beyond the largest, delta·r leaves the range before r is far beyond delta.
thresholds = st.floats(2.0**-120, 2.0**48, width=32)
moderate = signed(st.floats(1e-3, 1e3))
levels = st.integers(1, 63).map(lambda number: number / 64)  # 1 - q is exact


@given(residuals(anything, np.float32), thresholds, levels)
def test_losses_are_not_negative_and_even(residual: np.ndarray, delta: float, q: float) -> None:
    values, slopes = losses_at(residual, delta, q)
    mirrored, turned = losses_at(-residual, delta, 1 - q)
    for name in NAMES:
        assert (values[name] >= 0).all(), name
        np.testing.assert_array_equal(values[name], mirrored[name], name)
        np.testing.assert_array_equal(slopes[name], -turned[name], name)


@given(st.sampled_from([0.0, -0.0]), residuals(finite, np.float32), thresholds, levels)
def test_losses_and_slopes_are_zero_at_zero_whatever_the_others_are(
    zero: float, residual: np.ndarray, delta: float, q: float
) -> None:
    residual[::2] = zero
    for found in losses_at(residual, delta, q):
        for name in NAMES:
            np.testing.assert_array_equal(found[name][::2], 0, name)


@given(residuals(anything, np.float32), thresholds, levels)
def test_slopes_are_finite_and_point_away_from_zero(residual: np.ndarray, delta: float, q: float) -> None:
    _, slopes = losses_at(residual, delta, q)
    for name in NAMES:
        seen = np.ones(COUNT, bool) if name in BOUNDED else np.isfinite(residual)
        assert np.isfinite(slopes[name][seen]).all(), name
        # Tukey's slope at the threshold is a sum that cancels to the rounding of the residual.
        slack = 4 * np.finfo(np.float32).eps * abs(residual)
        assert (slopes[name] * np.sign(residual) >= -slack)[seen].all(), name


@given(residuals(anything, np.float32), thresholds, levels)
def test_losses_grow_with_the_residual(residual: np.ndarray, delta: float, q: float) -> None:
    values, _ = losses_at(np.sort(abs(residual)), delta, q)
    for name in NAMES:
        # Each value is right to a few roundings; log cosh is a difference of numbers of the size of log 2.
        slack = 8 * np.finfo(np.float32).eps
        smaller, larger = values[name][:-1].astype(float), values[name][1:].astype(float)
        assert (smaller <= (1 + slack) * larger + slack * (name == "log_cosh")).all(), name


@given(residuals(anything, np.float32), thresholds)
def test_losses_of_one_threshold_stand_in_one_order(residual: np.ndarray, delta: float) -> None:
    """(1 - u²)²·u ≤ u/(1 + u²) ≤ u/√(1 + u²) ≤ min(u, 1) ≤ u, and so do their integrals."""
    slack = 8 * np.finfo(np.float32).eps  # a few roundings
    for power, found in zip((2, 1), losses_at(residual, delta), strict=True):
        least = TINY * (1 + delta) ** power  # residual and ratio may be zero to XLA
        chain = [abs(found[name].astype(float)) for name in ("tukey", "cauchy", "pseudo_huber", "huber", "squared")]
        for smaller, larger in itertools.pairwise(chain):
            assert (smaller <= (1 + slack) * larger + least).all()


@given(residuals(anything, np.float32))
def test_log_cosh_is_between_the_two_hubers_of_threshold_one(residual: np.ndarray) -> None:
    """u/√(1 + u²) ≤ tanh u ≤ min(u, 1), and so do their integrals."""
    slack = 8 * np.finfo(np.float32).eps  # of numbers of the size of log 2, whose difference log cosh is
    for found in losses_at(residual):
        lower, value, upper = (abs(found[name].astype(float)) for name in ("pseudo_huber", "log_cosh", "huber"))
        assert (lower <= (1 + slack) * value + slack).all()
        assert (value <= (1 + slack) * upper + slack).all()


@given(residuals(finite, np.float32), thresholds)
def test_huber_is_its_two_branches(residual: np.ndarray, delta: float) -> None:
    values, slopes = losses_at(residual, delta)
    inside = abs(residual) <= np.float32(delta)
    # XLA may take what is below the normal range for zero.
    np.testing.assert_allclose(slopes["huber"][inside], slopes["squared"][inside], rtol=0, atol=TINY)
    np.testing.assert_array_equal(abs(slopes["huber"][~inside]), np.float32(delta))
    with np.errstate(over="ignore"):
        beyond = (delta * (abs(residual.astype(float)) - delta / 2)).astype(np.float32)
    eps = np.finfo(np.float32).eps
    np.testing.assert_allclose(values["huber"][inside], values["squared"][inside], rtol=2 * eps, atol=TINY)  # rounding
    np.testing.assert_allclose(values["huber"][~inside], beyond[~inside], rtol=2 * eps, atol=TINY)


@given(residuals(st.just(0.0) | moderate), st.floats(1e-3, 1e3), st.integers(-40, 40))
def test_other_units_of_the_target_change_no_digit(residual: np.ndarray, delta: float, exponent: int) -> None:
    """ρ(c·r; c·delta) = c²·ρ(r; delta): to the last bit for a power of two."""
    unit = 2.0**exponent
    values, slopes = losses_at(residual, delta)
    other_values, other_slopes = losses_at(unit * residual, unit * delta)
    for name in (*SCALED, "squared", "absolute", "quantile"):
        power = 1 if name in ("absolute", "quantile") else 2
        np.testing.assert_array_equal(other_values[name], unit**power * values[name], name)
        np.testing.assert_array_equal(other_slopes[name], unit ** (power - 1) * slopes[name], name)


@given(residuals(moderate), residuals(moderate), st.floats(1e-3, 1e3), levels)
def test_convex_losses_lie_above_their_tangents(
    residual: np.ndarray, other: np.ndarray, delta: float, q: float
) -> None:
    values, slopes = losses_at(residual, delta, q)
    elsewhere, _ = losses_at(other, delta, q)
    for name in CONVEX:
        rise = slopes[name] * (other - residual)
        rounding = 1e-15 * (1 + values[name] + elsewhere[name] + abs(rise))
        assert (elsewhere[name] >= values[name] + rise - rounding).all(), name


@given(residuals(moderate), st.floats(1e-2, 1e2), levels)
def test_slopes_are_central_differences(residual: np.ndarray, delta: float, q: float) -> None:
    step = 1e-5 * delta
    residual = np.where(abs(abs(residual) - delta) < 2 * step, 1.5 * residual, residual)  # away from the kinks
    residual = np.where(abs(residual) < 2 * step, 1.0, residual)
    values, slopes = losses_at(residual, delta, q)
    (above, _), (below, _) = (losses_at(residual + sign * step, delta, q) for sign in (1, -1))
    for name in NAMES:
        # The third derivatives are at most about 10/delta, or 1 for log cosh; a value is right to a few eps.
        rounding = 1e-15 * (values[name] + abs(residual * slopes[name]) + (name == "log_cosh")) / step
        tolerance = step**2 * (10 / delta + 1) + rounding
        assert (abs((above[name] - below[name]) / (2 * step) - slopes[name]) <= tolerance).all(), name


@given(residuals(anything, np.float32), thresholds, levels, st.permutations(range(COUNT)))
def test_losses_are_elementwise(residual: np.ndarray, delta: float, q: float, order: Any) -> None:
    for found, other in zip(losses_at(residual, delta, q), losses_at(residual[order], delta, q), strict=True):
        for name in NAMES:
            np.testing.assert_allclose(other[name], found[name][order], rtol=1e-6, err_msg=name)  # a few roundings


@partial(jax.jit, static_argnames="name")
def reweighted(name: str, residual: Any, delta: Any, floor: Any) -> tuple[Any, Any]:
    """The weights, and the slope of the squared loss under them."""
    target = jnp.zeros_like(residual)
    weight = losses.irls_weight(bound(name, delta), residual, target, floor=floor)
    return weight, jax.grad(lambda prediction: (weight * losses.squared(prediction, target)).sum())(residual)


@given(
    st.sampled_from(["absolute", "huber", "tukey"]),
    residuals(st.just(0.0) | moderate),
    st.floats(1e-2, 1e2),
    st.floats(1e-4, 1e2),
)
def test_the_squared_loss_under_irls_weights_has_the_losss_own_slope(
    name: str, residual: np.ndarray, delta: float, floor: float
) -> None:
    weight, slope = reweighted(name, residual, delta, floor)
    wanted = losses_at(residual, delta)[1][name]
    above = abs(residual) >= floor
    # A few roundings, of the residual too: near its threshold Tukey's slope is a sum that cancels.
    rounding = 1e-14 * abs(wanted) + 1e-15 * abs(residual)
    assert (abs(slope - wanted) <= rounding)[above].all()
    assert (abs(weight * floor - abs(wanted)) <= rounding)[~above].all()


@given(st.sampled_from(NAMES), arrays.array_shapes(min_dims=0, max_dims=3, max_side=3), st.data())
def test_two_shapes_are_refused_however_they_would_broadcast(name: str, shape: tuple[int, ...], data: Any) -> None:
    other = data.draw(arrays.broadcastable_shapes(shape, max_dims=3, max_side=3))
    prediction, target = (jax.ShapeDtypeStruct(one, float) for one in (shape, other))
    if shape == other:
        assert jax.eval_shape(bound(name), prediction, target).shape == shape
        return
    with pytest.raises(ValueError, match="prediction and target must have the same shape") as refused:
        jax.eval_shape(bound(name), prediction, target)
    assert str(refused.value).endswith(f"got {shape} and {other}")
