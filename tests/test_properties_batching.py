"""Laws of minibatches, for any data, sizes and orders."""

from functools import partial
from typing import Any, NamedTuple

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import example, given, settings
from hypothesis.extra import numpy as arrays

import jaxreg
from jaxreg import batching, losses, models
from jaxreg.data import Dataset

pytestmark = pytest.mark.usefixtures("x64_module")
FEW = settings(max_examples=settings.default.max_examples // 3)  # for those that compile a program for each shape
OHM = models.ohm()
RATE = 0.001  # times 3 rows of weight 3 and 10² below 1: no step amplifies rounding
WORDS = ("reshuffled", "shuffled", "sequential")
numbers = st.floats(-10, 10, allow_subnormal=False)


class Case(NamedTuple):
    """An epoch's order of the rows and how it is cut."""

    order: np.ndarray
    batch_size: int
    remainder: str

    @property
    def used(self) -> np.ndarray:
        """The rows that take part, in order."""
        rest = len(self.order) % self.batch_size if self.remainder == "drop" else 0
        return self.order[: len(self.order) - rest]


@st.composite
def cases(draw: Any) -> Case:
    num_rows = draw(st.integers(1, 9))
    order = np.array(draw(st.permutations(range(num_rows))))
    return Case(order, draw(st.integers(1, num_rows)), draw(st.sampled_from(batching.REMAINDERS)))


def rows_of(draw: Any, num_rows: int) -> Dataset:
    """Rows of any numbers. Some, but not the first, count for nothing, and hold what must not be computed with."""
    x, y = (draw(arrays.arrays(float, num_rows, elements=numbers)) for _ in "xy")
    weight = draw(arrays.arrays(float, num_rows, elements=st.sampled_from([0.0, 0.5, 1.0, 3.0])))
    weight[0] = 1
    nothing = draw(st.sampled_from([0.0, np.nan, np.inf]))
    return Dataset(np.where(weight > 0, x, nothing), np.where(weight > 0, y, nothing), weight)


@partial(jax.jit, static_argnames=("batch_size", "remainder"))
def cut(order: Any, data: Any, batch_size: int, remainder: str) -> tuple[batching.Plan, Dataset]:
    plan = batching.minibatches(order, batch_size, remainder=remainder)
    return plan, batching.gather(data, plan)


@FEW
@given(cases(), st.data())
def test_an_epoch_holds_the_rows_that_it_should_once_and_in_order(case: Case, data: Any) -> None:
    rows = rows_of(data.draw, len(case.order))
    plan, batches = cut(case.order, rows, case.batch_size, case.remainder)
    real = np.asarray(plan.weights) > 0
    np.testing.assert_array_equal(np.asarray(plan.indices)[real], case.used)
    # Only the last batch is filled up, and what fills it are rows that exist.
    assert len(real) == batching.steps_per_epoch(len(case.order), case.batch_size, case.remainder)
    np.testing.assert_array_equal(real.ravel(), np.arange(real.size) < len(case.used))
    np.testing.assert_array_equal(plan.weights, real)
    np.testing.assert_array_equal(batches.x, rows.x[plan.indices])
    np.testing.assert_array_equal(batches.y, rows.y[plan.indices])
    np.testing.assert_array_equal(batches.weight, np.where(real, rows.weight[plan.indices], 0))


@FEW
@given(cases(), st.data())
def test_rows_under_other_numbers_make_the_same_batches(case: Case, data: Any) -> None:
    rows = rows_of(data.draw, len(case.order))
    numbering = np.array(data.draw(st.permutations(range(len(case.order)))))
    renumbered = jax.tree.map(lambda leaf: leaf[numbering], rows)
    options = case.batch_size, case.remainder
    jax.tree.map(
        np.testing.assert_array_equal,
        cut(case.order, renumbered, *options)[1],
        cut(numbering[case.order], rows, *options)[1],
    )


def risk_of(rows: Dataset, used: Any, loss: Any) -> float:
    """Σ weight·loss at the resistance 0.5."""
    used = np.arange(len(rows.y))[used][rows.weight[used] > 0]
    weight, residual = rows.weight[used], abs(0.5 * rows.x[used] - rows.y[used])
    slope = residual if loss is losses.squared else np.minimum(residual, 1)
    return float(weight @ (slope * (residual - slope / 2)))


# Nine rows of weight up to 3 have residuals up to 15, whose squares are right to 15²·eps = 5e-14.
ROUNDING = {"rtol": 1e-12, "atol": 1e-11}


@partial(jax.jit, static_argnames=("loss", "batch_size", "remainder"))
def risks(order: Any, data: Any, loss: Any, batch_size: int, remainder: str) -> tuple[Any, Any]:
    """The risk of each minibatch, as a sum and as a mean."""
    batches = batching.gather(data, batching.minibatches(order, batch_size, remainder=remainder))
    params = {"resistance": 0.5}
    return tuple(
        jax.vmap(partial(jaxreg.empirical_risk(OHM, loss, reduction=reduction), params))(batches)
        for reduction in ("sum", "mean")
    )


@FEW
@given(cases(), st.sampled_from([losses.squared, losses.huber]), st.data())
def test_the_risks_of_the_batches_add_up_to_the_risk_of_the_rows(case: Case, loss: Any, data: Any) -> None:
    rows = rows_of(data.draw, len(case.order))
    sums, means = risks(case.order, rows, loss, case.batch_size, case.remainder)
    weight = np.append(rows.weight[case.used], np.zeros(-len(case.used) % case.batch_size))
    np.testing.assert_allclose(sums.sum(), risk_of(rows, case.used, loss), **ROUNDING)
    # A batch without weight has the mean 0.
    np.testing.assert_allclose(means * weight.reshape(-1, case.batch_size).sum(axis=1), sums, **ROUNDING)


@partial(jax.jit, static_argnames=("word", "num_rows"))
def orders(key: Any, word: str, num_rows: int) -> Any:
    return jax.vmap(batching.epoch_order(word, num_rows, key))(jnp.arange(6)), batching.epoch_order(
        word, num_rows, key
    )(5)


@FEW
@given(st.sampled_from(WORDS), st.sampled_from([1, 40]), st.integers(0, 2**32 - 1))
def test_every_epoch_is_a_permutation_of_the_rows_that_no_other_epoch_decides(
    word: str, num_rows: int, seed: int
) -> None:
    found, alone = orders(jax.random.key(seed), word, num_rows)
    np.testing.assert_array_equal(np.sort(found, axis=1), np.broadcast_to(np.arange(num_rows), found.shape))
    np.testing.assert_array_equal(found[5], alone)
    different = len(np.unique(found, axis=0))
    assert different == 1 or word == "reshuffled"
    if word == "reshuffled" and num_rows > 1:  # two of 40! orders are not the same by chance
        assert different == 6


@given(st.sampled_from([(5,), (0, 5), (3, 5)]), st.data())
def test_orders_are_taken_as_given_and_refused_where_they_leave_the_rows(shape: tuple[int, ...], data: Any) -> None:
    rows = data.draw(arrays.arrays(np.int64, shape, elements=st.integers(-1, 5)))
    if ((rows < 0) | (rows == 5)).any():
        with pytest.raises(ValueError, match=r"order must be between 0 and 4, got (-1|5) at index"):
            batching.epoch_order(rows, 5, jax.random.key(0))
        return
    order_of = batching.epoch_order(rows, 5, jax.random.key(0))
    for epoch in range(3 if len(rows) else 0):
        np.testing.assert_array_equal(order_of(epoch), rows if rows.ndim == 1 else rows[epoch])


@given(st.integers(1, 30), st.data())
def test_sorted_orders_are_stable_sorts(num_rows: int, data: Any) -> None:
    few = st.sampled_from([-1.0, 0.0, 0.5, 2.0])  # many ties
    values = data.draw(arrays.arrays(float, 30, elements=few))
    values[num_rows:] = 3
    np.testing.assert_array_equal(sorted_order(values), np.argsort(values, kind="stable"))


sorted_order = jax.jit(batching.sorted_order)

NUM_ROWS, EPOCHS = 7, 2


@partial(jax.jit, static_argnames=("loss", "batch_size"))
def trained(learning_rate: Any, data: Any, order: Any, loss: Any, batch_size: int) -> jaxreg.Training:
    return jaxreg.train(
        OHM, loss, data, optimizer=optax.sgd(learning_rate), epochs=EPOCHS, batch_size=batch_size, order=order,
        key=jax.random.key(0), params={"resistance": 0.5}, reduction="sum",
    )  # fmt: skip


@st.composite
def trainings(draw: Any) -> tuple[Dataset, np.ndarray]:
    order = np.array([draw(st.permutations(range(NUM_ROWS))) for _ in range(EPOCHS)])
    return rows_of(draw, NUM_ROWS), order


kinds = pytest.mark.parametrize(("loss", "batch_size"), [(losses.squared, 3), (losses.huber, 3), (losses.squared, 1)])


FAINT = Dataset(1e-280 * np.arange(1.0, NUM_ROWS + 1), np.ones(NUM_ROWS), np.ones(NUM_ROWS))


@kinds
@example(training=(FAINT, np.array([range(NUM_ROWS)] * EPOCHS)))  # the squares of x are zero, those of y are not
@given(training=trainings())
def test_training_that_stands_still_reports_the_risk_of_all_rows_in_each_epoch(
    loss: Any, batch_size: int, training: tuple[Dataset, np.ndarray]
) -> None:
    rows, order = training
    found = trained(0.0, rows, order, loss, batch_size)
    assert int(found.status) == 0
    whole = risk_of(rows, slice(None), loss)
    np.testing.assert_allclose(found.train_loss.reshape(EPOCHS, -1).sum(axis=1), [whole] * EPOCHS, **ROUNDING)


@kinds
@given(training=trainings(), numbering=st.permutations(range(NUM_ROWS)))
def test_training_does_not_see_how_the_rows_are_numbered(
    loss: Any, batch_size: int, training: tuple[Dataset, np.ndarray], numbering: Any
) -> None:
    rows, order = training
    renumbered = jax.tree.map(lambda leaf: leaf[np.array(numbering)], rows)
    jax.tree.map(
        partial(np.testing.assert_allclose, **ROUNDING),
        trained(RATE, renumbered, order, loss, batch_size),
        trained(RATE, rows, np.array(numbering)[order], loss, batch_size),
    )
