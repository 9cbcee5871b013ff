"""Errors in both coordinates: York's line, joint solutions, SciPy's ODR, derivatives, and what is refused."""

import pickle
import re
import warnings

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import optimize

import jaxreg
from jaxreg import Status, models, plots, problem, uncertainty
from jaxreg.status import culprit_of

PEARSON_X = np.array([0.0, 0.9, 1.8, 2.6, 3.3, 4.4, 5.2, 6.1, 6.5, 7.4])
PEARSON_Y = np.array([5.9, 5.4, 4.4, 4.6, 3.5, 3.7, 2.8, 2.8, 2.4, 1.5])
YORK_X = 1 / np.sqrt([1000, 1000, 500, 800, 200, 80, 60, 20, 1.8, 1])  # sigmas, of York's weights
YORK_Y = 1 / np.sqrt([1, 1.8, 4, 8, 20, 20, 70, 70, 100, 500])


@pytest.fixture(autouse=True)
def _double_precision():
    with jax.enable_x64(True):
        yield


def line(params, x):
    return params["a"] + params["b"] * x


def decay(params, x):
    return params["a"] * jnp.exp(-params["k"] * x) + params["c"]


def decaying(n=30, sigma_x=0.1, sigma=0.1, seed=0):
    rng = np.random.default_rng(seed)
    x = np.linspace(0.0, 4.0, n)
    y = 5 * np.exp(-1.1 * x) + 0.5
    data = {"x": x + rng.normal(0, sigma_x, n), "y": y + rng.normal(0, sigma, n)}
    return data | {"sigma": sigma, "sigma_x": sigma_x, "absolute_sigma": True}


START = {"a": 4.0, "k": 1.0, "c": 0.0}


def joint(model, data, start):
    """By SciPy on all unknowns, the true x among them: params and covariance, from Gauss-Newton's matrix."""
    x, y, names = data["x"], data["y"], sorted(start)
    sigma, sigma_x = (np.broadcast_to(data[name], x.shape) for name in ("sigma", "sigma_x"))

    def residual(unknowns):
        params = dict(zip(names, unknowns, strict=False))
        true = unknowns[len(names) :]
        return jnp.concatenate([(model(params, true) - y) / sigma, (true - x) / sigma_x])

    first = np.concatenate([[start[name] for name in names], x])
    found = optimize.least_squares(residual, first, jax.jit(jax.jacfwd(residual)), xtol=1e-15, ftol=1e-15, gtol=1e-15)
    covariance = np.linalg.inv(found.jac.T @ found.jac)[: len(names), : len(names)]
    return dict(zip(names, found.x, strict=False)), covariance, 2 * found.cost, found.x[len(names) :]


def test_yorks_line():
    fit = jaxreg.curve_fit(
        line, PEARSON_X, PEARSON_Y, {"a": 5.0, "b": -0.5}, sigma=YORK_Y, sigma_x=YORK_X, absolute_sigma=True
    )
    np.testing.assert_allclose(
        [fit.params["a"], fit.params["b"], fit.chi2], [5.479910224, -0.480533407, 11.866353], 1e-7
    )
    np.testing.assert_allclose([fit.stderr["a"], fit.stderr["b"]], [0.29497, 0.057985], 2e-5)
    assert int(fit.dof) == 8
    scaled = jaxreg.curve_fit(line, PEARSON_X, PEARSON_Y, {"a": 5.0, "b": -0.5}, sigma=YORK_Y, sigma_x=YORK_X)
    np.testing.assert_allclose(scaled.stderr["a"], fit.stderr["a"] * np.sqrt(fit.chi2 / 8), 1e-12)
    distance = (fit.adjusted_x - PEARSON_X) / YORK_X
    np.testing.assert_allclose(np.sum(distance**2) + np.sum((fit.residuals / YORK_Y) ** 2), fit.chi2, 1e-12)


