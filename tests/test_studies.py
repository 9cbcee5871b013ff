"""The studies against theory, and against the single-ramp finder that one spike fools."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxreg
from jaxreg import losses, models, studies
from jaxreg.data import Dataset
from jaxreg.studies import _runs

LINE = models.linear(2)
RATES = np.geomspace(1e-3, 10.0, 80, dtype=np.float32)
STEP = RATES[1] / RATES[0]  # 1.12


@pytest.fixture(scope="module")
def spiked(line):
    """The line with one row that is no part of it, as a bad reading is."""
    return line._replace(y=line.y.at[17].set(300.0))


@pytest.fixture(scope="module")
def atlas(line):
    return studies.divergence_atlas(
        models.linear(2, scale=1.0),
        [losses.squared, losses.huber],
        line,
        learning_rate=RATES,
        batch_size=1000,
        steps=100,
        key=jax.random.key(1),
        num_seeds=3,
        init_scale=np.array([0.01, 1.0], np.float32),
        chunk_size=240,
    )


def test_an_atlas_has_a_member_for_every_point(atlas):
    assert list(atlas.sweep.axes) == ["loss", "batch_size", "init_scale", "learning_rate", "key"]
    assert atlas.sweep.values.final_loss.shape == (2, 1, 2, 80, 3)
    assert atlas.critical_learning_rate.shape == (2,)
    assert atlas.mean_square_edge.shape == (2, 1)


def test_full_batches_of_an_atlas_grow_beyond_the_critical_rate(atlas):
    runs = atlas.sweep.values
    grew = (runs.final_loss >= runs.start_loss)[0, 0]  # squared
    edge = RATES[np.argmax(grew, axis=1)]
    # The first rate of the grid beyond the edge: with 100 steps all modes show within a step of the grid.
    assert (edge >= atlas.critical_learning_rate[0]).all()
    assert (edge <= atlas.critical_learning_rate[0] * STEP).all()
    np.testing.assert_allclose(atlas.mean_square_edge[0, 0], atlas.critical_learning_rate[0], rtol=1e-5)


def test_a_failed_member_of_an_atlas_says_when(atlas):
    runs = atlas.sweep.values
    failed = runs.status == jaxreg.Status.DIVERGED
    assert failed[0, :, :, -1].all()  # squared loss at rate 10
    assert np.isinf(runs.final_loss[failed]).all()
    assert ((runs.num_steps[failed] > 0) & (runs.num_steps[failed] < 100)).all()
    # Huber's gradient is bounded: its runs wander, and none overflows.
    assert not failed[1].any()


def test_the_prediction_is_the_run_for_full_batches(line):
    found = studies.predicted_training(
        LINE, losses.squared, line, learning_rate=RATES[::8], batch_size=1000, epochs=50, key=jax.random.key(2)
    )
    assert found.measured.shape == found.descent.shape == (1, 10, 51)
    stable = RATES[::8] < 1.7
    # 50 steps, each rounded to float32.
    np.testing.assert_allclose(found.measured[:, stable], found.descent[:, stable], rtol=1e-4)
    np.testing.assert_allclose(found.expected[:, stable], found.descent[:, stable], rtol=1e-4)


def test_the_prediction_is_the_mean_of_runs_for_independent_minibatches(line):
    rows = line._replace(y=line.y + line.x[:, 0] ** 2)  # the line misses it, so that gradients scatter
    found = studies.predicted_training(
        LINE,
        losses.squared,
        rows,
        learning_rate=np.array([0.1, 0.8], np.float32),
        batch_size=30,
        epochs=2,
        key=jax.random.key(3),
        num_seeds=500,
        sampling="independent",
    )
    assert found.expected is not None
    difference = found.measured - found.expected
    error = difference.std(axis=0) / 500**0.5
    assert (np.abs(difference.mean(axis=0)) <= 4 * error + 1e-5).all()
    # At 0.8 noise makes most of what is above the minimum.
    assert (found.expected[:, 1, 1:] > 1.1 * found.descent[:, 1, 1:]).all()


def test_without_theory_the_modes_remain(line):
    found = studies.predicted_training(
        LINE,
        losses.squared,
        line._replace(weight=jnp.ones(1000)),
        learning_rate=np.array([0.3], np.float32),
        batch_size=1000,
        epochs=2,
        key=jax.random.key(2),
    )
    assert found.expected is None
    np.testing.assert_allclose(found.measured, found.descent, rtol=1e-5)


@pytest.fixture(scope="module")
def ranges(spiked):
    return studies.range_test(
        LINE, losses.squared, spiked, learning_rate=RATES, batch_size=32, steps=30, key=jax.random.key(4), num_seeds=16
    )


def test_the_range_test_ends_at_the_edge(ranges):
    low, high = ranges.usable(0.9)
    critical = np.median(ranges.critical_learning_rate)
    # Minibatches shift the edge by a few percent; 30 steps show it to within a factor.
    assert critical / 1.5 < np.median(ranges.rates.edge) < 1.5 * critical
    assert critical / 3 < high < critical
    # In 30 steps the loss falls by half, exp(-2·30·λ·rate) = ½ with λ ≈ 1, at a rate of 0.0116.
    assert 0.0116 / 2 < low < 0.0116 * 2
    assert (ranges.rates.steepest < ranges.rates.best).all()
    assert (ranges.rates.best <= ranges.rates.highest).all()


def test_no_minibatch_run_grows_below_the_mean_square_edge(ranges):
    below = ranges.mean_square_edge.min() > RATES
    assert below.any()
    assert (ranges.final_loss < ranges.start_loss[:, None])[:, below].all()


RAMP = optax.sgd(lambda step: RATES[0] * STEP ** jnp.asarray(step, float))


def single_ramp(data, key):
    """The finder of the books: one run, its rate rising each step; it stops at four times the least smoothed loss."""
    result = jaxreg.train(
        LINE,
        losses.squared,
        data,
        optimizer=RAMP,
        epochs=3,
        batch_size=32,
        key=key,
    )
    smooth, total, least = [], 0.0, np.inf
    for step, loss in enumerate(np.asarray(result.train_loss)[: len(RATES)], start=1):
        total = 0.9 * total + 0.1 * float(loss)
        smooth.append(total / (1 - 0.9**step))
        least = min(least, smooth[-1])
        if smooth[-1] > 4 * least:
            break
    return RATES[len(smooth) - 1]


def test_a_spike_fools_the_single_ramp_and_not_the_range_test(line, spiked, ranges):
    # An order that shows the bad row in one of the first minibatches, where the rate is still harmless.
    key = next(key for key in jax.random.split(jax.random.key(5), 50) if single_ramp(spiked, key) < 0.01)
    critical = float(np.median(ranges.critical_learning_rate))
    assert 1 < single_ramp(line, key) < 10  # without the spike it sees the edge
    assert single_ramp(spiked, key) < critical / 100  # with it, it says that training diverges here
    _, high = ranges.usable(0.9)
    assert high > critical / 3


def test_usable_rates_of_a_known_curve():
    read = jax.jit(studies.usable_rates)
    rates = jnp.array([1e-3, 1e-2, 1e-1, 1.0, 2.0, 4.0])
    # A rate far too small that ends above its start, as noise can make it, does not end the search.
    found = read(rates, 10.0, jnp.array([10.1, 9.0, 2.0, 1.0, 8.0, jnp.nan]))
    np.testing.assert_allclose(
        [found.lowest, found.highest, found.best, found.edge, found.steepest], [0.1, 1.0, 1.0, 4.0, 10**-1.5], rtol=1e-6
    )
    nothing = read(rates, 1.0, jnp.full(6, jnp.inf))
    assert np.isnan(nothing).all()
    np.testing.assert_array_equal(read(rates[::-1], 10.0, jnp.array([jnp.nan, 8.0, 1.0, 2.0, 9.0, 10.1])), found)
    open_end = read(rates, 10.0, jnp.array([9.0, 8.0, 7.0, 6.0, 5.0, 4.0]))
    assert (open_end.highest, open_end.edge) == (4.0, jnp.inf)
    with pytest.raises(ValueError, match=r"learning_rate must have shape \(k,\), got \(1, 6\)"):
        studies.usable_rates(rates[None], 10.0, rates)
    with pytest.raises(ValueError, match=r"final_loss must have shape \(6,\), got \(5,\)"):
        studies.usable_rates(rates, 10.0, rates[:5])


def test_a_share_of_the_seeds_counts_those_that_just_make_it(ranges):
    rates, ends = np.array([0.1, 1.0, 10.0]), np.array([1.0, 1.0, 1.0, 10.0])
    found = ranges._replace(learning_rate=rates, rates=studies.UsableRates(ends / 10, ends, ends, ends, ends))
    assert found.usable(0.75) == (0.1, 1.0)
    assert found.usable(1.0) == (1.0, 1.0)
    assert found.usable(0.25) == (0.1, 10.0)


def test_without_theory_there_is_no_mean_square_edge(line):
    rows = line._replace(weight=jnp.ones(1000))
    risk = jaxreg.empirical_risk(LINE, losses.squared)
    critical, mean_square = _runs.edges_of(risk, rows, [8, 32])(LINE.init(jax.random.key(0)))
    columns = np.c_[np.ones(1000), rows.x]
    np.testing.assert_allclose(critical, 2 / np.linalg.eigvalsh(columns.T @ columns / 1000)[-1], rtol=1e-5)
    assert np.isnan(mean_square).tolist() == [True, True]


def test_any_model_and_optimiser():
    """A wave of three parameters, Adam, a loss with a threshold: nothing is about lines."""
    wave = models.Model(
        lambda key: {"amplitude": jnp.ones(()), "rate": 1.0 + 0.1 * jax.random.normal(key), "phase": jnp.zeros(())},
        lambda params, x: params["amplitude"] * jnp.sin(params["rate"] * x + params["phase"]),
    )
    x = jnp.linspace(-3.0, 3.0, 60)
    rows = Dataset(x, 2.0 * jnp.sin(1.2 * x + 0.3))
    found = studies.range_test(
        wave,
        losses.huber,
        rows,
        learning_rate=RATES[::8],
        batch_size=20,
        steps=60,
        key=jax.random.key(6),
        num_seeds=4,
        optimizer=optax.adam,
    )
    low, high = found.usable(0.5)
    assert 0.001 < low < high < 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": lambda params, x: x @ params}, "model must be a Model, whose init draws the start, got function"),
        ({"batch_size": 1001}, "batch_size must be at most 1000, got 1001"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"learning_rate": jnp.zeros(0)}, "axis 'learning_rate' has no points"),
        ({"optimizer": optax.adam(0.1)}, "the learning rate, got GradientTransf.*: give optax.sgd"),
    ],
)
def test_what_makes_no_study_is_refused(line, change, message):
    given = {"model": LINE, "learning_rate": RATES, "batch_size": 32, "steps": 5, **change}
    model = given.pop("model")
    for study in (studies.divergence_atlas, studies.range_test):
        with pytest.raises(ValueError, match=message):
            study(model, losses.squared, line, key=jax.random.key(0), **given)


def test_an_unknown_sampling_is_refused(line):
    with pytest.raises(ValueError, match="sampling must be one of 'reshuffled', 'independent', got 'random'"):
        studies.predicted_training(
            LINE,
            losses.squared,
            line,
            learning_rate=RATES,
            batch_size=32,
            epochs=1,
            key=jax.random.key(0),
            sampling="random",
        )
