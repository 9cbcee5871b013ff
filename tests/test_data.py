"""Generators by their moments, corruptions by what they change and what they leave."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxreg import data, models
from jaxreg.data import Dataset

KEY = jax.random.key(0)
W = jnp.array([2.0, -3.4])
ROWS = data.linear(KEY, 40, W, 4.2, noise=0.1)
GENERATORS = {
    "linear": lambda key: data.linear(key, 5, W, 4.2, noise=0.1),
    "ohm": lambda key: data.ohm(key, 5, 5.1, noise=1.0),
    "planck": lambda key: data.planck(key, 1e-7 * jnp.arange(3.0, 8.0), 5020.0, gain_spread=0.05, noise=0.01),
    "heavy tails": lambda key: data.heavy_tailed_noise(key, ROWS, 0.1),
    "fraction": lambda key: data.corrupt_fraction(key, ROWS, 0.1, 1e4),
    "split": lambda key: data.split(ROWS, 30, key=key)[1],
}


@pytest.fixture(scope="module")
def jitted_lane():
    """What each generator draws in a lane of a vmap, all of them in one program."""

    @jax.jit
    @jax.vmap
    def draw(key):
        return {name: generator(key) for name, generator in GENERATORS.items()}

    return jax.tree.map(lambda leaf: leaf[0], draw(KEY[None]))


@pytest.mark.parametrize("name", GENERATORS)
def test_eager_and_a_jitted_lane_draw_the_same(name, jitted_lane):
    expected, got = GENERATORS[name](KEY), jitted_lane[name]
    np.testing.assert_allclose(got.y, expected.y, rtol=5e-6)  # exp(-u) of a rounded u is right to u·1e-7
    np.testing.assert_allclose(got.x, expected.x, rtol=1e-6)


def test_a_line_has_the_truth_asked_for():
    rows = data.linear(KEY, 100_000, W, 4.2, noise=0.5)
    noise = np.asarray(rows.y - (rows.x @ W + 4.2))
    np.testing.assert_allclose(np.std(noise), 0.5, rtol=0.01)  # 1/√(2·100,000) is 0.2 %
    np.testing.assert_allclose(np.mean(rows.x, axis=0), 0, atol=0.015)  # five standard errors
    np.testing.assert_allclose(np.cov(rows.x.T), np.eye(2), atol=0.03)


def test_features_and_noise_come_from_different_keys():
    rows = data.linear(KEY, 10_000, jnp.ones(1), noise=1.0)
    noise = np.asarray(rows.y - rows.x[:, 0])
    assert abs(np.corrcoef(rows.x[:, 0], noise)[0, 1]) < 0.05  # five standard errors
    voltage = data.ohm(KEY, 10_000, 1.0, noise=1.0)
    assert abs(np.corrcoef(voltage.x, voltage.y - voltage.x)[0, 1]) < 0.05


def test_one_gain_belongs_to_a_whole_spectrum():
    wavelength = 1e-9 * jnp.arange(300.0, 2000.0)
    gains = []
    for key in jax.random.split(KEY, 20):
        ratio = data.planck(key, wavelength, 5020.0, gain_spread=0.05).y / models.planck_radiance(wavelength, 5020.0)
        assert np.ptp(ratio) < 1e-6
        gains.append(float(ratio[0]))
    assert min(gains) >= 1
    assert max(gains) <= 1.05
    assert np.ptp(gains) > 0.02


def test_the_gain_of_a_spectrum_and_its_noise_come_from_different_keys():
    wavelength, keys = 1e-7 * jnp.arange(3.0, 8.0), jax.random.split(KEY, 1000)
    draw = jax.jit(
        jax.vmap(lambda key, noise: data.planck(key, wavelength, 5e3, gain_spread=0.5, noise=noise).y, (0, None))
    )
    gained = np.asarray(draw(keys, 0.0))
    noise = np.asarray(draw(keys, 0.1)) / gained - 1
    assert np.abs(np.corrcoef(gained[:, 0], noise.T)[0, 1:]).max() < 0.16  # five standard errors


def test_the_noise_of_a_spectrum_is_relative():
    wavelength = 1e-9 * jnp.arange(300.0, 2000.0)
    ratio = data.planck(KEY, wavelength, 5020.0, noise=0.01).y / models.planck_radiance(wavelength, 5020.0)
    np.testing.assert_allclose(np.std(ratio), 0.01, rtol=0.1)  # 1/√(2·1700) is 1.7 %


def test_split_keeps_the_order_without_a_key():
    train, validation = data.split(ROWS._replace(weight=jnp.arange(40.0)), 30)
    np.testing.assert_array_equal(np.r_[train.weight, validation.weight], np.arange(40))


def test_split_with_a_key_loses_no_row():
    rows = data.Dataset(jnp.arange(40.0), 10 * jnp.arange(40.0))
    train, validation = data.split(rows, 30, key=KEY)
    together = np.r_[train.x, validation.x]
    assert (together != np.arange(40)).any()
    np.testing.assert_array_equal(np.sort(together), np.arange(40))
    np.testing.assert_array_equal(np.r_[train.y, validation.y], 10 * together)


def test_a_corrupted_target_is_the_only_change():
    got = data.corrupt_target(ROWS, 5, 1e4)
    assert got.y[5] == 1e4
    np.testing.assert_array_equal(np.delete(got.y, 5), np.delete(ROWS.y, 5))
    np.testing.assert_array_equal(got.x, ROWS.x)


def test_a_leverage_point_scales_its_row():
    got = data.corrupt_leverage(ROWS, 5, 1e4)
    assert got.y[5] == 1e4
    np.testing.assert_allclose(got.x[5], ROWS.x[5] * (1e4 / ROWS.y[5]), rtol=1e-6)
    np.testing.assert_array_equal(np.delete(got.y, 5), np.delete(ROWS.y, 5))
    np.testing.assert_array_equal(np.delete(got.x, 5, axis=0), np.delete(ROWS.x, 5, axis=0))


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.33, 1.0])
def test_a_fraction_is_corrupted_exactly(fraction):
    got = jax.jit(lambda share: data.corrupt_fraction(KEY, ROWS, share, 1e4))(fraction)
    changed = np.asarray(got.y == 1e4)
    assert changed.sum() == round(fraction * 40)
    np.testing.assert_array_equal(got.y[~changed], ROWS.y[~changed])


def test_heavy_tails_are_students():
    rows = data.Dataset(jnp.zeros(2000), jnp.ones(2000))
    got = data.heavy_tailed_noise(KEY, rows, 0.5, degrees_of_freedom=2.0)
    assert scipy.stats.kstest((np.asarray(got.y) - 1) / 0.5, scipy.stats.t(2).cdf).pvalue > 0.01


def test_finite_data_pass_and_rows_without_weight_are_not_looked_at():
    data.check_finite(ROWS)
    data.check_finite(data.Dataset(jnp.array([1.0, jnp.nan]), jnp.zeros(2), jnp.array([1.0, 0.0])))


def test_data_that_are_not_finite_are_named():
    bad = ROWS._replace(x=ROWS.x.at[7, 1].set(jnp.inf).at[9, 0].set(jnp.nan))
    with pytest.raises(ValueError, match=r"x must be finite, got inf at row 7 \(2 such rows of 40\)"):
        data.check_finite(bad)


BAD_CALLS = {
    "no rows": (lambda: data.linear(KEY, 0, W), "num_rows must be at least 1, got 0"),
    "scalar w": (lambda: data.linear(KEY, 5, 2.0), r"w must have shape \(d,\), got \(\)"),
    "complex w": (lambda: data.linear(KEY, 5, [1j, 2]), "w must be of real numbers, got complex128"),
    "complex resistance": (lambda: data.ohm(KEY, 5, 5j), "resistance must be of real numbers, got complex128"),
    "matrix of wavelengths": (
        lambda: data.planck(KEY, jnp.ones((2, 2)), 1.0),
        r"wavelength must have shape \(n,\), got \(2, 2\)",
    ),
    "split takes all": (lambda: data.split(ROWS, 40), "num_train must be at most 39, got 40"),
    "row": (lambda: data.corrupt_target(ROWS, 40, 1.0), "row must be between 0 and 39, got 40"),
    "leverage row": (lambda: data.corrupt_leverage(ROWS, -41, 1.0), "row must be between 0 and 39, got -41"),
    "fraction": (lambda: data.corrupt_fraction(KEY, ROWS, 1.5, 1.0), "fraction must be between 0 and 1, got 1.5"),
    "column of targets": (
        lambda: data.split(ROWS._replace(y=ROWS.y[:, None]), 5),
        r"y must have shape \(40,\), got \(40, 1\)",
    ),
}


@pytest.mark.parametrize(("call", "message"), BAD_CALLS.values(), ids=BAD_CALLS.keys())
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_numpy_rows_are_rows_wherever_jax_ones_are():
    rows = Dataset(np.ones((6, 2), np.float32), np.arange(6, dtype=np.float32), np.ones(6, np.float32))
    key = jax.random.key(0)
    assert data.corrupt_target(rows, 1, 9.0).y[1] == data.corrupt_leverage(rows, 1, 9.0).y[1] == 9
    for fn in (lambda row: data.corrupt_target(rows, row, 9.0), lambda _: data.split(rows, 2, key=key)):
        jax.tree.map(np.testing.assert_array_equal, jax.jit(fn)(1), fn(1))
