"""Minibatch training against plain NumPy loops, closed forms and central differences."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxreg
from jaxreg import losses, models
from jaxreg.data import Dataset
from jaxreg.status import Status
from jaxreg.training import _train

LINE = models.linear(2)
SGD = optax.sgd(0.1)
STEPS = 6  # 20 rows in batches of 8, 8 and 4, twice


def small(dtype: Any = np.float32, *, weighted: bool = False, seed: int = 0) -> Dataset:
    """20 rows of y = 2 x₀ - 3.4 x₁ + 4.2 + 0.01 ε."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(20, 2))
    y = x @ [2.0, -3.4] + 4.2 + 0.01 * generator.normal(size=20)
    weight = generator.uniform(0.5, 2.0, size=20).astype(dtype) if weighted else None
    return Dataset(x.astype(dtype), y.astype(dtype), weight)


def start(dtype: Any = np.float32) -> dict[str, Any]:
    return {"w": np.array([0.5, -0.25], dtype), "b": np.array(1.0, dtype)}


def orders(epochs: int = 2, seed: int = 1) -> Any:
    """An order of the 20 rows for each epoch."""
    generator = np.random.default_rng(seed)
    return np.stack([generator.permutation(20) for _ in range(epochs)])


def train(rows: Dataset, model: Any = LINE, loss: Any = losses.squared, **options: Any) -> jaxreg.Training:
    """Two epochs of plain gradient descent in batches of 8, unless said otherwise."""
    defaults = {"optimizer": SGD, "epochs": 2, "batch_size": 8, "key": jax.random.key(0)}
    return jaxreg.train(model, loss, rows, **(defaults | options))


class Loop(NamedTuple):
    path: list[dict[str, Any]]  # the parameters before each step, and after the last
    losses: np.ndarray


def half_square(r: Any) -> Any:
    return r**2 / 2


def numpy_sgd(
    rows: Dataset,
    order: Any,
    *,
    learning_rate: float = 0.1,
    params: dict[str, Any] | None = None,
    batch_size: int = 8,
    drop: bool = False,
    mean: bool = True,
    cost: Callable[[Any], Any] = half_square,
    slope: Callable[[Any], Any] = lambda r: r,
) -> Loop:
    """The loop that a beginner would write, in the dtype of the rows."""
    dtype = rows.y.dtype.type
    params = start(dtype) if params is None else params
    weight = np.ones_like(rows.y) if rows.weight is None else rows.weight
    path, values = [params], []
    for row_numbers in order:
        stop = len(rows.y) // batch_size * batch_size if drop else len(rows.y)
        for first in range(0, stop, batch_size):
            batch = row_numbers[first : min(first + batch_size, stop)]
            x, share = rows.x[batch], weight[batch]
            if mean and share.sum() > 0:
                share = share / share.sum()
            residual = x @ params["w"] + params["b"] - rows.y[batch]
            values.append((share * cost(residual)).sum())
            pull = dtype(learning_rate) * share * slope(residual)
            params = {"w": params["w"] - pull @ x, "b": params["b"] - pull.sum()}
            path.append(params)
    return Loop(path, np.array(values))


def assert_trees_close(actual: Any, desired: Any, **tolerance: float) -> None:
    jax.tree.map(functools.partial(np.testing.assert_allclose, **tolerance), actual, desired)


# ---- the steps ----


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("weighted", "options", "loop"),
    [
        pytest.param(False, {}, {}, id="mean keep"),
        pytest.param(False, {"remainder": "drop"}, {"drop": True}, id="mean drop"),
        pytest.param(False, {"reduction": "sum"}, {"mean": False}, id="sum keep"),
        pytest.param(True, {}, {}, id="weighted mean keep"),
        pytest.param(True, {"remainder": "drop", "reduction": "sum"}, {"drop": True, "mean": False}, id="weighted sum"),
    ],
)
def test_params_and_losses_equal_a_numpy_loop(weighted: bool, options: dict[str, Any], loop: dict[str, Any]) -> None:
    rows = small(np.float64, weighted=weighted)
    result = train(rows, optimizer=optax.sgd(0.05), params=start(np.float64), order=orders(), **options)
    expected = numpy_sgd(rows, orders(), learning_rate=0.05, **loop)
    # The same sums in another order: some eps of 2e-16 a step.
    assert_trees_close(result.params, expected.path[-1], rtol=1e-12)
    np.testing.assert_allclose(result.train_loss, expected.losses, rtol=1e-12)


