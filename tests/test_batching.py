import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import batching
from jaxreg.data import Dataset

KEY = jax.random.key(0)
WORDS = ("reshuffled", "shuffled", "sequential")


def rows_of(plan):
    """The real rows, in order."""
    return np.asarray(plan.indices)[np.asarray(plan.weights) > 0]


@pytest.mark.parametrize(("num_rows", "batch_size"), [(1000, 32), (7, 7), (7, 1), (7, 3), (8, 4)])
def test_kept_batches_hold_every_row_once_and_in_order(num_rows, batch_size):
    order = jax.random.permutation(KEY, num_rows)
    plan = batching.minibatches(order, batch_size)
    np.testing.assert_array_equal(rows_of(plan), order)
    sizes = np.asarray(plan.weights.sum(axis=1))
    assert len(sizes) == batching.steps_per_epoch(num_rows, batch_size) == -(-num_rows // batch_size)
    assert (sizes[:-1] == batch_size).all()
    assert sizes[-1] == (num_rows % batch_size or batch_size)


def test_the_exercises_have_a_last_batch_of_eight():
    assert batching.minibatches(jnp.arange(1000), 32).weights[-1].sum() == 8


@pytest.mark.parametrize(("num_rows", "batch_size"), [(1000, 32), (7, 3), (8, 4)])
def test_dropped_batches_are_all_full(num_rows, batch_size):
    plan = batching.minibatches(jnp.arange(num_rows), batch_size, remainder="drop")
    assert (plan.weights == 1).all()
    assert len(plan.weights) == batching.steps_per_epoch(num_rows, batch_size, "drop") == num_rows // batch_size
    np.testing.assert_array_equal(rows_of(plan), np.arange(num_rows // batch_size * batch_size))


def test_plans_are_the_same_eagerly_jitted_and_vectorised(variant):
    got = variant(lambda order: batching.minibatches(order, 3))(jnp.arange(7))
    np.testing.assert_array_equal(got.indices, [[0, 1, 2], [3, 4, 5], [6, 6, 6]])
    np.testing.assert_array_equal(got.weights, [[1, 1, 1], [1, 1, 1], [1, 0, 0]])


@pytest.mark.parametrize("word", WORDS)
def test_every_epoch_sees_every_row(word, variant):
    got = variant(lambda key, epoch: batching.epoch_order(word, 20, key)(epoch))(KEY, jnp.int32(3))
    np.testing.assert_array_equal(np.sort(got), np.arange(20))


def test_orders_differ_as_their_names_say():
    first, second = ({word: batching.epoch_order(word, 20, KEY)(epoch) for word in WORDS} for epoch in (0, 1))
    assert (first["reshuffled"] != second["reshuffled"]).any()
    assert (first["shuffled"] == second["shuffled"]).all()
    assert (first["shuffled"] != jnp.arange(20)).any()
    assert (first["sequential"] == jnp.arange(20)).all()
    assert (second["sequential"] == jnp.arange(20)).all()


def test_given_rows_are_taken_for_all_epochs_or_for_each():
    once, each = np.array([2, 0, 1]), np.array([[2, 0, 1], [0, 0, 1]])
    np.testing.assert_array_equal(batching.epoch_order(once, 3, KEY)(1), once)
    np.testing.assert_array_equal(batching.epoch_order(each, 3, KEY)(1), each[1])


def test_sorting_is_stable(variant):
    values = np.array([3.0, 1.0, 3.0, 1.0, 2.0])
    np.testing.assert_array_equal(variant(batching.sorted_order)(values), np.argsort(values, stable=True))


def test_the_adversary_puts_large_rows_first(variant):
    features = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    got = variant(batching.adversarial_order)(features)
    np.testing.assert_array_equal(got, np.argsort(-np.linalg.norm(features, axis=1)))


def test_the_adversary_takes_one_feature():
    np.testing.assert_array_equal(batching.adversarial_order(jnp.array([1.0, -5.0, 3.0])), [1, 2, 0])


def test_gathered_batches_carry_rows_and_weights():
    rows = Dataset(jnp.arange(10.0).reshape(5, 2), jnp.arange(5.0), jnp.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    batches = batching.gather(rows, batching.minibatches(jnp.array([4, 3, 2, 1, 0]), 2))
    np.testing.assert_array_equal(batches.y, [[4, 3], [2, 1], [0, 0]])
    np.testing.assert_array_equal(batches.x[:, :, 0], 2 * batches.y)
    np.testing.assert_array_equal(batches.weight, [[5, 4], [3, 2], [1, 0]])


BAD_CALLS = {
    "batch of none": (lambda: batching.minibatches(jnp.arange(5), 0), "batch_size must be at least 1, got 0"),
    "batch too large": (lambda: batching.minibatches(jnp.arange(5), 6), "batch_size must be at most 5, got 6"),
    "batch not whole": (lambda: batching.minibatches(jnp.arange(5), 2.5), "batch_size must be a whole number, got 2.5"),
    "remainder": (
        lambda: batching.minibatches(jnp.arange(5), 2, remainder="pad"),
        "remainder must be one of 'keep', 'drop', got 'pad'",
    ),
    "word": (lambda: batching.epoch_order("random", 5, KEY), r"order must be one of 'reshuffled', .*, got 'random'"),
    "length": (
        lambda: batching.epoch_order(jnp.arange(4), 5, KEY),
        r"order must have shape \(5,\) or \(epochs, 5\), got \(4,\)",
    ),
    "floats": (lambda: batching.epoch_order(jnp.arange(5.0), 5, KEY), "order must hold integers, got float32"),
    "range": (
        lambda: batching.epoch_order(jnp.arange(5) + 1, 5, KEY),
        "order must be between 0 and 4, got 5 at index 4",
    ),
    "sort key": (lambda: batching.sorted_order(jnp.ones((3, 2))), r"values must have shape \(3,\), got \(3, 2\)"),
}


@pytest.mark.parametrize(("call", "message"), BAD_CALLS.values(), ids=BAD_CALLS.keys())
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_traced_batch_size_is_told_where_to_go():
    with pytest.raises(ValueError, match=r"batch_size fixes shapes.*put it in static="):
        jax.jit(lambda size: batching.minibatches(jnp.arange(5), size))(2)
