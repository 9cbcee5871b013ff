"""Labels, scales and artists of the figures; pixels are looked at by people."""

from functools import partial

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pytest

mpl.use("agg")
import matplotlib.pyplot as plt

import jaxreg
from jaxreg import losses, models, plots, studies, uncertainty
from jaxreg.training import Training


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def result(status=jaxreg.Status.OK):
    loss = jnp.array([4.0, 2.0, 1.0, jnp.nan]) if status else jnp.array([4.0, 2.0, 1.0, 0.5])
    return Training({}, loss, jnp.array([2.0, 0.5]), jnp.int32(status), jnp.int32(3))


def test_training_shows_validation_beside_training_loss_on_a_log_axis():
    ax = plots.training(result(), label="run")
    assert ax.get_yscale() == "log"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "loss")
    assert legend(ax) == ["run minibatch", "run validation"]
    np.testing.assert_array_equal(ax.lines[1].get_xdata(), [2, 4])


def test_training_marks_the_step_of_divergence():
    ax = plots.training(result(jaxreg.Status.DIVERGED), label="run")
    assert legend(ax)[-1] == "run DIVERGED"
    np.testing.assert_array_equal(ax.lines[-1].get_xdata(), [3])


def test_loss_curves_end_a_diverged_median_in_a_cross():
    values = np.array([[1.0, 10.0, np.nan], [1.0, 12.0, np.inf], [1.0, 11.0, 5.0]])
    ax = plots.loss_curves(np.arange(1, 4), {"a": values}, predicted={"a": np.ones(3)})
    assert legend(ax) == ["a (67 % not finite)", "predicted"]
    cross = next(line for line in ax.lines if line.get_marker() == "X")
    assert (cross.get_xdata()[0], cross.get_ydata()[0]) == (2, 11.0)


def test_loss_curves_keep_the_scale_of_those_that_do_not_explode():
    curves = {"tame": [[2.0, 1.0]], "wild": [[1e30, np.inf]]}
    ax = plots.loss_curves(np.arange(1, 3), curves)
    np.testing.assert_allclose(ax.get_ylim(), [1 / 3, 2e3])
    cross = next(line for line in ax.lines if line.get_marker() == "X")
    assert (cross.get_xdata()[0], cross.get_ydata()[0]) == (1, 2e3)
    assert plots.loss_curves(np.arange(1, 3), {"tame": curves["tame"]}).get_ylim()[1] < 10


def test_rate_sweep_hatches_the_rates_that_diverge():
    rates = np.array([0.1, 1.0, 2.0, 3.0])
    loss = np.array([[0.5, 0.1, 5.0, np.inf]])
    status = np.array([[0, 0, 0, jaxreg.Status.DIVERGED]])
    ax = plots.rate_sweep(rates, loss, status, start_loss=1.0, predicted_edge=1.9, measured_edge=2.0)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    hatched = next(part for part in ax.collections if part.get_hatch())
    assert hatched.get_paths()[0].get_extents().x0 == 2.0
    assert "predicted edge 2/λmax = 1.9" in legend(ax)


def test_curve_draws_the_band_of_the_covariance():
    x = jnp.linspace(1.0, 3.0, 20)
    y = 2.0 * x + 0.1 * jax.random.normal(jax.random.key(0), (20,))
    fit = jaxreg.curve_fit(models.ohm(), x, y, sigma=0.1, absolute_sigma=True)
    ax = plots.curve(fit, xlabel="current / A", ylabel="voltage / V")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("current / A", "voltage / V")
    band = next(part for part in ax.collections if part.get_label() == "95 % band")
    top = band.get_paths()[0].get_extents().y1
    expected = 3.0 * (float(fit.params["resistance"]) + 1.96 * float(fit.stderr["resistance"]))
    assert top == pytest.approx(expected, rel=1e-5)  # the normal distribution's, as sigma is absolute


@pytest.mark.parametrize("filler", [np.nan, 50.0])
def test_masked_points_are_not_drawn(filler):
    x, mask = jnp.linspace(1.0, 3.0, 20), jnp.arange(20) < 15
    fit = jaxreg.curve_fit(models.ohm(), jnp.where(mask, x, filler), jnp.where(mask, 2 * x, filler), mask=mask)
    upper, _ = plots.fit(fit)
    curve, points = (line.get_xdata() for line in upper.lines[:2])
    np.testing.assert_allclose([*curve[[0, -1]], *points[[0, -1]]], [1.0, x[14], 1.0, x[14]], rtol=1e-6)
    assert upper.get_xlim()[1] < 3