def test_float32_params_equal_a_float32_numpy_loop() -> None:
    result = train(small(), params=start(), order=orders())
    # Six steps, each with an eps of 1.2e-7 or two.
    assert_trees_close(result.params, numpy_sgd(small(), orders()).path[-1], rtol=2e-6)


def test_one_order_serves_every_epoch() -> None:
    once = orders(1)
    result = train(small(), params=start(), order=once[0])
    assert_trees_close(result.params, numpy_sgd(small(), np.vstack([once, once])).path[-1], rtol=2e-6)


def test_sequential_order_takes_the_rows_as_they_come() -> None:
    result = train(small(), params=start(), order="sequential")
    assert_trees_close(result.params, numpy_sgd(small(), [np.arange(20)] * 2).path[-1], rtol=2e-6)


def test_minibatches_too_large_for_one_scan_make_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_train, "_AT_ONCE", 0)
    result = train(small(), params=start(), order=orders(), optimizer=optax.sgd(0.1))  # a new one: a new program
    expected = numpy_sgd(small(), orders())
    assert_trees_close(result.params, expected.path[-1], rtol=2e-6)
    np.testing.assert_allclose(result.train_loss, expected.losses, rtol=1e-4)  # float32 squares


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param(optax.sgd(0.1, momentum=0.9, nesterov=True), id="momentum"),
        pytest.param(optax.adam(0.1), id="adam"),
        pytest.param(optax.sgd(optax.exponential_decay(0.1, 1, 0.5)), id="schedule"),
    ],
)
def test_optimizers_with_memory_equal_an_optax_loop(optimizer: optax.GradientTransformation) -> None:
    rows, params = small(np.float64), start(np.float64)
    memory = optimizer.init(params)
    for first in (0, 10):
        x, y = rows.x[first : first + 10], rows.y[first : first + 10]
        residual = x @ params["w"] + params["b"] - y
        updates, memory = optimizer.update({"w": residual @ x / 10, "b": residual.mean()}, memory, params)
        params = optax.apply_updates(params, updates)
    result = train(rows, optimizer=optimizer, params=start(np.float64), order="sequential", epochs=1, batch_size=10)
    assert_trees_close(result.params, params, rtol=1e-12)  # rounding


@pytest.mark.usefixtures("x64")
def test_lbfgs_gets_the_loss_function_and_reaches_least_squares() -> None:
    rows = small(np.float64)
    # A plain function, so that its line search is traced once for arrays and not for each scalar.
    result = train(rows, LINE.apply, optimizer=optax.lbfgs(), epochs=12, batch_size=20, params=start(np.float64))
    expected = np.linalg.lstsq(np.c_[np.ones(20), rows.x], rows.y)[0]
    # Twelve quasi-Newton steps on a quadratic of three parameters; the loss is flat to √eps = 1.5e-8.
    np.testing.assert_allclose(np.r_[result.params["b"], result.params["w"]], expected, rtol=1e-7)


def test_optimizers_get_value_gradient_and_function_of_the_minibatch() -> None:
    def update(updates: Any, state: Any, params: Any, *, value: Any, grad: Any, value_fn: Any, **_: Any) -> Any:
        wrong = jnp.abs(value_fn(params) - value)
        return jax.tree.map(lambda g, u: jnp.abs(g - u) + wrong, grad, updates), state

    optimizer = optax.GradientTransformationExtraArgs(optax.identity().init, update)  # moves by what does not agree
    assert_trees_close(train(small(), optimizer=optimizer, params=start()).params, start(), rtol=1e-5)  # rounding