def test_the_joint_solution_of_all_unknowns():
    data = decaying()
    fit = jaxreg.curve_fit(decay, p0=START, **data)
    params, covariance, chi2, true = joint(decay, data, START)
    for place, name in enumerate(sorted(START)):
        assert abs(fit.params[name] - params[name]) < 1e-7 * np.sqrt(covariance[place, place])
    np.testing.assert_allclose(fit.covariance, covariance, 1e-7)
    np.testing.assert_allclose(fit.chi2, chi2, 1e-12)
    np.testing.assert_allclose(fit.adjusted_x, true, rtol=0, atol=1e-8)
    np.testing.assert_allclose(fit.residuals, data["y"] - decay(fit.params, fit.adjusted_x), rtol=0, atol=1e-12)


def test_scipys_odr():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        odr = pytest.importorskip("scipy.odr")
        data = decaying(sigma_x=np.linspace(0.02, 0.3, 30))
        model = odr.Model(
            lambda p, x: p[0] * np.exp(-p[1] * x) + p[2],
            fjacb=lambda p, x: np.stack([np.exp(-p[1] * x), -p[0] * x * np.exp(-p[1] * x), np.ones_like(x)]),
            fjacd=lambda p, x: -p[0] * p[1] * np.exp(-p[1] * x),
        )
        given = odr.RealData(data["x"], data["y"], sx=data["sigma_x"], sy=np.full(30, 0.1))
        run = odr.ODR(given, model, [4.0, 1.0, 0.0], sstol=1e-16, partol=1e-16, maxit=1000)
        run.set_job(fit_type=0, deriv=3)
        found = run.run()
    fit = jaxreg.curve_fit(decay, p0=START, **data)
    values, order = np.array([fit.params[name] for name in "akc"]), [0, 2, 1]
    assert np.all(np.abs(found.beta - values) < 1e-6 * np.sqrt(np.diag(found.cov_beta)))
    np.testing.assert_allclose(np.asarray(fit.covariance)[np.ix_(order, order)], found.cov_beta, 1e-6)
    np.testing.assert_allclose(fit.chi2, found.sum_square, 1e-10)


def test_several_coordinates_and_correlated_errors():
    rng = np.random.default_rng(1)
    true = rng.uniform(0, 3, (25, 2))

    def surface(params, x):
        return params["a"] * jnp.exp(-params["k"] * x[..., 0]) + params["b"] * x[..., 1]

    matrix = np.array([[0.01, 0.004, 0.002], [0.004, 0.02, -0.006], [0.002, -0.006, 0.03]])
    errors = rng.multivariate_normal(np.zeros(3), matrix, 25)
    x, y = true + errors[:, :2], surface({"a": 3.0, "k": 0.7, "b": 1.2}, true) + errors[:, 2]
    start = {"a": 2.0, "k": 0.5, "b": 1.0}
    fit = jaxreg.curve_fit(surface, x, y, start, sigma_x=np.broadcast_to(matrix, (25, 3, 3)), absolute_sigma=True)

    root, names = np.linalg.inv(np.linalg.cholesky(matrix)), sorted(start)

    def residual(unknowns):
        params, xi = dict(zip(names, unknowns[:3], strict=True)), unknowns[3:].reshape(25, 2)
        off = jnp.concatenate([xi - x, (surface(params, xi) - y)[:, None]], axis=1)
        return (off @ root.T).ravel()

    first = np.concatenate([[start[name] for name in names], x.ravel()])
    found = optimize.least_squares(residual, first, jax.jit(jax.jacfwd(residual)), xtol=1e-15, ftol=1e-15, gtol=1e-15)
    covariance = np.linalg.inv(found.jac.T @ found.jac)[:3, :3]
    np.testing.assert_allclose([fit.params[name] for name in names], found.x[:3], rtol=1e-7)
    np.testing.assert_allclose(fit.covariance, covariance, 1e-6)
    np.testing.assert_allclose(fit.problem.sigma, np.sqrt(0.03))
    alone = {"sigma": 0.2, "absolute_sigma": True}
    deviations = jaxreg.curve_fit(surface, x, y, start, sigma_x=np.broadcast_to([0.1, 0.2], (25, 2)), **alone)
    diagonal = np.broadcast_to(np.diag([0.01, 0.04]), (25, 2, 2))
    as_matrix = jaxreg.curve_fit(surface, x, y, start, sigma_x=diagonal, **alone)
    np.testing.assert_allclose(deviations.covariance, as_matrix.covariance, 1e-9)


