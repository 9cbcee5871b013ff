"""Laws of least squares: what a change of units, of the order of the points or of what is known does to a fit."""

from typing import Any, NamedTuple

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays

import jaxreg
from jaxreg import Status, models

pytestmark = pytest.mark.usefixtures("x64_module")
FEW = settings(max_examples=settings.default.max_examples // 3)

NUM_ROWS, HALF = 16, 8
X = np.linspace(0.0, 3.0, NUM_ROWS)
ALL = np.ones(NUM_ROWS, bool)
START = {"height": 1.5, "offset": 0.0, "rate": 1.0}
NAMES = ("height", "offset", "rate")  # in the order of the covariance
# A fit stops where a step would change χ² by 1e-20 of it, so where parameters are within 1e-10 of their errors; two
# ways to one optimum are that far apart, times the √16 of the points.
CLOSE = 1e-8


def decay(params: Any, x: Any) -> Any:
    return params["height"] * jnp.exp(-params["rate"] * x) + params["offset"]


def fit(
    y: Any, sigma: Any, *, x: Any = X, mask: Any = ALL, p0: Any = START, absolute_sigma: bool = False, **options: Any
) -> jaxreg.Fit:
    found = jaxreg.curve_fit(decay, x, y, p0, sigma=sigma, mask=mask, absolute_sigma=absolute_sigma, **options)
    return jax.tree.map(np.asarray, found.without_data())


def flat(params: Any) -> np.ndarray:
    return np.array([params[name] for name in NAMES])


class Points(NamedTuple):
    """Noisy points of a decay, and standard deviations that are right up to a common factor."""

    y: np.ndarray
    sigma: np.ndarray


@st.composite
def points(draw: Any, num_rows: int = NUM_ROWS) -> Points:
    height, offset, rate = draw(st.floats(1, 3)), draw(st.floats(-1, 1)), draw(st.floats(0.5, 2))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sigma = random.uniform(0.5, 2.0, num_rows)
    truth = height * np.exp(-rate * X[:num_rows]) + offset
    return Points(truth + draw(st.floats(1e-3, 3e-2)) * sigma * random.normal(size=num_rows), sigma)


def assert_same(found: jaxreg.Fit, wanted: jaxreg.Fit) -> None:
    """To CLOSE of the errors, and everything else to that of itself."""
    assert found.status == wanted.status == Status.OK
    size = flat(wanted.stderr)
    assert (abs(flat(found.params) - flat(wanted.params)) <= CLOSE * size).all()
    np.testing.assert_allclose(found.chi2, wanted.chi2, rtol=CLOSE)
    np.testing.assert_allclose(
        found.covariance, wanted.covariance, rtol=0, atol=10 * CLOSE * np.outer(size, size).max()
    )
    np.testing.assert_allclose(flat(found.stderr), size, rtol=10 * CLOSE)
    assert found.dof == wanted.dof


powers = st.integers(-30, 30).map(lambda exponent: 2.0**exponent)


@given(points(), powers, powers, powers)
def test_other_units_change_no_digit(data: Points, of_y: float, of_x: float, of_sigma: float) -> None:
    """To the last bit for powers of two: nothing in a fit is compared with a number that has a unit."""
    here = fit(*data)
    there = fit(
        of_y * data.y,
        of_sigma * data.sigma,
        x=of_x * X,
        p0={"height": 1.5 * of_y, "offset": 0.0, "rate": 1.0 / of_x},
    )
    units = np.array([of_y, of_y, 1 / of_x])
    np.testing.assert_array_equal(flat(there.params), units * flat(here.params))
    np.testing.assert_array_equal(flat(there.stderr), units * flat(here.stderr))
    np.testing.assert_array_equal(there.covariance, np.outer(units, units) * here.covariance)
    np.testing.assert_array_equal(there.residuals, of_y * here.residuals)
    np.testing.assert_array_equal(there.chi2, (of_y / of_sigma) ** 2 * here.chi2)
    assert (there.status, there.num_steps) == (here.status, here.num_steps)


@given(points(), st.floats(-10, 10))
def test_a_shift_of_the_targets_moves_the_offset_alone(data: Points, shift: float) -> None:
    here, there = fit(*data), fit(data.y + shift, data.sigma, p0=START | {"offset": shift})
    assert_same(there.replace(params=there.params | {"offset": there.params["offset"] - shift}), here)


@given(points(), st.permutations(range(NUM_ROWS)))
def test_the_order_of_the_points_does_not_matter(data: Points, order: Any) -> None:
    here, there = fit(*data), fit(data.y[order], data.sigma[order], x=X[order])
    assert_same(there, here)
    np.testing.assert_allclose(there.residuals, here.residuals[order], rtol=0, atol=CLOSE)


@given(points(), st.floats(1e-3, 1e3))
def test_absolute_sigmas_scale_the_errors_and_relative_ones_do_not(data: Points, factor: float) -> None:
    here, there = (fit(data.y, size * data.sigma, absolute_sigma=True) for size in (1, factor))
    rescaled = jax.tree.map(lambda leaf: leaf / factor, there.stderr)
    assert_same(
        there.replace(stderr=rescaled, covariance=there.covariance / factor**2, chi2=there.chi2 * factor**2), here
    )
    relative = fit(*data)
    np.testing.assert_allclose(relative.covariance, here.covariance * here.chi2 / here.dof, rtol=CLOSE)


@given(points(), st.floats(0.2, 5))
def test_points_seen_twice_weigh_as_points_of_sigma_over_root_two(data: Points, other: float) -> None:
    first = np.arange(NUM_ROWS) < HALF
    twice, spread = (np.tile(part[::2], 2) for part in (data.y, X))
    sigma = np.tile(data.sigma[::2], 2)
    repeated = fit(twice, sigma, x=spread, absolute_sigma=True)
    weighted = fit(np.where(first, twice, other), sigma / np.sqrt(2), x=spread, mask=first, absolute_sigma=True)
    assert weighted.dof == repeated.dof - HALF
    assert_same(weighted.replace(dof=repeated.dof), repeated)


@given(points(), st.sets(st.integers(0, NUM_ROWS - 1), min_size=4, max_size=4), st.data())
def test_what_stands_at_masked_points_changes_no_bit_and_they_are_as_if_left_out(
    data: Points, masked: set[int], more: Any
) -> None:
    there = np.array([row not in masked for row in range(NUM_ROWS)])
    extremes = st.sampled_from([0.0, np.nan, np.inf, -np.inf, 1e308, 1e-310])  # the last is zero to XLA
    anything = arrays.arrays(float, NUM_ROWS, elements=st.floats() | extremes)
    y, x, sigma = (np.where(there, part, more.draw(anything)) for part in (data.y, X, data.sigma))
    here = fit(*data, mask=there)
    jax.tree.map(np.testing.assert_array_equal, fit(y, sigma, x=x, mask=there), here)
    assert np.isnan(here.residuals[~there]).all()
    assert_same(fit(data.y[there], data.sigma[there], x=X[there], mask=ALL[there]), here)


HELD = {"height": False, "offset": True, "rate": False}


@given(points())
def test_a_parameter_held_at_its_optimum_leaves_the_others_there_with_their_conditional_errors(data: Points) -> None:
    free = fit(*data, absolute_sigma=True)
    held = fit(*data, absolute_sigma=True, p0={"height": 1.5, "rate": 1.0, "offset": free.params["offset"]}, fixed=HELD)
    assert held.params["offset"] == free.params["offset"]
    assert held.dof == free.dof + 1
    others, one = np.ix_([0, 2], [0, 2]), np.ix_([0, 2], [1])
    # Of a normal distribution: Σ₁₁ - Σ₁₂ Σ₂₁/Σ₂₂.
    conditional = free.covariance[others] - free.covariance[one] @ free.covariance[one].T / free.covariance[1, 1]
    size = np.sqrt(np.diag(free.covariance))[[0, 2]]
    np.testing.assert_allclose(held.covariance[others], conditional, rtol=0, atol=100 * CLOSE * size.max() ** 2)
    assert (abs(flat(held.params) - flat(free.params))[[0, 2]] <= CLOSE * size).all()
    assert (held.covariance[1] == 0).all()


def slopes(found: jaxreg.Fit, sigma: np.ndarray) -> np.ndarray:
    """The cosines between the weighted residuals and the model's columns: -∂χ²/∂p without units."""
    height, _, rate = flat(found.params)
    columns = np.stack([np.exp(-rate * X), np.ones(NUM_ROWS), -height * X * np.exp(-rate * X)]) / sigma
    residual = found.residuals / sigma
    return columns @ residual / np.linalg.norm(columns, axis=1) / np.linalg.norm(residual)


@given(points())
def test_residuals_at_the_optimum_are_orthogonal_to_the_models_columns(data: Points) -> None:
    assert (abs(slopes(fit(*data), data.sigma)) <= CLOSE).all()


def bounded(data: Points, lower: Any, upper: Any, p0: Any = START) -> jaxreg.Fit:
    return fit(*data, p0=p0, bounds=tuple(dict(zip(NAMES, ends, strict=True)) for ends in (lower, upper)))


@given(points(), st.floats(0.5, 100))
def test_bounds_that_are_not_reached_do_nothing(data: Points, room: float) -> None:
    free = fit(*data)
    ends = np.stack([flat(free.params), flat(START)])
    wide = bounded(data, ends.min(axis=0) - room, ends.max(axis=0) + room)
    assert not any(wide.at_bound.values())
    assert_same(wide, free)


def assert_held_by_walls_alone(data: Points, lower: Any, upper: Any, start: Any) -> None:
    """The conditions of Karush, Kuhn and Tucker."""
    found = bounded(data, lower, upper, start)
    assert found.status == Status.OK
    params, at_bound, slope = flat(found.params), flat(found.at_bound), slopes(found, data.sigma)
    assert ((lower <= params) & (params <= upper)).all()
    assert ((params == lower) | (params == upper))[at_bound].all()
    # Its last steps along a wall may drown in the rounding of χ² = (y - model)²/sigma²: √(eps · 10³).
    assert (abs(slope[~at_bound]) <= 1e-6).all()
    assert (slope[at_bound & (params == lower)] <= 0).all()
    assert (slope[at_bound & (params == upper)] >= 0).all()
    assert found.dof == NUM_ROWS - 3 + at_bound.sum()


# None puts a wall at the height of 0, where the data say nothing of the rate.
thirds = st.integers(0, 15).map(lambda number: number / 3)


@given(points(), st.floats(-1, 4), arrays.arrays(float, (2, 3), elements=thirds))
def test_a_fit_in_a_box_ends_where_only_its_walls_hold_it(data: Points, rate: float, room: np.ndarray) -> None:
    start = START | {"rate": rate}
    assert_held_by_walls_alone(data, flat(start) - room[0], flat(start) + room[1] + 0.1, start)


def test_a_step_that_two_walls_turn_uphill_is_not_taken() -> None:
    """Nor is it taken back and forth: from here, along the wall of the height, each leads into that of the offset."""
    lower, upper = np.array([-5.0, -5.0, -1.0]), np.array([5.0, 6.0, 5.0])
    assert_held_by_walls_alone(Points(np.exp(-X), np.ones(NUM_ROWS)), lower, upper, START | {"rate": -1.0})


# ---- a model that is linear in its parameters ----

LINE = models.linear(2)
whole = st.integers(-5, 5).map(float)


@given(
    arrays.arrays(float, (HALF, 2), elements=whole),
    arrays.arrays(float, HALF, elements=st.integers(-800, 800).map(lambda number: number / 8)),
)
def test_a_linear_model_is_numpys_least_squares_or_singular(x: np.ndarray, y: np.ndarray) -> None:
    found = jaxreg.curve_fit(LINE, x, y)
    design = np.c_[np.ones(HALF), x]  # b comes before w
    if np.linalg.matrix_rank(design) < 3:  # of small whole numbers: no doubt about it
        assert found.status == Status.SINGULAR
        assert np.isnan(found.covariance).all()
        # What is said not to be determined changes nothing, and the fit is still a best one.
        np.testing.assert_allclose(design @ found.undetermined, 0, atol=1e-10)
        assert np.linalg.norm(found.undetermined) == pytest.approx(1)
    params = np.r_[found.params["b"], found.params["w"]]
    residual = y - design @ params
    best = y - design @ np.linalg.lstsq(design, y)[0]
    scale = np.linalg.norm(y)
    np.testing.assert_allclose(residual, best, rtol=0, atol=1e-9 * scale)
    if found.status == Status.OK:
        np.testing.assert_allclose(params, np.linalg.lstsq(design, y)[0], rtol=0, atol=1e-9 * scale)
        wanted = np.linalg.inv(design.T @ design) * (best @ best) / (HALF - 3)
        np.testing.assert_allclose(found.covariance, wanted, rtol=1e-6, atol=1e-18 * scale**2)


# ---- many fits ----

NUM_SETS = 5
rubbish = arrays.arrays(float, NUM_ROWS, elements=st.floats() | st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1e300]))


