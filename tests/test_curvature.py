"""Curvature and what it predicts, against closed forms, numpy.linalg and gradient descent in NumPy."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import batching, curvature, losses, models
from jaxreg.data import Dataset
from jaxreg.objective import empirical_risk

RISK = empirical_risk(models.linear(2), losses.squared)


def nested(params: Any, a: Any) -> Any:
    """a·s·|v|² + v₀v₁ + sin s, with v one floor deeper than s."""
    v, s = params["inner"]["v"], params["s"]
    return a * s * (v**2).sum() + v[0] * v[1] + jnp.sin(s)


POINT = {"inner": {"v": np.array([0.3, -0.7])}, "s": np.array(1.2)}
A = 1.5


def nested_gradient(v0: float, v1: float, s: float) -> np.ndarray:
    """In ravel_pytree order: v₀, v₁, s."""
    return np.array([2 * A * s * v0 + v1, 2 * A * s * v1 + v0, A * (v0**2 + v1**2) + np.cos(s)])


def nested_hessian(v0: float, v1: float, s: float) -> np.ndarray:
    return np.array([[2 * A * s, 1, 2 * A * v0], [1, 2 * A * s, 2 * A * v1], [2 * A * v0, 2 * A * v1, -np.sin(s)]])


AT_POINT = (0.3, -0.7, 1.2)


def flat(params: Any) -> np.ndarray:
    return np.r_[params["inner"]["v"], params["s"]]


def rotated(eigenvalues: Any, seed: int = 0) -> np.ndarray:
    """A symmetric matrix of a known spectrum."""
    size = len(eigenvalues)
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]
    return (basis * eigenvalues) @ basis.T


def quadratic(params: Any, matrix: Any) -> Any:
    return params @ (matrix @ params) / 2


def design(rows: Dataset) -> np.ndarray:
    """The columns of the line in double precision, the bias first as in ravel_pytree order."""
    x = np.asarray(rows.x, np.float64)
    return np.c_[np.ones(len(x)), x]


# ---- derivatives ----


@pytest.mark.usefixtures("x64")
def test_derivatives_of_a_nested_pytree_equal_the_closed_form(variant: Callable[..., Any]) -> None:
    vector = {"inner": {"v": np.array([1.0, 2.0])}, "s": np.array(-0.5)}

    def derivatives(params: Any, vector: Any, a: Any) -> Any:
        product = curvature.hvp(nested, params, vector, a)
        return curvature.gradient(nested, params, a), curvature.hessian(nested, params, a), product

    gradient, hessian, product = variant(derivatives)(POINT, vector, A)
    # Rounding.
    np.testing.assert_allclose(flat(gradient), nested_gradient(*AT_POINT), rtol=1e-14)
    np.testing.assert_allclose(hessian, nested_hessian(*AT_POINT), rtol=1e-14)
    np.testing.assert_allclose(flat(product), nested_hessian(*AT_POINT) @ [1.0, 2.0, -0.5], rtol=1e-14)


@pytest.mark.usefixtures("x64")
def test_gradient_equals_central_differences_where_there_is_no_closed_form() -> None:
    def objective(params: Any) -> Any:
        return jnp.log(jnp.cosh(params[0] * params[1])) + jnp.exp(-params[1])

    point, step = np.array([0.4, 0.9]), 1e-5
    expected = [(objective(point + step * e) - objective(point - step * e)) / (2 * step) for e in np.eye(2)]
    # A step of 1e-5 leaves 1e-10 of the third derivative, and rounding 1e-16/1e-5.
    np.testing.assert_allclose(curvature.gradient(objective, point), expected, rtol=1e-8)


def test_hessian_of_the_squared_loss_is_the_mean_outer_product_of_the_features(line: Dataset) -> None:
    got = jax.jit(functools.partial(curvature.hessian, RISK))({"w": jnp.zeros(2), "b": 0.0}, line)
    # Means of 1000 float32 products, against double precision.
    np.testing.assert_allclose(got, design(line).T @ design(line) / 1000, atol=1e-6)


# ---- extreme eigenvalues ----


@pytest.mark.usefixtures("x64")
def test_dense_extremes_equal_eigvalsh(variant: Callable[..., Any]) -> None:
    matrix = rotated(np.linspace(-2.0, 7.0, 12))
    got = variant(functools.partial(curvature.extreme_eigenvalues, quadratic))(np.ones(12), matrix)
    np.testing.assert_allclose(got, np.linalg.eigvalsh(matrix)[[0, -1]], rtol=1e-12)  # rounding


SPECTRA = {
    "spread": np.linspace(1.0, 100.0, 300),
    "one value": np.ones(300),
    "two values": np.repeat([1.0, 5.0], 150),
    "three values, indefinite": np.repeat([-7.0, 1.0, 5.0], 100),
    "indefinite": np.linspace(-50.0, 100.0, 300),
    "negative": -np.linspace(1.0, 100.0, 300),
    "one low outlier": np.r_[0.01, np.ones(299)],
    "zero": np.zeros(300),
}


@functools.partial(jax.jit, static_argnames="lanczos_steps")
def lanczos(matrix: Any, lanczos_steps: int = 96) -> Any:
    return jnp.stack(curvature.extreme_eigenvalues(quadratic, jnp.ones(300), matrix, lanczos_steps=lanczos_steps))


@pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA.keys())
def test_lanczos_finds_the_ends_of_a_known_spectrum(spectrum: np.ndarray) -> None:
    got = lanczos(rotated(spectrum).astype(np.float32))
    # A converged end is off by its residual squared over the gap, and by float32's rounding of a 300 × 300 product.
    np.testing.assert_allclose(got, [spectrum.min(), spectrum.max()], atol=2e-5 * np.abs(spectrum).max())


def test_lanczos_with_as_many_steps_as_parameters_still_finds_both_ends() -> None:
    got = lanczos(rotated(SPECTRA["indefinite"]).astype(np.float32), lanczos_steps=300)
    np.testing.assert_allclose(got, [-50, 100], rtol=1e-5)  # float32


def test_lanczos_with_too_few_steps_says_nan_and_no_number() -> None:
    assert np.isnan(lanczos(rotated(SPECTRA["spread"]).astype(np.float32), lanczos_steps=8)).all()


def test_lanczos_takes_nested_params_and_never_needs_the_matrix() -> None:
    scale = {"a": jnp.linspace(1.0, 3.0, 200), "b": {"c": jnp.linspace(-4.0, 2.0, 150)}}

    def objective(params: Any) -> Any:
        return sum(jax.tree.leaves(jax.tree.map(lambda s, p: (s * p**2).sum() / 2, scale, params)))

    got = jax.jit(functools.partial(curvature.extreme_eigenvalues, objective))(jax.tree.map(jnp.ones_like, scale))
    np.testing.assert_allclose(got, [-4, 3], rtol=1e-4)  # converged, float32


# ---- condition number ----


@functools.partial(jax.jit, static_argnames="lanczos_steps")
def condition(matrix: Any, lanczos_steps: int = 96) -> Any:
    point = jnp.ones(len(matrix), matrix.dtype)
    return curvature.condition_number(quadratic, point, matrix, lanczos_steps=lanczos_steps)


@pytest.mark.usefixtures("x64")
def test_condition_number_equals_numpy() -> None:
    matrix = rotated(np.geomspace(1e-6, 1.0, 10))
    got = condition(matrix)
    np.testing.assert_allclose(got, np.linalg.cond(matrix), rtol=1e-8)  # 1e6 eps


@pytest.mark.parametrize("smallest", [0.0, -1.0])
def test_condition_number_is_infinite_unless_positive_definite(smallest: float) -> None:
    assert np.isposinf(condition(jnp.diag(jnp.array([smallest, 1.0, 2.0]))))


@pytest.mark.parametrize(("smallest", "known"), [(0.1, True), (1e-4, False)])
def test_condition_number_by_lanczos_is_right_or_nan(smallest: float, known: bool) -> None:
    got = float(condition(jnp.asarray(rotated(np.geomspace(smallest, 1.0, 300)), jnp.float32)))
    # One per cent is promised; float32 has it for both.
    assert abs(got * smallest - 1) < 0.02 if known else np.isnan(got)


def test_more_lanczos_steps_make_a_large_condition_number_known() -> None:
    matrix = jnp.asarray(rotated(np.geomspace(1e-4, 1.0, 300)), jnp.float32)
    got = condition(matrix, lanczos_steps=300)
    np.testing.assert_allclose(got, 1e4, rtol=0.02)  # λmin is known to 1 %, and to 1e-7 of λmax in float32


# ---- critical learning rate ----


@pytest.mark.parametrize(("share", "converges"), [(0.99, True), (1.01, False)])
def test_gradient_descent_converges_below_the_critical_rate_and_not_above(share: float, converges: bool) -> None:
    matrix = rotated([0.5, 1.0, 4.0])
    critical = float(curvature.critical_learning_rate(quadratic, jnp.ones(3), jnp.asarray(matrix, jnp.float32)))
    point = np.ones(3)
    for _ in range(1000):
        point = point - share * critical * matrix @ point
    assert (np.linalg.norm(point) < 1) == converges  # 0.98^1000 = 2e-9 and 1.02^1000 = 4e8


@pytest.mark.parametrize("slope", [0.0, -3.0])
def test_the_critical_rate_is_infinite_where_nothing_curves_upwards(slope: float) -> None:
    assert np.isposinf(curvature.critical_learning_rate(lambda p: slope * (p**2).sum(), jnp.ones(2)))


# ---- predictions ----


def start() -> dict[str, Any]:
    """The start of the loop below, in the precision of the moment."""
    return {"w": jnp.array([0.5, -0.25]), "b": jnp.array(1.0)}


def descent(rows: Dataset, learning_rate: float, num_steps: int) -> np.ndarray:
    """The losses of full-batch gradient descent on the line, in NumPy, before each step and after the last."""
    features, y = design(rows), np.asarray(rows.y, np.float64)
    params, values = np.array([1.0, 0.5, -0.25]), []
    for _ in range(num_steps + 1):
        residual = features @ params - y
        values.append((residual**2).mean() / 2)
        params = params - learning_rate * features.T @ residual / len(y)
    return np.array(values)


def least_squares_loss(rows: Dataset) -> float:
    features, y = design(rows), np.asarray(rows.y, np.float64)
    return ((features @ np.linalg.lstsq(features, y)[0] - y) ** 2).mean() / 2


@pytest.fixture(scope="module")
def predict(line: Dataset) -> Callable[..., Any]:
    """Predictions on the line in double precision."""

    @jax.jit
    def run(learning_rate: Any, tolerance: Any, rows: Any) -> Any:
        return curvature.predict_training(
            RISK, start(), rows, learning_rate=learning_rate, tolerance=tolerance, steps_per_epoch=32
        )

    def call(learning_rate: float = 0.1, tolerance: float = 1e-4) -> Any:
        with jax.enable_x64(True):
            rows = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float64)), line)
            return run(learning_rate, tolerance, rows)

    return call


@pytest.mark.parametrize("learning_rate", [0.003, 0.3, 2.5])
def test_the_predicted_loss_is_that_of_gradient_descent(
    line: Dataset, predict: Callable[..., Any], learning_rate: float
) -> None:
    counts = np.array([0, 1, 5, 40, 200])
    with jax.enable_x64(True):
        got = predict(learning_rate).loss(counts)
    # Double precision; 200 steps above the critical rate multiply the rounding by 200.
    np.testing.assert_allclose(got, descent(line, learning_rate, 200)[counts], rtol=1e-10)


@pytest.mark.parametrize("tolerance", [1.0, 1e-4, 1e-10])
@pytest.mark.parametrize("learning_rate", [0.03, 0.3])
def test_predicted_steps_are_the_first_within_the_tolerance(
    line: Dataset, predict: Callable[..., Any], learning_rate: float, tolerance: float
) -> None:
    within = descent(line, learning_rate, 500) - least_squares_loss(line) <= tolerance
    assert float(predict(learning_rate, tolerance).steps) == np.argmax(within)


def test_predicted_epochs_are_the_steps_over_those_of_an_epoch(predict: Callable[..., Any]) -> None:
    prediction = predict()
    assert float(prediction.epochs) == float(prediction.steps) / 32


def test_predicted_steps_are_infinite_above_the_critical_rate(predict: Callable[..., Any]) -> None:
    assert np.isposinf(predict(1.01 * float(predict().critical_learning_rate)).steps)


def test_the_predicted_minimum_is_that_of_lstsq(line: Dataset, predict: Callable[..., Any]) -> None:
    np.testing.assert_allclose(predict().minimum_loss, least_squares_loss(line), rtol=1e-9)  # residuals of 0.01 on 4


def test_predicted_eigenvalues_are_those_of_the_features(line: Dataset, predict: Callable[..., Any]) -> None:
    expected = np.linalg.eigvalsh(design(line).T @ design(line) / 1000)
    np.testing.assert_allclose(predict().eigenvalues, expected, rtol=1e-12)  # rounding


def test_the_best_rate_makes_the_slowest_mode_decay_fastest(line: Dataset, predict: Callable[..., Any]) -> None:
    eigenvalues = np.linalg.eigvalsh(design(line).T @ design(line) / 1000)
    rates = np.linspace(0, 2 / eigenvalues[-1], 20_001)
    slowest = np.abs(1 - rates[:, None] * eigenvalues).max(axis=1)
    np.testing.assert_allclose(predict().best_learning_rate, rates[slowest.argmin()], atol=1e-4)  # the grid's spacing


def test_a_rate_may_be_swept(line: Dataset) -> None:
    def steps(learning_rate: Any) -> Any:
        return curvature.predict_training(RISK, start(), line, learning_rate=learning_rate, tolerance=1e-2).steps

    got = jax.jit(jax.vmap(steps))(jnp.array([0.03, 0.3]))
    expected = [np.argmax(descent(line, rate, 500) - least_squares_loss(line) <= 1e-2) for rate in (0.03, 0.3)]
    np.testing.assert_array_equal(got, expected)


@jax.jit
def predict_bowl(start: Any, matrix: Any, slope: Any, learning_rate: float, tolerance: float = 1e-4) -> Any:
    """Predictions for ½ pᵀAp + slopeᵀp from a start."""
    return curvature.predict_training(
        lambda p: quadratic(p, matrix) + slope @ p, start, learning_rate=learning_rate, tolerance=tolerance
    )


def test_predicted_steps_are_infinite_above_the_critical_rate_from_within_the_tolerance() -> None:
    # It starts at an excess of 1e-5, which grows by 19² a step, so there is no count from which on it is at most 1e-4.
    prediction = predict_bowl(np.array([1e-3, 1e-3], "f4"), np.diag([1, 20]).astype("f4"), np.zeros(2, "f4"), 1.0)
    assert np.isposinf(prediction.steps)


def test_predicted_steps_are_zero_where_the_start_is_the_minimum() -> None:
    prediction = predict_bowl(np.zeros(2, "f4"), np.eye(2, dtype="f4"), np.zeros(2, "f4"), 0.1)
    assert float(prediction.steps) == 0


# From an excess of ½ to 1e-4, times (1 - learning_rate)² a step.
SLOW_STEPS = {rate: np.ceil(np.log(0.5 / 1e-4) / (-2 * np.log1p(-rate))) for rate in (1e-5, 1e-7)}


def test_steps_of_a_slow_rate_are_right_in_single_precision() -> None:
    prediction = predict_bowl(np.array([1, 0], "f4"), np.eye(2, dtype="f4"), np.zeros(2, "f4"), 1e-5)
    np.testing.assert_allclose(prediction.steps, SLOW_STEPS[1e-5], rtol=1e-5)  # the rate itself has an eps of 6e-8


@pytest.mark.usefixtures("x64")
def test_more_steps_than_single_precision_counts_are_still_counted() -> None:
    prediction = predict_bowl(np.array([1.0, 0.0]), np.eye(2), np.zeros(2), 1e-7)
    np.testing.assert_allclose(prediction.steps, SLOW_STEPS[1e-7], rtol=1e-9)  # 42,585,964, above 2²⁴


def test_a_flat_direction_has_a_minimum() -> None:
    # ½ (p₀ + p₁ - 3)² - 4.5, flat along p₀ - p₁.
    prediction = predict_bowl(np.ones(2, "f4"), np.ones((2, 2), "f4"), np.full(2, -3, "f4"), 0.2, 1e-6)
    np.testing.assert_allclose(prediction.minimum_loss, -4.5, rtol=1e-6)  # float32
    assert float(prediction.steps) == 13  # from an excess of ½, times (1 - 0.2·2)² a step


@pytest.mark.parametrize("slope", [1e4, 1.0, 0.1])
def test_a_slope_without_curvature_has_no_minimum(slope: float) -> None:
    # The smallest one is 1e-5 of the gradient: a hundred times what float32 rounds.
    matrix, slopes = np.diag([1e4, 0]).astype("f4"), np.array([0, slope], "f4")
    prediction = predict_bowl(np.ones(2, "f4"), matrix, slopes, 1e-5)
    assert np.isneginf(prediction.minimum_loss)
    assert np.isposinf(prediction.steps)


def test_a_start_at_the_minimum_of_a_rank_deficient_fit_has_that_minimum() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(50, 2))
    x = np.c_[x, x @ [0.3, 0.7]]  # the third column adds nothing
    y = x @ [1.0, 2.0, 3.0] + 0.1 * generator.normal(size=50)
    solution = np.linalg.lstsq(x, y)[0]
    rows = Dataset(jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32))
    risk = empirical_risk(models.linear(3, bias=False), losses.squared)
    predict = jax.jit(functools.partial(curvature.predict_training, risk, learning_rate=0.1))
    prediction = predict({"w": jnp.asarray(solution, jnp.float32)}, rows)
    np.testing.assert_allclose(prediction.minimum_loss, ((x @ solution - y) ** 2).mean() / 2, rtol=1e-4)  # float32


# ---- Newton ----


@pytest.mark.usefixtures("x64")
def test_one_newton_step_reaches_least_squares(line: Dataset, variant: Callable[..., Any]) -> None:
    rows = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), line)
    got = variant(lambda params: curvature.newton_step(RISK, params, rows))(start())
    expected = np.linalg.lstsq(design(line), rows.y)[0]
    np.testing.assert_allclose(np.r_[got["b"], got["w"]], expected, rtol=1e-12)  # rounding


CAUCHY = empirical_risk(models.linear(2), losses.cauchy)
FAR = {"w": jnp.array([20.0, 30.0]), "b": jnp.array(-40.0)}


@jax.jit
def newton_slope(rows: Dataset, damping: Any) -> Any:
    """The slope of the Cauchy loss along Newton's step from a far point."""
    step = jax.tree.map(jnp.subtract, curvature.newton_step(CAUCHY, FAR, rows, damping=damping), FAR)
    return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, curvature.gradient(CAUCHY, FAR, rows), step)))