@pytest.mark.parametrize("across", [None, 0.5], ids=["independent", "correlated"])
def test_the_residuals_of_a_figure_are_distances(across):
    sigma_x = np.where(np.arange(10) == 3, 0.0, YORK_X)
    errors = {"sigma": YORK_Y, "sigma_x": sigma_x}
    if across:
        shared = across * sigma_x * YORK_Y
        errors = {"sigma_x": np.moveaxis(np.array([[sigma_x**2, shared], [shared, YORK_Y**2]]), -1, 0)}
    fit = jaxreg.curve_fit(line, PEARSON_X, PEARSON_Y, {"a": 5.0, "b": -0.5}, absolute_sigma=True, **errors)
    drawn = plots.residuals(fit, ax=plt.subplots()[1]).lines[-1].get_ydata()
    plt.close("all")
    np.testing.assert_allclose(np.sum(drawn**2), fit.chi2, 1e-12)
    np.testing.assert_array_equal(np.sign(drawn), np.sign(fit.residuals))


def test_without_an_error_a_point_is_an_ordinary_one():
    data = decaying(sigma_x=0.0)
    exact = {name: value for name, value in data.items() if name != "sigma_x"}
    fit, plain = jaxreg.curve_fit(decay, p0=START, **data), jaxreg.curve_fit(decay, p0=START, **exact)
    np.testing.assert_allclose(fit.covariance, plain.covariance, 1e-9)
    np.testing.assert_array_equal(fit.adjusted_x, data["x"])
    assert plain.adjusted_x is None


def test_masked_points_may_be_anything():
    data = decaying()
    some = {name: value[:25] if np.ndim(value) else value for name, value in data.items()}
    fit = jaxreg.curve_fit(decay, p0=START, **some)
    data["y"][25:], data["x"][27] = np.nan, np.nan
    sigma_x = np.where(np.arange(30) < 25, 0.1, [np.nan, -1.0] * 15)
    masked = jaxreg.curve_fit(decay, p0=START, mask=np.arange(30) < 25, **data | {"sigma_x": sigma_x})
    np.testing.assert_allclose(masked.covariance, fit.covariance, 1e-9)
    np.testing.assert_allclose(masked.chi2, fit.chi2, 1e-12)


def test_odrpacks_bounded_example_has_a_lower_optimum():
    x = np.array([0.982, 1.998, 4.978, 6.01])
    y = np.array([2.7, 7.4, 148.0, 403.0])
    fit = jaxreg.curve_fit(
        lambda p, x: p["b"][0] * jnp.exp(p["b"][1] * x), x, y, {"b": np.array([2.0, 0.5])},
        bounds={"b": (np.array([0.0, 0.0]), np.array([10.0, 0.9]))}, sigma_x=1.0, sigma=1.0,
    )  # fmt: skip
    np.testing.assert_allclose([*fit.params["b"], fit.chi2], [1.43998, 0.9, 0.19187], rtol=1e-5)
    assert fit.at_bound["b"].tolist() == [False, True]


def test_a_robust_loss_damps_outliers_in_either_coordinate():
    data = decaying(60)
    data["x"][20] += 3.0
    data["y"][40] += 6.0
    plain = jaxreg.curve_fit(decay, p0=START, **data)
    robust = jaxreg.curve_fit(decay, p0=START, loss="tukey", **data)
    off = [abs(float(fit.params["k"]) - 1.1) for fit in (plain, robust)]
    assert off[1] < 0.15 < off[0]


def test_derivatives_are_those_of_differences():
    data = decaying(12)
    x, n = data.pop("x"), 12
    data = {key: np.full(n, value) if key.startswith("sigma") else value for key, value in data.items()}
    stated, rng = problem(decay, x, p0=START, **data), np.random.default_rng(3)
    numbers = {"x": x, **{name: data[name] for name in ("y", "sigma", "sigma_x")}}
    directions = {name: rng.normal(size=n) * (0.1 if name.startswith("sigma") else 1.0) for name in numbers}

    @jax.jit
    def rate(steps):
        moved = {name: numbers[name] + step * directions[name] for name, step in zip(numbers, steps, strict=True)}
        return jaxreg.fit(stated.replace(**moved)).params["k"]

    still, step = jnp.zeros(4), 1e-5
    differences = [(rate(still.at[i].set(step)) - rate(still.at[i].set(-step))) / (2 * step) for i in range(4)]
    for derivative in (jax.jacfwd, jax.grad):
        np.testing.assert_allclose(jax.jit(derivative(rate))(still), differences, rtol=1e-6, atol=1e-9)


