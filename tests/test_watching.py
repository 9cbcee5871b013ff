"""A fit that is watched step by step is the same fit; a time limit ends with a status, and a store goes on."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg
from jaxreg import Status, models

X = np.linspace(0.0, 2.0, 30)
Y = 2 * np.exp(-1.5 * X) + 0.01 * np.random.default_rng(0).normal(size=30)
START = {"rate": 1.0, "amp": 1.0}
AT_ONCE = 1e-9  # seconds: over before the first look at the clock

pytestmark = pytest.mark.usefixtures("x64_module")


def decay(p, x):
    return p["amp"] * jnp.exp(-p["rate"] * x)


@pytest.fixture(scope="module")
def problem():
    return jaxreg.problem(decay, X, Y, START, sigma=0.01)


@pytest.fixture(scope="module")
def steps_and_fit(problem):
    steps = []
    return steps, jaxreg.fit(problem, callback=steps.append)


def test_a_watched_fit_is_the_fit(problem, steps_and_fit):
    """By other programs, which round in their own way."""
    _, watched = steps_and_fit
    fit = jaxreg.fit(problem)
    assert int(watched.status) == Status.OK
    assert int(watched.num_steps) == int(fit.num_steps)
    for name in START:
        np.testing.assert_allclose(watched.params[name], fit.params[name], rtol=1e-12)
        np.testing.assert_allclose(watched.stderr[name], fit.stderr[name], rtol=1e-9)
    assert watched.problem is problem


def test_each_step_is_told_of(steps_and_fit):
    steps, fit = steps_and_fit
    assert [step.num_steps for step in steps] == list(range(int(fit.num_steps) + 1))
    for step in steps[:: len(steps) - 1]:
        chi2 = np.sum(((Y - decay(step.params, X)) / 0.01) ** 2)
        np.testing.assert_allclose(step.chi2, chi2, rtol=1e-10)
    assert steps[0].params == START
    assert all(later.chi2 <= earlier.chi2 for earlier, later in itertools.pairwise(steps))
    assert all(step.damping > 0 for step in steps)


def test_what_a_callback_raises_ends_the_fit(problem):
    def stop(step):
        if step.num_steps == 3:
            raise StopIteration(step.chi2)

    with pytest.raises(StopIteration):
        jaxreg.fit(problem, callback=stop)


def test_verbose_prints_a_line_for_each_step_with_the_parameters_in_the_order_given(problem, steps_and_fit, capsys):
    jaxreg.fit(problem, verbose=True)
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["steps", "χ²", "damping", "rate", "amp"]
    steps, _ = steps_and_fit
    for line, step in zip(lines, steps, strict=True):
        number, chi2, _, rate, amp = map(float, line.split())
        assert number == step.num_steps
        expected = [step.chi2, step.params["rate"], step.params["amp"]]
        np.testing.assert_allclose([chi2, rate, amp], expected, rtol=1e-5)  # the digits that are printed


def test_a_kink_is_watched_to_its_end():
    """Where the steps begin anew."""
    y = np.abs(X - 1.0)
    fit = jaxreg.curve_fit(lambda p, x: jnp.abs(x - p["at"]), X, y + 0.1 * np.sign(X - 0.9), {"at": 0.7}, timeout=600)
    plain = jaxreg.curve_fit(lambda p, x: jnp.abs(x - p["at"]), X, y + 0.1 * np.sign(X - 0.9), {"at": 0.7})
    assert int(fit.status) == int(plain.status)
    np.testing.assert_allclose(fit.params["at"], plain.params["at"], rtol=1e-9)


def test_a_fit_that_is_not_done_in_time_says_so_and_has_no_errors(problem):
    fit = jaxreg.fit(problem, timeout=AT_ONCE)
    assert int(fit.status) == Status.TIMEOUT
    assert np.isnan(fit.stderr["rate"])
    assert "TIMEOUT: not converged: the time limit passed (0 steps)" in str(fit)
    with pytest.raises(RuntimeError, match="the fit failed: TIMEOUT"):
        jaxreg.raise_if_failed(fit)


def test_curve_fit_takes_the_same_options(capsys):
    seen = []
    fit = jaxreg.curve_fit(decay, X, Y, START, sigma=0.01, verbose=True, callback=seen.append, timeout=600.0)
    assert int(fit.status) == Status.OK
    assert len(capsys.readouterr().out.splitlines()) == int(fit.num_steps) + 2 == len(seen) + 1


@pytest.mark.parametrize("option", ["verbose", "callback", "timeout"])
def test_nobody_can_watch_under_a_trace_or_a_linear_program(problem, option):
    value = {"verbose": True, "callback": print, "timeout": 1.0}[option]
    with pytest.raises(ValueError, match=f"{option} is for the top level"):
        jax.jit(lambda y: jaxreg.fit(problem.replace(y=y), **{option: value}).chi2)(Y)
    with pytest.raises(ValueError, match=f"{option} must not be given for an absolute or quantile loss"):
        jaxreg.curve_fit(models.ohm(), X, X, loss="absolute", **{option: value})


@pytest.mark.parametrize("timeout", [0, -1.0, "1 s"])
def test_a_time_limit_is_a_positive_number(problem, timeout):
    with pytest.raises(ValueError, match="timeout must be a number of seconds, greater than 0"):
        jaxreg.fit(problem, timeout=timeout)
    with pytest.raises(ValueError, match="timeout must be a number of seconds"):
        jaxreg.fit_many(decay, X, np.stack([Y, Y]), START, timeout=timeout)
    with pytest.raises(ValueError, match="timeout must be a number of seconds"):
        jaxreg.sweep(lambda rate: rate, {"rate": jnp.ones(3)}, timeout=timeout)


# ---- many ----

OHMS = np.outer(np.linspace(1.0, 2.0, 40_000), [1.0, 2.0, 3.0])


@pytest.fixture(scope="module")
def whole():
    return jaxreg.fit_many(models.ohm(), np.array([1.0, 2.0, 3.0]), OHMS, residuals=False)


def late(**options):
    return jaxreg.fit_many(models.ohm(), np.array([1.0, 2.0, 3.0]), OHMS, residuals=False, **options)


def check_late(found, whole):
    """Some are done, as they would be, and the others are said not to be."""
    status = found.status[...]
    assert set(status.tolist()) == {Status.OK, Status.TIMEOUT}
    done = status == Status.OK
    np.testing.assert_array_equal(found.params["resistance"][...][done], whole.params["resistance"][done])
    assert np.isnan(found.params["resistance"][...][~done]).all()


def test_many_fits_that_are_not_begun_in_time_are_nan_with_their_status(whole):
    check_late(late(timeout=AT_ONCE), whole)


def test_a_fit_that_was_not_begun_says_so(tmp_path):
    found = late(timeout=AT_ONCE)
    assert str(found[-1]).startswith("TIMEOUT: not converged: the time limit passed (0 steps)")
    with pytest.raises(RuntimeError, match="the fit failed: TIMEOUT"):
        jaxreg.raise_if_failed(found[-1])
    with pytest.raises(RuntimeError, match=r"of 40000 fits failed: \[\d+\] TIMEOUT, "):
        jaxreg.raise_if_failed(found)
    late(timeout=AT_ONCE, store=tmp_path / "fits")
    assert str(jaxreg.load(tmp_path / "fits").values[-1]).startswith("not done")


def test_a_store_goes_on_from_where_the_time_was_up(tmp_path, whole):
    check_late(late(timeout=AT_ONCE, store=tmp_path / "fits"), whole)
    again = late(store=tmp_path / "fits")
    np.testing.assert_array_equal(again.params["resistance"][...], whole.params["resistance"])
    assert (again.status[...] == Status.OK).all()


def test_many_fits_that_are_begun_end_where_they_stand_and_in_a_store_are_finished(tmp_path):
    robust = {"loss": "huber", "sigma": 0.01, "timeout": AT_ONCE}
    alone = jaxreg.fit_many(decay, X, np.stack([Y, Y]), START, **robust)
    assert alone.status.tolist() == [Status.TIMEOUT, Status.TIMEOUT]
    assert alone.params["rate"].tolist() == [1.0, 1.0]
    stored = jaxreg.fit_many(decay, X, np.stack([Y, Y]), START, **robust, store=tmp_path / "fits")
    assert stored.status[...].tolist() == [Status.OK, Status.OK]


def test_what_is_not_finite_has_no_chi2_to_show(problem):
    steps = []
    jaxreg.fit(problem.replace(y=np.where(X > 1, np.nan, Y), mask=None), callback=steps.append)
    assert [np.isnan(step.chi2) for step in steps] == [True]


def test_time_enough_changes_nothing(whole):
    found = late(timeout=600.0)
    np.testing.assert_array_equal(found.params["resistance"], whole.params["resistance"])
    assert (found.status == Status.OK).all()


def member(rate):
    return {"value": rate**2, "count": jnp.int32(3), "status": jnp.int32(Status.OK)}


def test_a_sweep_ends_in_time_and_its_store_goes_on(tmp_path):
    axes = {"rate": jnp.arange(4000.0)}
    found = jaxreg.sweep(member, axes, chunk_size=10, timeout=AT_ONCE, store=tmp_path / "sweep").values
    done = found["status"] == Status.OK
    assert set(found["status"].tolist()) == {Status.OK, Status.TIMEOUT}
    np.testing.assert_array_equal(found["value"][done], np.arange(4000.0)[done] ** 2)
    assert np.isnan(found["value"][~done]).all()
    assert (found["count"][~done] == -1).all()
    again = jaxreg.sweep(member, axes, chunk_size=10, store=tmp_path / "sweep").values
    np.testing.assert_array_equal(again["value"], np.arange(4000.0) ** 2)