def test_a_newton_step_on_the_cauchy_loss_far_away_goes_uphill(line: Dataset) -> None:
    assert newton_slope(line, 0.0) > 0


def test_a_damping_above_minus_the_least_eigenvalue_makes_newton_descend(line: Dataset) -> None:
    features, residual = design(line), design(line) @ [-40.0, 20.0, 30.0] - np.asarray(line.y)
    bend = (1 - residual**2) / (1 + residual**2) ** 2  # second derivative of ½ log(1 + r²)
    least = np.linalg.eigvalsh((features.T * bend) @ features / len(features))[0]
    assert least < 0
    assert newton_slope(line, -1.1 * least) < 0


# ---- epochs as linear maps ----


@pytest.mark.usefixtures("x64")
def test_the_epoch_map_is_the_product_of_the_steps(variant: Callable[..., Any]) -> None:
    matrices = np.stack([rotated([0.5, 1.0, 3.0], seed) for seed in range(4)])
    got = variant(lambda rate: curvature.epoch_map(quadratic, np.ones(3), matrices, learning_rate=rate))(0.3)
    first, second, third, fourth = np.eye(3) - 0.3 * matrices
    np.testing.assert_allclose(got, fourth @ third @ second @ first, rtol=1e-12, atol=1e-14)  # rounding