def test_a_model_that_closes_over_what_is_traced():
    data = decaying(12)

    def rate(scale):
        return jaxreg.curve_fit(lambda p, x: decay(p, scale * x), p0=START, **data).params["k"]

    one, two = jax.jit(jax.vmap(rate))(jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(one, 2 * two, 1e-9)
    np.testing.assert_allclose(jax.jit(jax.grad(rate))(2.0), -two / 2, 1e-8)


def test_many_fits_are_those_of_one_by_one(tmp_path):
    sets = [decaying(20, seed=seed) for seed in range(6)]
    x, y = (np.stack([one[name] for one in sets]) for name in ("x", "y"))
    y[4, 3] = np.nan
    known = {"sigma": 0.1, "absolute_sigma": True}
    fits = jaxreg.fit_many(decay, x, y, START, sigma_x=0.1, progress=False, **known)
    assert fits.status.tolist() == [0, 0, 0, 0, Status.NONFINITE, 0]
    for place in (0, 5):
        one = jaxreg.curve_fit(decay, x[place], y[place], START, sigma_x=0.1, **known)
        np.testing.assert_allclose(fits.covariance[place], one.covariance, 1e-7)
        np.testing.assert_allclose(fits.adjusted_x[place], one.adjusted_x, rtol=0, atol=1e-8)
    own = np.full((6, 20, 2, 2), [[0.01, 0.0], [0.0, 0.01]])
    own[1, 2, 0, 0] = -1.0
    stated = problem(decay, x[0], y[0], START, absolute_sigma=True)
    for again in (
        jaxreg.fit_many(decay, x, y, START, sigma_x=own, absolute_sigma=True, progress=False),
        jaxreg.fit_many(stated, each={"x": x, "y": y, "sigma_x": own}, progress=False),
    ):
        assert again.status.tolist() == [0, Status.INVALID_INPUT, 0, 0, Status.NONFINITE, 0]
        assert "sigma_x" in culprit_of(again, (1,))
        np.testing.assert_allclose(again.covariance[[0, 5]], fits.covariance[[0, 5]], 1e-9)
    assert np.array_equal(pickle.loads(pickle.dumps(fits.replace(problem=None))).adjusted_x, fits.adjusted_x, True)
    jaxreg.save(fits, tmp_path / "fits")
    back = jaxreg.load(tmp_path / "fits", model=decay)
    np.testing.assert_array_equal(back.adjusted_x, fits.adjusted_x)
    np.testing.assert_array_equal(back.problem.sigma_x, fits.problem.sigma_x)


def test_what_follows_a_fit_counts_both_coordinates():
    data = decaying(25)
    fit = jaxreg.curve_fit(decay, p0=START, **data)
    spread = uncertainty.bootstrap(jax.random.key(0), fit, kind="parametric", num=300)
    ends = uncertainty.profile_intervals(fit, level=0.6827)
    for name in START:
        assert 0.85 < float(spread.stderr[name] / fit.stderr[name]) < 1.15
        assert 0.8 < float((ends.upper[name] - ends.lower[name]) / (2 * fit.stderr[name])) < 1.25
    assert "errors in x" in jaxreg.summary(fit)
    assert np.isnan(jaxreg.goodness(fit).r_squared)
    np.testing.assert_allclose(jaxreg.goodness(fit).chi2, fit.chi2)
    with pytest.raises(ValueError, match="pairs"):
        uncertainty.bootstrap(jax.random.key(0), fit, kind="residual")


def test_a_sum_adjusts_the_x_of_its_terms():
    data, other = decaying(15), decaying(15, seed=1)
    del other["sigma_x"]
    fit = jaxreg.fit(problem(decay, p0=START, **data) + problem(decay, p0=START, **other))
    assert fit.adjusted_x[0].shape == (15,)
    assert fit.adjusted_x[1] is None


COUPLED = [lambda p, x: line(p, x - x.mean()), lambda p, x: line(p, x / x.max()), lambda p, x: line(p, jnp.cumsum(x))]


@pytest.mark.parametrize("model", COUPLED, ids=["mean", "maximum", "sum"])
def test_a_model_that_couples_rows_is_refused(model):
    start, known = {"a": 5.0, "b": -0.5}, {"sigma": YORK_Y, "sigma_x": YORK_X}
    with pytest.raises(ValueError, match="each row of x"):
        jaxreg.curve_fit(model, PEARSON_X, PEARSON_Y, start, **known)


def test_many_fits_refuse_it_too_and_under_a_trace_it_is_a_status():
    fits = jax.jit(jax.vmap(lambda y: jaxreg.curve_fit(COUPLED[0], PEARSON_X, y, {"a": 1.0, "b": 0.0}, sigma_x=0.1)))
    assert fits(PEARSON_Y[None]).status.tolist() == [Status.INVALID_INPUT]
    with pytest.raises(ValueError, match="each row of x"):
        jaxreg.fit_many(COUPLED[0], PEARSON_X, PEARSON_Y[None], {"a": 1.0, "b": 0.0}, sigma_x=0.1, progress=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sigma_x": -0.1}, "finite and ≥ 0"),
        ({"sigma_x": np.where(np.arange(10) == 4, np.nan, 0.1)}, "at index 4"),
        ({"sigma_x": np.inf}, "finite"),
        ({"sigma_x": np.ones(9)}, "got shape"),
        ({"sigma_x": np.ones((10, 1))}, "got shape"),
        ({"sigma_x": np.full((10, 2, 2), [[1.0, 2.0], [2.0, 1.0]]), "sigma": None}, "semidefinite"),
        ({"sigma_x": np.full((10, 2, 2), np.eye(2))}, "sigma must be None"),
        ({"sigma": np.eye(10)}, "beside sigma_x"),
        ({"x": (PEARSON_X, PEARSON_X)}, "one array"),
        ({"y": PEARSON_Y + 0j}, "real"),
        ({"y": np.round(PEARSON_Y), "loss": "poisson", "sigma": None}, "counts"),
        ({"model": models.linear(1), "loss": "absolute"}, "absolute"),
    ],
)
def test_bad_input_is_refused(changes, message):
    given = {"model": line, "x": PEARSON_X, "y": PEARSON_Y, "p0": {"a": 5.0, "b": -0.5}, "sigma": 0.1, "sigma_x": 0.1}
    with pytest.raises(ValueError, match=message):
        problem(**given | changes)