def test_fit_shares_the_x_axis_between_curve_and_residuals():
    x, sigma = jnp.linspace(1.0, 3.0, 20), jnp.full(20, 0.1)
    y = 2.0 * x + 0.1 * jax.random.normal(jax.random.key(0), (20,))
    fit = jaxreg.curve_fit(models.ohm(), x, y, sigma=sigma)
    upper, lower = plots.fit(fit, level=0.9, xlabel="current / A", ylabel="voltage / V")
    assert legend(upper) == ["fit", "90 % band", "data ± σ"]
    assert (upper.get_ylabel(), lower.get_xlabel()) == ("voltage / V", "current / A")
    assert upper.get_shared_x_axes().joined(upper, lower)
    np.testing.assert_allclose(lower.lines[-1].get_ydata(), fit.residuals / 0.1, rtol=1e-6)
    fit = jaxreg.curve_fit(models.ohm(), x, y)
    _, lower = plots.fit(fit)
    unit = np.sqrt(fit.chi2 / fit.dof)
    np.testing.assert_allclose(lower.lines[-1].get_ydata(), fit.residuals / unit, rtol=1e-6)
    band = next(part for part in upper.collections if part.get_label() == "90 % band")
    half = 1.7291 * float(fit.stderr["resistance"])  # the quantile 0.95 of Student's t with 19 degrees of freedom
    assert band.get_paths()[0].get_extents().y1 == pytest.approx(3 * (float(fit.params["resistance"]) + half), rel=1e-5)
    _, lower = plots.fit(fit.replace(chi2=0 * fit.chi2))  # an exact fit says no unit
    np.testing.assert_allclose(lower.lines[-1].get_ydata(), fit.residuals, rtol=1e-6)


def test_a_failed_fit_is_named_and_has_no_band():
    x = jnp.linspace(1.0, 3.0, 20)
    fit = jaxreg.curve_fit(models.ohm(), x, 2.0 * x)
    failed = fit.replace(covariance=jnp.nan * fit.covariance, status=jnp.int32(jaxreg.Status.MAX_STEPS))
    assert legend(plots.curve(failed)) == ["fit: MAX_STEPS", "data"]


def test_profile_draws_tau_beside_the_straight_line():
    values = {"a": jnp.array([1.0, 2.0, 3.0]), "b": jnp.array([4.0, 5.0, 6.0])}
    tau = {"a": jnp.zeros(3), "b": jnp.array([-1.2, 0.0, 0.9])}
    status = {"a": jnp.zeros(3, int), "b": jnp.array([0, 0, 1])}
    result = uncertainty.Profile(values, tau, {}, status)
    one, x = jnp.ones(()), jnp.arange(12.0)
    fit = jaxreg.curve_fit(models.expression("a + b*x"), x, x)
    fit = fit.replace(params={"a": 2 * one, "b": 5 * one}, stderr={"a": one, "b": one})
    ax = plots.profile(result, fit, "b", xlabel="b / m")
    assert legend(ax) == ["profile", "± standard error", "refit failed", "95 %"]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [-1.2, 0.0, np.nan], rtol=1e-6)
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [-1, 0, 1])
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), 2.2281, rtol=1e-4)  # t with 10 degrees of freedom
    assert ax.get_xlabel() == "b / m"
    with pytest.raises(ValueError, match="parameter must be one of a, b, got 'q'"):
        plots.profile(result, fit, "q")


def test_contours_are_closed():
    edge = uncertainty.Contour(
        jnp.array([[1.0, 0.0], [0.0, 1.0], [jnp.inf, 0.0]]), jnp.zeros(3, int), jnp.zeros(3, bool)
    )
    ax = plots.contour({"95 %": edge}, (0.5, 0.5), xlabel="a", ylabel="b")
    assert legend(ax) == ["95 %", "estimate"]
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [1, 0, np.nan, 1])


