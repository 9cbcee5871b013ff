"""What follows a global fit, against SciPy on all data sets at once: refits, and errors from its whole Jacobian."""

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

import jaxreg
from jaxreg import models, plots, uncertainty
from jaxreg.status import Status

pytestmark = pytest.mark.usefixtures("x64")

# Decays of one rate and offset, each with an amplitude, and one that cannot be fitted.
X = np.linspace(0.0, 3.0, 14)
Y = np.array([1.0, 2.0, 1.5, 0.7, 3.0])[:, None] * np.exp(-1.2 * X) + 0.4
Y = Y + 0.05 * np.random.default_rng(2).normal(size=Y.shape)
Y[2, 3] = np.nan
LOST, KEPT = 2, [0, 1, 3, 4]
DECAY = models.expression("amplitude*exp(-rate*x) + offset")
START = {"amplitude": 1.0, "rate": 1.0, "offset": 0.0}
GRID = np.array([0.5, 4.0])


@pytest.fixture(scope="module")
def fit() -> jaxreg.GlobalFit:
    with jax.enable_x64(True):
        return jaxreg.fit_many(DECAY, X, Y, START, shared=("rate", "offset"))


def residual(numbers: np.ndarray) -> np.ndarray:
    *amplitude, offset, rate = numbers
    return (np.outer(amplitude, np.exp(-rate * X)) + offset - Y[KEPT]).ravel()


def jacobian(numbers: np.ndarray) -> np.ndarray:
    *amplitude, _, rate = numbers
    decay, one = np.exp(-rate * X), np.ones((len(KEPT), len(X)))
    own = np.kron(np.eye(len(KEPT)), decay[:, None])
    return np.column_stack([own, one.ravel(), np.outer(amplitude, -X * decay).ravel()])


def cost_with(held: dict[int, float]) -> float:
    """The least χ² with some numbers held, and all else refitted."""
    places = [place for place in range(6) if place not in held]

    def whole(free: np.ndarray) -> np.ndarray:
        numbers = np.zeros(6)
        numbers[places], numbers[list(held)] = free, list(held.values())
        return numbers

    end = scipy.optimize.least_squares(
        lambda free: residual(whole(free)),
        np.array([1.0, 2.0, 0.7, 3.0, 0.4, 1.2])[places],
        jac=lambda free: jacobian(whole(free))[:, places],
        method="lm",
        xtol=1e-15,
        ftol=1e-15,
    )
    return 2 * end.cost


DOF = 4 * 14 - 6
SCIPY = scipy.optimize.least_squares(residual, np.ones(6), jac=jacobian, method="lm", xtol=1e-15, ftol=1e-15)
VARIANCE = 2 * SCIPY.cost / DOF
COVARIANCE = VARIANCE * np.linalg.inv(jacobian(SCIPY.x).T @ jacobian(SCIPY.x))
T = scipy.stats.t(DOF).ppf(0.975)
RATE, OFFSET = 5, 4


def test_intervals_are_by_the_degrees_of_freedom_of_all_data_sets(fit):
    lower, upper = uncertainty.intervals(fit)
    error = np.sqrt(np.diagonal(COVARIANCE))
    np.testing.assert_allclose(lower["rate"], SCIPY.x[RATE] - T * error[RATE], rtol=1e-7)
    np.testing.assert_allclose(upper["amplitude"][np.array(KEPT)], SCIPY.x[:4] + T * error[:4], rtol=1e-7)
    assert np.isnan(upper["amplitude"][LOST])
    np.testing.assert_allclose(uncertainty.intervals(fit.each[4]).upper["rate"], upper["rate"], rtol=1e-12)