@pytest.mark.parametrize("shape", [(4, 10), (2,), (2, 9), (9, 1, 1)])
def test_many_fits_refuse_a_sigma_x_that_is_nobodys(shape):
    with pytest.raises(
        ValueError, match=re.escape(f"with (2,) before it, for each data set its own, got shape {shape}")
    ):
        jaxreg.fit_many(line, PEARSON_X, np.stack([PEARSON_Y] * 2), {"a": 5.0, "b": -0.5}, sigma_x=np.ones(shape))


def test_whole_numbers_as_x_and_what_replaces_sigma_x():
    x = np.arange(10)
    stated = problem(line, x, 1 + 2.0 * x, {"a": 0.0, "b": 1.0}, sigma_x=0.1, sigma=0.1, absolute_sigma=True)
    fit = jaxreg.fit(stated)
    np.testing.assert_allclose([fit.params["a"], fit.params["b"]], [1.0, 2.0], 1e-9)
    wide = jaxreg.fit(stated.replace(sigma_x=0.2))
    effective = [np.hypot(0.1, 2 * sigma_x) for sigma_x in (0.1, 0.2)]
    np.testing.assert_allclose(wide.stderr["b"] / fit.stderr["b"], effective[1] / effective[0], 1e-9)
    joint = np.full((10, 2, 2), np.diag([0.01, 0.04]))
    np.testing.assert_allclose(stated.replace(sigma_x=joint).sigma, 0.2)
    with pytest.raises(ValueError, match="sigma must be None"):
        stated.replace(sigma_x=joint, sigma=0.1)