@pytest.mark.usefixtures("x64")
def test_the_epoch_map_moves_the_difference_of_two_runs_of_an_epoch() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(12, 2)), generator.normal(size=12)
    batches = batching.gather(Dataset(jnp.asarray(x), jnp.asarray(y)), batching.minibatches(jnp.arange(12), 5))
    got = jax.jit(functools.partial(curvature.epoch_map, RISK, learning_rate=0.4))(start(), batches)

    def epoch(params: np.ndarray) -> np.ndarray:
        for first in (0, 5, 10):
            features = np.c_[np.ones(12), x][first : first + 5]
            params = params - 0.4 * features.T @ (features @ params - y[first : first + 5]) / len(features)
        return params

    one, other = generator.normal(size=(2, 3))
    np.testing.assert_allclose(got @ (one - other), epoch(one) - epoch(other), rtol=1e-12)  # rounding


MATRICES = {
    "real": np.array([[0.5, 0.3], [0.2, 0.7]]),
    "complex pair": np.array([[0.5, 0.9], [-0.9, 0.5]]),
    "eigenvalues of opposite sign": np.array([[0.0, 2.0], [2.0, 0.0]]),
    "Jordan block": np.array([[0.9, 1.0], [0.0, 0.9]]),
    "not normal": np.array([[0.5, 1000.0], [0.0, 0.25]]),
    "nilpotent": np.array([[0.0, 1.0, 2.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0]]),
    "zero": np.zeros((3, 3)),
    "20 × 20": np.random.default_rng(0).normal(size=(20, 20)),
    "large": 1e20 * np.array([[0.5, 0.3], [-0.2, 0.7]]),
    "tiny": 1e-20 * np.array([[0.5, 0.3], [-0.2, 0.7]]),
    "1 × 1": np.array([[-3.0]]),
}