def test_residuals_are_in_units_of_sigma():
    x = jnp.arange(3.0)
    fit = jaxreg.curve_fit(models.ohm(), x, x, sigma=2.0).replace(residuals=jnp.array([1.0, -2.0, 4.0]))
    ax = plots.residuals(fit, xlabel="x / m")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x / m", "residual / σ")
    np.testing.assert_array_equal(ax.lines[-1].get_ydata(), [0.5, -1.0, 2.0])
    extents = ax.patches[0].get_extents().transformed(ax.transData.inverted())
    np.testing.assert_allclose([extents.y0, extents.y1], [-2, 2])


def test_counts_have_the_errors_that_the_model_expects():
    """Poisson's √μ; of successes the share p of n trials with √(p(1 - p)/n)."""
    x, y = jnp.arange(1.0, 6.0), jnp.array([4.0, 3.0, 9.0, 6.0, 11.0])
    line = models.expression("a + b*x")
    counts = jaxreg.curve_fit(line, x, y, {"a": 1.0, "b": 1.0}, loss="poisson")
    shares = jaxreg.curve_fit(line, x, y, {"a": 0.1, "b": 0.1}, loss=partial(losses.binomial, trials=20.0))
    for fit, shown, sigma in (
        (counts, y, lambda mean: jnp.sqrt(mean)),
        (shares, y / 20, lambda mean: jnp.sqrt(mean * (1 - mean) / 20)),
    ):
        mean = line.apply(fit.params, x)
        ax = plots.curve(fit)
        bars = ax.containers[0]
        np.testing.assert_allclose(bars[0].get_ydata(), shown, rtol=1e-6)
        lengths = [np.ptp(segment[:, 1]) / 2 for segment in bars[2][0].get_segments()]
        np.testing.assert_allclose(lengths, sigma(mean), rtol=1e-4)  # float32, of a difference
        values = plots.residuals(fit).lines[-1].get_ydata()
        np.testing.assert_allclose(values, (shown - mean) / sigma(mean), rtol=1e-4, atol=1e-5)


def test_distribution_counts_what_is_not_finite_and_marks_values():
    ax = plots.distribution(np.array([1.0, 2.0, np.nan]), marks={"published": 1.5}, xlabel="b")
    assert legend(ax) == ["3 replicates (1 not finite)", "99 % of them", "published 1.5"]


def test_points_and_lines_name_their_series():
    assert legend(plots.points(np.arange(3), {"a": np.arange(3)}, xlabel="x", ylabel="y")) == ["a"]
    ax = plots.lines(
        np.arange(3), {"a": np.ones(3)}, failed={"a": np.array([False, True, True])}, xlabel="x", ylabel="y"
    )
    assert legend(ax) == ["a", "a: diverged"]
    np.testing.assert_array_equal(ax.lines[-1].get_xdata(), [1, 2])


def test_comparison_says_how_many_diverged():
    ax = plots.comparison({"a": np.array([1.0, 2.0]), "b": np.array([1e30, np.nan])}, ylabel="error")
    np.testing.assert_allclose(ax.get_ylim(), [1.05 / 3, 19.5])  # the percentiles 5 and 95 of a
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["a", "b\n50 % diverged"]
    cross = next(line for line in ax.lines if line.get_marker() == "X")
    assert cross.get_xdata()[0] == 2


def atlas(status):
    """Two batch sizes, three rates, two seeds."""
    runs = studies.Run(
        start_loss=np.full((1, 2, 1, 3, 2), 4.0),
        final_loss=np.where(status == jaxreg.Status.OK, np.array([0.4, 6.0, 2.0])[:, None], np.inf),
        status=status,
        num_steps=np.full(status.shape, 7),
        params={},
    )
    axes = {"loss": (abs,), "batch_size": (8, 32), "init_scale": [1.0], "learning_rate": np.array([0.1, 1.0, 10.0])}
    swept = jaxreg.Sweep({**axes, "key": np.arange(2)}, runs, ("loss", "batch_size"))
    return studies.Atlas(swept, np.array([0.8]), np.array([[0.3, np.nan]]))