def test_a_plain_function_is_a_model_where_params_are_given() -> None:
    result = train(small(), lambda params, x: x @ params["w"] + params["b"], params=start(), order=orders())
    assert_trees_close(result.params, numpy_sgd(small(), orders()).path[-1], rtol=2e-6)


def test_no_epochs_return_the_start_and_take_an_order_of_none() -> None:
    result = train(small(), epochs=0, params=start(), validation=small(), order=np.zeros((0, 20), int))
    assert_trees_close(result.params, start(), rtol=0)
    assert (result.train_loss.shape, result.validation_loss.shape) == ((0,), (0,))
    assert (int(result.status), int(result.num_steps)) == (Status.OK, 0)


@pytest.mark.parametrize(("remainder", "steps"), [("keep", 6), ("drop", 4)])
def test_the_remainder_is_a_step_or_none(remainder: str, steps: int) -> None:
    result = train(small(), remainder=remainder)
    assert (result.train_loss.shape, int(result.num_steps)) == ((steps,), steps)


def row_number_loss(prediction: Any, target: Any) -> Any:
    """A loss that reads out which rows are in a minibatch: the target itself."""
    return 0 * prediction + target


def rows_seen(order: str) -> np.ndarray:
    """(epochs, steps): the sum of 2^row over the rows of each minibatch."""
    rows = small()._replace(y=(2.0 ** np.arange(20)).astype(np.float32))  # sums below 2^24 are exact in float32
    result = train(rows, loss=row_number_loss, params=start(), order=order, reduction="sum")
    return np.asarray(result.train_loss).reshape(2, 3)


@pytest.mark.parametrize("order", ["reshuffled", "shuffled", "sequential"])
def test_every_epoch_sees_every_row_once(order: str) -> None:
    np.testing.assert_array_equal(rows_seen(order).sum(axis=1), 2.0**20 - 1)


def test_shuffled_keeps_its_order_and_reshuffled_does_not() -> None:
    shuffled, reshuffled = rows_seen("shuffled"), rows_seen("reshuffled")
    np.testing.assert_array_equal(shuffled[0], shuffled[1])
    assert (reshuffled[0] != reshuffled[1]).all()