spectral_radius = jax.jit(curvature.spectral_radius)


@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES.keys())
def test_spectral_radius_equals_the_largest_modulus_of_eigvals(matrix: np.ndarray) -> None:
    got = spectral_radius(jnp.asarray(matrix, jnp.float32))
    # float32; a Jordan block adds log(2²⁴)/2²⁴ = 1e-6.
    np.testing.assert_allclose(got, np.abs(np.linalg.eigvals(matrix)).max(), rtol=1e-5)


def test_spectral_radius_may_be_jitted_and_batched(variant: Callable[..., Any]) -> None:
    got = variant(curvature.spectral_radius)(jnp.array([[0.5, 0.9], [-0.9, 0.5]]))
    np.testing.assert_allclose(got, np.hypot(0.5, 0.9), rtol=1e-6)  # float32


# ---- bad arguments ----

BAD_CALLS: dict[str, tuple[Callable[[], Any], str]] = {
    "complex params": (
        lambda: curvature.gradient(quadratic, np.ones(2, complex), np.eye(2)),
        "params must be of real numbers, got complex128",
    ),
    "no params": (lambda: curvature.hessian(quadratic, {}, 1.0), "params must hold at least one number, got none"),
    "another tree": (
        lambda: curvature.hvp(nested, POINT, {"s": 1.0}, A),
        r"vector must be a pytree like params, .*'inner'.*, got .*\{'s': \*\}",
    ),
    "another shape": (
        lambda: curvature.hvp(quadratic, jnp.ones(2), jnp.ones(3), jnp.eye(2)),
        r"vector must have shape \(2,\), got \(3,\)",
    ),
    "one Lanczos step": (
        lambda: curvature.extreme_eigenvalues(quadratic, jnp.ones(300), jnp.eye(300), lanczos_steps=1),
        "lanczos_steps must be at least 2, got 1",
    ),
    "an epoch of no steps": (
        lambda: curvature.predict_training(quadratic, jnp.ones(2), jnp.eye(2), learning_rate=0.1, steps_per_epoch=0),
        "steps_per_epoch must be at least 1, got 0",
    ),
    "rectangle": (
        lambda: curvature.spectral_radius(jnp.ones((2, 3))),
        r"matrix must have shape \(p, p\), got \(2, 3\)",
    ),
    "complex matrix": (
        lambda: curvature.spectral_radius(np.eye(2, dtype=complex)),
        "matrix must be of real numbers, got complex128",
    ),
}


@pytest.mark.parametrize(("call", "message"), BAD_CALLS.values(), ids=BAD_CALLS.keys())
def test_a_bad_argument_is_named_with_what_was_wanted_and_got(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_an_objective_that_is_no_scalar_is_refused() -> None:
    with pytest.raises(TypeError, match=r"scalar-output functions.*\(2,\)"):
        curvature.hessian(lambda params: params**2, jnp.ones(2))