def test_an_atlas_shows_every_member_once():
    status = np.zeros((1, 2, 1, 3, 2), np.int32)
    status[0, 1, 0, 2] = jaxreg.Status.DIVERGED
    ax = plots.divergence_atlas(atlas(status))
    assert ax.get_xscale() == "log"
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["8", "32"]
    np.testing.assert_allclose(ax.collections[0].get_coordinates()[0, :, 0], 10 ** np.array([-1.5, -0.5, 0.5, 1.5]))
    fell, grew, failed = (~np.ma.getmaskarray(mesh.get_array()) for mesh in ax.collections[:3])
    np.testing.assert_array_equal(fell, [[1, 0, 1], [1, 0, 1], [1, 0, 0], [1, 0, 0]])
    np.testing.assert_array_equal(grew, [[0, 1, 0]] * 4)
    np.testing.assert_array_equal(failed, [[0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 0, 1]])
    assert sum(part.get_hatch() == "////" for part in ax.collections) == 2  # one patch for each failed seed
    assert legend(ax) == ["loss did not fall", "failed", "2/λmax", "mean-square edge"]
    edge = next(part for part in ax.collections if part.get_label() == "2/λmax")
    np.testing.assert_array_equal(edge.get_segments(), [[[0.8, 0], [0.8, 1]], [[0.8, 1], [0.8, 2]]])


def test_an_atlas_of_one_rate_has_cells_around_it():
    one = atlas(np.zeros((1, 2, 1, 3, 2), np.int32))
    swept = one.sweep
    runs = jax.tree.map(lambda leaf: leaf[:, :, :, :1], swept.values)
    axes = {**swept.axes, "learning_rate": np.array([2.0])}
    ax = plots.divergence_atlas(one._replace(sweep=jaxreg.Sweep(axes, runs, swept.static)))
    np.testing.assert_allclose(ax.collections[0].get_coordinates()[0, :, 0], [1.8, 2.2])


def test_an_atlas_without_failures_has_no_hatching():
    ax = plots.divergence_atlas(atlas(np.zeros((1, 2, 1, 3, 2), np.int32)))
    assert not any(part.get_hatch() for part in ax.collections)
    assert "failed" not in legend(ax)


def test_predicted_training_ends_a_failed_rate_in_a_cross():
    measured = np.array([[[4.0, 2.0, 1.0], [4.0, 9.0, np.nan]]])
    status = np.array([[0, jaxreg.Status.DIVERGED]])
    found = studies.PredictedTraining(np.array([0.1, 3.0]), measured, np.ones((1, 2, 3)), np.ones((1, 2, 3)), status)
    ax = plots.predicted_training(found)
    assert (ax.get_xlabel(), ax.get_yscale()) == ("epoch", "log")
    assert legend(ax) == ["rate 0.1", "without noise, from the Hessian", "expected", "rate 3 (100 % failed)"]
    cross = next(line for line in ax.lines if line.get_marker() == "X")
    assert (cross.get_xdata()[0], cross.get_ydata()[0]) == (1, 9.0)


def test_a_range_test_shows_the_usable_rates_and_theory_with_error_bars():
    rates = np.array([0.1, 0.3, 1.0, 3.0])
    loss = np.array([[0.5, 0.1, 0.2, np.inf], [0.6, 0.2, 0.1, np.inf]])
    ends = studies.UsableRates(
        *(np.array([low, high]) for low, high in [(0.1, 0.1), (1, 1), (0.1, 0.3), (0.3, 1), (3, 3)])
    )
    status = np.array([[0, 0, 0, 2], [0, 0, 0, 2]])
    found = studies.RangeTest(rates, np.ones(2), loss, status, status, ends, np.full(2, 2.0), np.full(2, 1.9))
    ax = plots.range_test(found)
    assert {"usable in 90 %: 0.1 to 1", "best = 0.65", "edge = 3", "1/λmax = 1", "2/λmax = 2"} <= set(legend(ax))
    assert any(part.get_hatch() for part in ax.collections)
    best = ax.lines[[line.get_label() for line in ax.lines].index("best = 0.65") - 1]
    np.testing.assert_allclose(best.get_xdata(), np.percentile([0.3, 1.0], [5, 95]))
    found = found._replace(rates=ends._replace(highest=np.array([0.3, 1.0])))
    assert "usable in 90 %: 0.1 to 0.3" in legend(plots.range_test(found))
    assert "usable in 50 %: 0.1 to 1" in legend(plots.range_test(found, share=0.5))


def test_colors_are_distinct():
    assert len(set(plots.COLORS)) == len(plots.COLORS)


def test_plots_set_nothing_global():
    before = dict(mpl.rcParams)
    plots.training(result())
    assert dict(mpl.rcParams) == before