def test_the_key_decides_start_and_order() -> None:
    first, again, other = (train(small(), key=jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.train_loss, again.train_loss)
    assert (np.asarray(first.train_loss) != np.asarray(other.train_loss)).all()


# ---- validation ----


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_validation_loss_is_the_mean_after_each_epoch(reduction: str) -> None:
    held_out = small(seed=5)
    result = train(
        small(), optimizer=optax.sgd(0.02), params=start(), order=orders(), validation=held_out, reduction=reduction
    )
    path = numpy_sgd(small(), orders(), learning_rate=0.02, mean=reduction == "mean").path
    expected = [half_square(held_out.x @ p["w"] + p["b"] - held_out.y).mean() for p in (path[3], path[6])]
    np.testing.assert_allclose(result.validation_loss, expected, rtol=1e-5)  # squares of float32 residuals


def test_validation_loss_weighs_its_rows() -> None:
    held_out = small(weighted=True, seed=5)
    result = train(small(), params=start(), validation=held_out, epochs=1, order=orders(1)[0])
    params = numpy_sgd(small(), orders(1)).path[-1]
    expected = np.average(half_square(held_out.x @ params["w"] + params["b"] - held_out.y), weights=held_out.weight)
    np.testing.assert_allclose(result.validation_loss, [expected], rtol=1e-5)


def test_no_validation_gives_none() -> None:
    assert train(small()).validation_loss is None


# ---- transformations ----


@pytest.mark.usefixtures("x64")
def test_rates_scales_thresholds_and_keys_may_be_traced(variant: Callable[..., Any]) -> None:
    def run(learning_rate: Any, scale: Any, delta: Any, key: Any) -> Any:
        return train(
            small(np.float64),
            models.linear(2, scale=scale),
            functools.partial(losses.huber, delta=delta),
            optimizer=optax.sgd(learning_rate),
            key=key,
            order="sequential",
        ).params

    key = jax.random.key(3)
    w = 0.5 * jax.random.normal(jax.random.split(key)[0], (2,))  # train splits its key into init and order
    expected = numpy_sgd(
        small(np.float64),
        [np.arange(20)] * 2,
        learning_rate=0.3,
        params={"w": np.asarray(w), "b": 0.0},
        cost=lambda r: np.where(np.abs(r) <= 2, r**2 / 2, 2 * (np.abs(r) - 1)),
        slope=lambda r: np.clip(r, -2, 2),
    )
    assert_trees_close(variant(run)(0.3, 0.5, 2.0, key), expected.path[-1], rtol=1e-12)  # rounding


def test_a_key_draws_the_same_run_eagerly_jitted_and_in_a_lane(variant: Callable[..., Any]) -> None:
    def run(key: Any) -> Any:
        return train(small(), key=key, optimizer=SGD).train_loss

    key = jax.random.key(7)
    np.testing.assert_allclose(variant(run)(key), run(key), rtol=2e-5)  # float32 squares of other roundings


@pytest.mark.parametrize(
    "transform",
    [
        pytest.param(lambda fn: fn, id="eager"),
        pytest.param(lambda fn: lambda rate: jax.jit(jax.vmap(fn))(jnp.array([rate]))[0], id="vmap"),
        pytest.param(lambda fn: lambda rate: jax.jit(jax.value_and_grad(fn))(rate)[0], id="grad"),
    ],
)
def test_an_optimizer_that_holds_a_tracer_leaks_nothing_into_the_next_call(transform: Callable[..., Any]) -> None:
    def last_loss(learning_rate: Any) -> Any:
        return train(small(), params=start(), order=orders(), optimizer=optax.sgd(learning_rate)).train_loss[-1]

    with jax.checking_leaks():
        got = [transform(last_loss)(rate) for rate in (0.1, 0.2)]
    expected = [numpy_sgd(small(), orders(), learning_rate=rate).losses[-1] for rate in (0.1, 0.2)]
    np.testing.assert_allclose(got, expected, rtol=1e-5)  # float32 squares


# ---- retracing ----


@pytest.fixture(scope="module")
def traces() -> Callable[..., int]:
    """How often train calls the model, once it has been called with the same objects and shapes. The first call is made
    each time: between two tests the suite may have let all programs go.
    """
    calls = []

    def apply(params: Any, x: Any) -> Any:
        calls.append(1)
        return x @ params["w"] + params["b"]

    model = models.Model(LINE.init, apply)

    def count(seed: int = 0, **options: Any) -> int:
        train(small(), model, params=start())
        before = len(calls)
        train(small(seed=seed), model, **({"params": start()} | options))
        return len(calls) - before

    return count


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="nothing new"),
        pytest.param({"seed": 9}, id="new values of the data"),
        pytest.param({"key": jax.random.key(9)}, id="new key"),
        pytest.param({"params": None}, id="drawn params"),
        pytest.param({"params": {"w": np.ones(2, np.float32), "b": 0.5}}, id="Python float among params"),
    ],
)
def test_a_second_call_does_not_retrace(traces: Callable[..., int], changes: dict[str, Any]) -> None:
    assert traces(**changes) == 0


def test_another_shape_retraces(traces: Callable[..., int]) -> None:
    assert traces(batch_size=5) > 0  # so that the counter above does count


@pytest.mark.usefixtures("x64")
def test_a_second_call_in_double_precision_does_not_retrace(traces: Callable[..., int]) -> None:
    assert traces(seed=9) == 0


# ---- derivatives ----


class Hypergradient(NamedTuple):
    final: Callable[..., Any]  # (learning_rate, delta, weight) -> the last validation loss
    point: tuple[Any, Any, Any]
    gradient: tuple[Any, Any, Any]