@pytest.mark.parametrize("kind", ["confidence", "prediction"])
def test_bands_of_all_data_sets_and_of_one(fit, kind):
    found = uncertainty.band(fit, GRID, kind=kind)
    decay = np.exp(-SCIPY.x[RATE] * GRID)
    for place, numbers in zip(KEPT, np.eye(4), strict=True):
        amplitude = numbers @ SCIPY.x[:4]
        slope = np.column_stack([np.outer(decay, numbers), np.ones(2), -amplitude * GRID * decay])
        variance = np.sum((slope @ COVARIANCE) * slope, axis=1) + (VARIANCE if kind == "prediction" else 0)
        upper = amplitude * decay + SCIPY.x[OFFSET] + T * np.sqrt(variance)
        np.testing.assert_allclose(found.upper[place], upper, rtol=1e-7)
    one = uncertainty.band(fit.each[1], GRID, kind=kind)
    for name in one._fields:
        np.testing.assert_allclose(getattr(one, name), getattr(found, name)[1], rtol=1e-12)
    assert np.isnan(found.stderr[LOST]).all()


def test_derived_quantities_of_shared_and_own_parameters(fit):
    kept = np.array(KEPT)

    def quantities(params: Any) -> Any:
        amplitude = params["amplitude"][kept]
        return {
            "life": jnp.log(2) / params["rate"],
            "ratio": amplitude[1] / amplitude[0],
            "area": amplitude / params["rate"],
        }

    found = uncertainty.derived(fit, quantities)
    *own, _, rate = SCIPY.x
    slope = np.zeros((6, 6))
    slope[:4, :4], slope[:4, RATE] = np.eye(4) / rate, -np.array(own) / rate**2  # areas
    slope[4, RATE] = -np.log(2) / rate**2
    slope[5, :2] = -own[1] / own[0] ** 2, 1 / own[0]
    np.testing.assert_allclose(found.covariance, slope @ COVARIANCE @ slope.T, rtol=1e-6, atol=1e-10)
    half = T * np.sqrt(slope[5] @ COVARIANCE @ slope[5])
    np.testing.assert_allclose(found.upper["ratio"], own[1] / own[0] + half, rtol=1e-7)


def test_a_quantity_of_a_data_set_that_took_no_part_is_not_known(fit):
    found = uncertainty.derived(fit, lambda params: {"all": params["amplitude"].mean(), "one": params["amplitude"][0]})
    assert np.isnan(found.stderr["all"])
    np.testing.assert_allclose(found.stderr["one"], fit.stderr["amplitude"][0], rtol=1e-9)


def test_a_profile_refits_all_data_sets(fit):
    found = uncertainty.profile(fit, num=4)
    assert found.tau.keys() == {"rate", "offset"}
    assert not np.any(found.status["rate"])
    for name, place in {"rate": RATE, "offset": OFFSET}.items():
        costs = np.array([cost_with({place: float(value)}) for value in found.values[name]])
        tau = np.sqrt((costs - 2 * SCIPY.cost) / VARIANCE) * np.sign(found.values[name] - SCIPY.x[place])
        np.testing.assert_allclose(found.tau[name], tau, rtol=1e-6)
    plots.profile(found, fit, "rate")
    plt.close("all")


def test_ends_of_profile_intervals(fit):
    found = uncertainty.profile_intervals(fit)
    assert found.lower.keys() == {"rate", "offset"}
    for name, place in {"rate": RATE, "offset": OFFSET}.items():
        for end in (found.lower[name], found.upper[name]):
            growth = (cost_with({place: float(end)}) - 2 * SCIPY.cost) / VARIANCE
            np.testing.assert_allclose(growth, T**2, rtol=1e-5)


def test_the_bootstrap_within_data_sets_and_of_them(fit):
    key, error = jax.random.key(0), np.sqrt(np.diagonal(COVARIANCE))
    for kind in ("residual", "parametric", "pairs"):
        found = uncertainty.bootstrap(key, fit, kind=kind, num=200)
        assert found.num_failed == 0
        assert found.params["amplitude"].shape == (200, 5)
        assert np.isnan(found.params["amplitude"][:, LOST]).all()
        np.testing.assert_allclose(found.stderr["rate"], error[RATE], rtol=0.3)
        np.testing.assert_allclose(found.stderr["amplitude"][np.array(KEPT)], error[:4], rtol=0.5)
    sets = uncertainty.bootstrap(key, fit, kind="sets", num=200)
    assert sets.params.keys() == sets.lower.keys() == {"rate", "offset"}
    # Each refit is that of the sets which were drawn: of four all alike, at times.
    assert 0 < float(sets.stderr["rate"]) < 2 * error[RATE]
    lost = jnp.where(jnp.arange(5) == KEPT[0], jnp.int32(Status.OK), jnp.int32(Status.NONFINITE))
    one = fit.replace(each=fit.each.replace(status=lost))
    with pytest.raises(ValueError, match="fewer than two data sets took part"):
        uncertainty.bootstrap(key, one, kind="sets", num=200)


