"""Labels, scales and artists of the figures; pixels are looked at by people."""

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pytest

mpl.use("agg")
import matplotlib.pyplot as plt

import jaxreg
from jaxreg import models, plots, studies
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
    fit = jaxreg.curve_fit(models.ohm(), x, y)
    ax = plots.curve(models.ohm(), fit, x, y, sigma=0.1, xlabel="current / A", ylabel="voltage / V")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("current / A", "voltage / V")
    band = next(part for part in ax.collections if part.get_label() == "95 % band")
    top = band.get_paths()[0].get_extents().y1
    expected = 3.0 * (float(fit.params["resistance"]) + 1.96 * float(fit.stderr["resistance"]))
    assert top == pytest.approx(expected, rel=1e-5)


def test_residuals_are_in_units_of_sigma():
    ax = plots.residuals(np.arange(3), np.array([1.0, -2.0, 4.0]), 2.0, xlabel="x / m")
    np.testing.assert_array_equal(ax.lines[-1].get_ydata(), [0.5, -1.0, 2.0])


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
    ax = plots.comparison({"a": np.array([1.0, 2.0]), "b": np.array([1.0, np.nan])}, ylabel="error")
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["a", "b\n50 % diverged"]


def atlas(status):
    """Two batch sizes, three rates, two seeds."""
    runs = studies.Run(
        start_loss=np.ones((1, 2, 1, 3, 2)),
        final_loss=np.where(status == jaxreg.Status.OK, np.array([0.1, 1.5, 0.5])[:, None], np.inf),
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
    fell, grew, failed = (~np.ma.getmaskarray(mesh.get_array()) for mesh in ax.collections[:3])
    np.testing.assert_array_equal(fell, [[1, 0, 1], [1, 0, 1], [1, 0, 0], [1, 0, 0]])
    np.testing.assert_array_equal(grew, [[0, 1, 0]] * 4)
    np.testing.assert_array_equal(failed, [[0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 0, 1]])
    assert sum(part.get_hatch() == "////" for part in ax.collections) == 2  # one patch for each failed seed
    assert legend(ax) == ["loss did not fall", "failed", "2/λmax", "mean-square edge"]
    edge = next(part for part in ax.collections if part.get_label() == "2/λmax")
    np.testing.assert_array_equal(edge.get_segments(), [[[0.8, 0], [0.8, 1]], [[0.8, 1], [0.8, 2]]])


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


def test_colors_are_distinct():
    assert len(set(plots.COLORS)) == len(plots.COLORS)


def test_plots_set_nothing_global():
    before = dict(mpl.rcParams)
    plots.training(result())
    assert dict(mpl.rcParams) == before