def fit_all(y: Any, sigma: Any, mask: Any) -> jaxreg.Fit:
    return jaxreg.fit_many(decay, X, y, START, sigma=sigma, mask=mask).without_data()


def assert_consistent(found: jaxreg.Fit) -> None:
    """OK where everything is finite, and no error bar on what failed."""
    numbers = [flat(found.params), flat(found.stderr), found.covariance.ravel(), [found.chi2]]
    if found.status == Status.OK:
        assert np.isfinite(np.concatenate(numbers)).all()
        assert (flat(found.stderr) >= 0).all()
    else:
        assert np.isnan(found.covariance).all()
        assert np.isnan(flat(found.stderr)).all()


@FEW
@given(st.lists(points(), min_size=NUM_SETS, max_size=NUM_SETS), st.data())
def test_a_bad_data_set_changes_no_bit_of_the_others_which_are_those_of_curve_fit(
    sets: list[Points], data: Any
) -> None:
    y, sigma = (np.stack(part) for part in zip(*sets, strict=True))
    mask = np.stack([ALL] * NUM_SETS)
    mask[1, ::3] = False
    calm = fit_all(y, sigma, mask)
    for index in range(NUM_SETS):
        alone = fit(y[index], sigma[index], mask=mask[index])
        assert_same(calm[index], alone)
    bad = data.draw(st.integers(0, NUM_SETS - 1))
    part = data.draw(st.sampled_from(["y", "sigma"]))
    (y if part == "y" else sigma)[bad] = data.draw(rubbish)
    wild = fit_all(y, sigma, mask)
    assert_consistent(wild[bad])
    for index in set(range(NUM_SETS)) - {bad}:
        jax.tree.map(np.testing.assert_array_equal, wild[index], calm[index])


@given(rubbish, st.data())
def test_whatever_the_data_a_fit_is_finite_or_says_that_it_failed(y: np.ndarray, data: Any) -> None:
    mask = data.draw(arrays.arrays(bool, NUM_ROWS))
    mask[:3] = True  # as many points as parameters
    p0 = {name: data.draw(st.floats(-1e3, 1e3)) for name in NAMES}
    found = fit(y, np.ones(NUM_ROWS), mask=mask, p0=p0, absolute_sigma=True)
    assert_consistent(found)
    if not np.isfinite(y[mask]).all():
        assert found.status == Status.NONFINITE
        np.testing.assert_array_equal(flat(found.params), flat(p0))