def test_it_is_shown(fit):
    assert jaxreg.summary(fit) == str(fit)
    lines = str(fit).splitlines()
    assert lines[2] == "4 of 5 data sets share rate, offset"
    assert lines[4] == "took no part: 2 (NONFINITE, y is not finite at row 3 (mask= leaves rows out))"
    assert [line.split()[0] for line in lines if " ± 0." in line] == ["0", "1", "3", "4"]
    assert f"degrees of freedom  {DOF:>9}".split() in [line.split() for line in lines]
    assert "<table>" in fit._repr_html_()
    assert "AIC" not in str(fit.each[0])


def test_its_table_has_a_row_for_each_data_set(fit):
    table = fit.to_dataframe()
    assert len(table) == 5
    np.testing.assert_allclose(table["rate"][0], SCIPY.x[RATE], rtol=1e-8)
    assert table["status"][LOST] == "NONFINITE"
    assert fit.to_xarray().sizes["fit"] == 5


def test_it_is_kept(fit, tmp_path):
    jaxreg.save(fit, tmp_path / "fit")
    for again in (jaxreg.load(tmp_path / "fit"), pickle.loads(pickle.dumps(fit))):
        assert jax.tree.structure(again) == jax.tree.structure(fit)
        for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(fit), strict=True):
            np.testing.assert_array_equal(one, other)
        assert str(again) == str(fit)
    back = fit.without_data().with_problem(fit.problem)
    assert back.each.problem.y.shape == Y.shape
    with pytest.raises(ValueError, match="problem must be that of a global fit, got Problem"):
        fit.with_problem(fit.each[0].problem)


@pytest.mark.parametrize("most", [8, 3])
def test_all_data_sets_in_one_figure(fit, most, monkeypatch):
    monkeypatch.setattr("jaxreg.plots._fits.COLORS", plots.COLORS[:most])
    upper, lower = plots.fit(fit)
    words = [text.get_text() for text in upper.get_legend().get_texts()]
    assert "took no part" in words
    assert ("data set 0" in words) == (most == 8)
    assert len(upper.get_figure().axes) == (2 if most == 8 else 3)  # with a bar of colours
    assert len(lower.lines) == 1 + len(KEPT)
    plt.close("all")


def test_what_is_not_for_it_says_what_to_do(fit):
    with pytest.raises(ValueError, match=r"ask profile_intervals\(fit\)\.discrepancy"):
        uncertainty.nonlinearity(fit)
    with pytest.raises(ValueError, match=r"one data set of a global fit, .* give the global fit itself"):
        uncertainty.profile(fit.each[0])
    with pytest.raises(ValueError, match="kind must be 'delta' of a global"):
        uncertainty.derived(fit, lambda params: params["rate"], kind="profile")
    with pytest.raises(ValueError, match="goodness is not for a global fit"):
        jaxreg.goodness(fit)
    with pytest.raises(ValueError, match="first must be one fit, got GlobalFit"):
        jaxreg.compare({"first": fit, "second": fit})


def test_a_failed_one_names_its_first_data_set(fit):
    each = fit.each.replace(status=jnp.full(5, Status.NONFINITE, jnp.int32))
    failed = fit.replace(status=jnp.int32(Status.NONFINITE), each=each)
    with pytest.raises(RuntimeError, match=r"the fit failed: NONFINITE, y is not finite at row 3 .* in data set \[2\]"):
        jaxreg.raise_if_failed(failed)