@pytest.fixture(scope="module")
def hypergradient() -> Hypergradient:
    with jax.enable_x64(True):

        @jax.jit
        def final(learning_rate: Any, delta: Any, weight: Any) -> Any:
            loss = functools.partial(losses.pseudo_huber, delta=delta)
            rows = small(np.float64)._replace(weight=weight)
            optimizer = optax.sgd(learning_rate, momentum=0.5)
            return train(
                rows, loss=loss, optimizer=optimizer, params=start(np.float64), validation=small(np.float64, seed=5)
            ).validation_loss[-1]

        point = (0.2, 1.5, small(np.float64, weighted=True).weight)
        return Hypergradient(final, point, jax.jit(jax.grad(final, argnums=(0, 1, 2)))(*point))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("index", "name"), [(0, "learning rate"), (1, "loss threshold"), (2, "row weights")])
def test_the_gradient_through_training_equals_central_differences(
    hypergradient: Hypergradient, index: int, name: str
) -> None:
    direction = np.random.default_rng(2).normal(size=np.shape(hypergradient.point[index]))

    def moved(step: float) -> Any:
        point = list(hypergradient.point)
        point[index] = point[index] + step * direction
        return hypergradient.final(*point)

    # A step of 1e-5 leaves 1e-10 of the third derivative, and rounding 1e-16/1e-5.
    expected = (moved(1e-5) - moved(-1e-5)) / 2e-5
    np.testing.assert_allclose(np.sum(hypergradient.gradient[index] * direction), expected, rtol=1e-6, err_msg=name)


@pytest.mark.usefixtures("x64")
def test_forward_mode_equals_reverse_mode(hypergradient: Hypergradient) -> None:
    forward = jax.jit(jax.jacfwd(hypergradient.final))(*hypergradient.point)
    np.testing.assert_allclose(forward, hypergradient.gradient[0], rtol=1e-10)  # rounding


def test_a_diverging_member_leaves_the_gradients_of_the_others_alone() -> None:
    gradients = jax.jit(jax.vmap(jax.grad(lambda rate: run_member(rate).validation_loss[0])))
    with_one = np.asarray(gradients(RATES.at[10].set(1e3)))
    np.testing.assert_array_equal(np.delete(with_one, 10), np.delete(gradients(RATES), 10))


# ---- divergence ----

RATES = jnp.geomspace(0.01, 0.5, 64)
LONG = 6  # epochs, 18 steps: at learning rate 1000 float32 ends before


def run_member(learning_rate: Any) -> jaxreg.Training:
    return train(
        small(),
        optimizer=optax.sgd(learning_rate),
        params=start(),
        order=orders(LONG),
        epochs=LONG,
        validation=small(seed=5),
    )


@pytest.fixture(scope="module")
def sweep() -> Callable[..., Any]:
    return jax.jit(jax.vmap(run_member))


@pytest.fixture(scope="module")
def diverged(sweep: Callable[..., Any]) -> Any:
    """64 members, of which number 10 has a learning rate of 1000."""
    return sweep(RATES.at[10].set(1e3))


@pytest.fixture(scope="module")
def exploding_loop() -> tuple[Loop, int]:
    """A float32 NumPy loop at learning rate 1000 and the step that makes its parameters non-finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        loop = numpy_sgd(small(), orders(LONG), learning_rate=1e3)
    finite = [all(np.isfinite(leaf).all() for leaf in params.values()) for params in loop.path]
    return loop, finite.index(False) - 1


def member(result: Any, index: int) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf[index]), result)


def test_a_learning_rate_of_1000_ends_as_diverged(diverged: Any) -> None:
    assert member(diverged, 10).status == Status.DIVERGED


def test_num_steps_is_the_step_that_overflowed(diverged: Any, exploding_loop: tuple[Loop, int]) -> None:
    # A sum before its division may overflow one step earlier in one of the two programs.
    assert abs(int(member(diverged, 10).num_steps) - exploding_loop[1]) <= 1


def test_diverged_params_are_the_last_finite_ones(diverged: Any, exploding_loop: tuple[Loop, int]) -> None:
    result = member(diverged, 10)
    expected = exploding_loop[0].path[int(result.num_steps)]
    assert_trees_close(
        result.params, expected, rtol=1e-4
    )  # a linear recursion multiplies the rounding, 18 eps and more


def test_train_loss_is_nan_after_the_divergence_only(diverged: Any) -> None:
    result = member(diverged, 10)
    np.testing.assert_array_equal(np.isnan(result.train_loss), np.arange(18) > result.num_steps)


def test_validation_loss_is_nan_for_the_epochs_cut_short(diverged: Any) -> None:
    result = member(diverged, 10)
    np.testing.assert_array_equal(np.isnan(result.validation_loss), np.arange(LONG) >= result.num_steps // 3)


def test_a_diverging_member_leaves_the_others_alone(sweep: Callable[..., Any], diverged: Any) -> None:
    def others(result: Any) -> Any:
        return jax.tree.map(lambda leaf: np.delete(leaf, 10, axis=0), result)

    jax.tree.map(np.testing.assert_array_equal, others(diverged), others(sweep(RATES)))


def test_raise_if_failed_names_the_diverged_member(diverged: Any) -> None:
    with pytest.raises(RuntimeError, match=r"^1 of 64 fits failed: \[10\] DIVERGED$"):
        jaxreg.raise_if_failed(diverged)


def test_an_infinite_loss_stops_nothing(line: Dataset) -> None:
    result = train(line, optimizer=optax.sgd(3.0), epochs=3, batch_size=32)
    # The published run at this learning rate ended at w = (-3.3e29, 4.6e29); other draws at other powers near.
    assert int(result.status) == Status.OK
    assert np.isposinf(result.train_loss).any()
    assert 1e25 < np.abs(result.params["w"]).max() < 1e34


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_start_that_is_not_finite_comes_back_as_it_was(bad: float) -> None:
    params = {"w": np.array([0.5, bad], np.float32), "b": np.float32(1)}
    result = train(small(), params=params)
    assert_trees_close(result.params, params, rtol=0)
    assert (int(result.status), int(result.num_steps)) == (Status.NONFINITE, 0)


# ---- values that are wrong under a trace ----


ONES = np.ones(20, np.float32)


@pytest.fixture(scope="module")
def jitted() -> Callable[..., Any]:
    @jax.jit
    def run(order: Any, weight: Any, held_out: Any) -> Any:
        validation = small()._replace(weight=held_out)
        return train(small()._replace(weight=weight), params=start(), order=order, validation=validation)

    return lambda **changes: run(**({"order": orders(), "weight": ONES, "held_out": ONES} | changes))


def test_traced_weights_and_order_are_used(jitted: Callable[..., Any]) -> None:
    rows = small(weighted=True)
    result = jitted(weight=rows.weight)
    assert_trees_close(result.params, numpy_sgd(rows, orders()).path[-1], rtol=2e-6)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({"order": orders() + 1}, id="row 20 of 20"),
        pytest.param({"order": orders() - 1}, id="row -1"),
        pytest.param({"weight": np.where(np.arange(20) == 3, -1, ONES)}, id="negative weight"),
        pytest.param({"weight": np.where(np.arange(20) == 3, np.nan, ONES)}, id="NaN weight"),
        pytest.param({"weight": 0 * ONES}, id="no weight at all"),
        pytest.param({"held_out": -ONES}, id="negative validation weights"),
    ],
)
def test_bad_values_under_a_trace_end_as_invalid_input_at_the_start(jitted: Callable[..., Any], bad: Any) -> None:
    result = jitted(**bad)
    assert (int(result.status), int(result.num_steps)) == (Status.INVALID_INPUT, 0)
    assert_trees_close(result.params, start(), rtol=0)


def test_an_invalid_member_leaves_the_others_alone() -> None:
    weights = jnp.ones((2, 20)).at[1, 3].set(-1)

    @jax.jit
    @jax.vmap
    def run(weight: Any) -> jaxreg.Training:
        return train(small()._replace(weight=weight), params=start(), order=orders())

    result = run(weights)
    assert result.status.tolist() == [Status.OK, Status.INVALID_INPUT]
    assert_trees_close(member(result, 0).params, numpy_sgd(small(), orders()).path[-1], rtol=2e-6)


# ---- rows of weight zero ----


def without_rows(bad: float) -> tuple[Dataset, Dataset]:
    """Rows of which two have weight zero, once with bad values there and once with zeros."""
    counts = ~np.isin(np.arange(20), [3, 11])
    rows = small(weighted=True)
    rows = rows._replace(weight=np.where(counts, rows.weight, 0))
    return tuple(
        rows._replace(x=np.where(counts[:, None], rows.x, value), y=np.where(counts, rows.y, value))
        for value in (np.float32(bad), np.float32(0))
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_of_weight_zero_take_no_part_whatever_they_hold(bad: float) -> None:
    rows, clean = without_rows(bad)
    result = train(rows, params=start(), order=orders(), validation=rows)
    expected = numpy_sgd(clean, orders())
    assert_trees_close(result.params, expected.path[-1], rtol=2e-6)
    assert np.isfinite(result.validation_loss).all()


def test_the_gradient_is_finite_where_rows_of_weight_zero_hold_nan() -> None:
    rows, clean = without_rows(np.nan)

    def final(learning_rate: Any, rows: Dataset) -> Any:
        optimizer = optax.sgd(learning_rate)
        return train(rows, params=start(), order=orders(), optimizer=optimizer, validation=rows).validation_loss[-1]

    gradient = jax.jit(jax.grad(final))
    np.testing.assert_allclose(gradient(0.1, rows), gradient(0.1, clean), rtol=1e-5)  # float32


def test_a_minibatch_without_weight_makes_no_step() -> None:
    rows = small(weighted=True)
    rows = rows._replace(weight=np.where(np.arange(20) < 8, 0, rows.weight))
    result = train(rows, params=start(), order="sequential", epochs=1)
    assert float(result.train_loss[0]) == 0
    assert_trees_close(result.params, numpy_sgd(rows, [np.arange(20)]).path[-1], rtol=2e-6)


# ---- dtypes ----


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("dtype", "params"), [(np.float32, start()), (np.float64, None)], ids=["given", "drawn"])
def test_results_have_the_dtype_of_params_and_data(dtype: Any, params: Any) -> None:
    result = train(small(dtype), params=params, validation=small(dtype))
    floats = jax.tree.leaves((result.params, result.train_loss, result.validation_loss))
    assert {leaf.dtype for leaf in floats} == {np.dtype(dtype)}


def test_status_and_num_steps_are_int32() -> None:
    result = train(small())
    assert (result.status.dtype, result.num_steps.dtype) == (np.int32, np.int32)


# ---- bad arguments ----


def column(params: Any, x: Any) -> Any:
    """The model of the reshape exercise: predictions (n, 1)."""
    return (x @ params["w"])[:, None]


def few(**changes: Any) -> Dataset:
    return small()._replace(**changes)


BAD_ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "targets (n, 1)": ({"rows": few(y=ONES[:, None])}, r"data.y must have shape \(20,\), got \(20, 1\)"),
    "lengths": ({"rows": few(y=ONES[:5])}, r"data.y must have shape \(20,\), got \(5,\)"),
    "images": ({"rows": few(x=np.ones((20, 2, 2)))}, r"data.x must have shape \(n,\) or \(n, d\), got \(20, 2, 2\)"),
    "no rows": ({"rows": Dataset(np.ones((0, 2)), np.ones(0))}, r"data.x must have at least one row, got \(0, 2\)"),
    "complex x": ({"rows": few(x=np.ones((20, 2), complex))}, "data.x must be of real numbers, got complex128"),
    "boolean weight": ({"rows": few(weight=np.ones(20, bool))}, "data.weight must be of real numbers, got bool"),
    "weight lengths": ({"rows": few(weight=ONES[:5])}, r"data.weight must have shape \(20,\), got \(5,\)"),
    "negative weight": (
        {"rows": few(weight=-ONES)},
        "data.weight must be finite and not negative, got -1.0 at index 0",
    ),
    "weights all zero": ({"rows": few(weight=0 * ONES)}, "the sum of data.weight must be positive, got 0.0"),
    "not a Dataset": ({"rows": (1.0, 2.0)}, "data must be a jaxreg.data.Dataset.*, got tuple"),
    "validation no Dataset": ({"validation": 3.0}, "validation must be a jaxreg.data.Dataset.*, got float"),
    "validation lengths": ({"validation": few(y=ONES[:5])}, r"validation.y must have shape \(20,\), got \(5,\)"),
    "complex params": (
        {"params": {"w": np.ones(2, complex)}},
        r"params\['w'\] must be of real numbers, got complex128",
    ),
    "no params": ({"params": {}}, "params must hold at least one number, got none"),
    "params of another shape": (
        {"params": {"w": np.ones((2, 1)), "b": np.zeros(())}},
        r"params must have the shapes \{'b': \(\), 'w': \(2,\)\}, got \{'b': \(\), 'w': \(2, 1\)\}",
    ),
    "linear model of predictions (n, 1)": (
        {"model": LINE._replace(apply=column)},
        r"the model's prediction must have shape \(20,\), got \(20, 1\)",
    ),
    "batch of none": ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    "batch of more than all": ({"batch_size": 21}, "batch_size must be at most 20, got 21"),
    "half a row": ({"batch_size": 2.5}, "batch_size must be a whole number, got 2.5"),
    "negative epochs": ({"epochs": -1}, "epochs must be at least 0, got -1"),
    "order": ({"order": "random"}, "order must be one of 'reshuffled', 'shuffled', 'sequential', got 'random'"),
    "order (19,)": ({"order": np.arange(19)}, r"order must have shape \(20,\) or \(epochs, 20\), got \(19,\)"),
    "order of 3 epochs": ({"order": orders(3)}, r"order must have shape \(2, 20\), got \(3, 20\)"),
    "order of floats": ({"order": np.arange(20.0)}, "order must hold integers, got float"),
    "row 20 of 20": ({"order": np.arange(20) + 1}, "order must be between 0 and 19, got .*20"),
    "remainder": ({"remainder": "pad"}, "remainder must be one of 'keep', 'drop', got 'pad'"),
    "reduction": ({"reduction": "max"}, "reduction must be one of 'mean', 'sum', got 'max'"),
    "function without params": ({"model": LINE.apply}, "params must be given where the model is a plain function"),
    "model": ({"model": 3.0, "params": start()}, "model must be a Model or a function.*, got float"),
    "loss": ({"loss": "squared"}, "loss must be a function of prediction and target, got str"),
    "optimizer": ({"optimizer": 0.1}, "optimizer must be an optax optimiser, got float"),
    "predictions (n, 1)": (
        {"model": column, "params": start()},
        r"prediction and target must have the same shape, got \(8, 1\) and \(8,\)",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS.keys())
def test_a_bad_argument_is_named_with_what_was_wanted_and_got(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(**({"rows": small()} | arguments))


@pytest.mark.parametrize("name", ["batch_size", "epochs"])
def test_a_traced_count_is_sent_to_static(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} fixes shapes, .* put it in static="):
        jax.jit(lambda count: train(small(), **{name: count}))(2)


# ---- epochs_to ----


def test_epochs_to_interpolates_an_exponential_exactly() -> None:
    loss = jnp.exp(-0.7 * jnp.arange(1.0, 9.0))
    np.testing.assert_allclose(jaxreg.training.epochs_to(loss, np.exp(-0.7 * 3.25)), 3.25, rtol=1e-6)  # float32


@pytest.mark.parametrize("level", [1e-3, 2.0])
def test_epochs_to_is_nan_for_a_level_out_of_the_curve(level: float) -> None:
    assert np.isnan(jaxreg.training.epochs_to(jnp.array([1.0, 0.1, 0.01]), level))


def test_epochs_to_refuses_a_table() -> None:
    with pytest.raises(ValueError, match=r"loss must have shape \(epochs,\), got \(2, 2\)"):
        jaxreg.training.epochs_to(jnp.ones((2, 2)), 0.1)
