"""Fit problems as values: replaced, added, with priors, renamed, tied; and the fits that keep them."""

import copy
import dataclasses
import functools
import inspect
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

import jaxreg
from jaxreg import losses, models, uncertainty

pytestmark = pytest.mark.usefixtures("x64")
RNG = np.random.default_rng(0)
X = np.linspace(0.0, 1.0, 50)
Y = 2 * np.exp(-3 * X) + 0.01 * RNG.normal(size=50)
FAR = np.linspace(0.0, 2.0, 30)
Z = 0.5 * np.exp(-3 * FAR) + 1 + 0.02 * RNG.normal(size=30)
START = {"a": 1.0, "k": 1.0}
OTHER = {"b": 1.0, "k": 1.0, "c": 0.0}


def decay(params, x):
    return params["a"] * jnp.exp(-params["k"] * x)


def raised(params, x):
    return params["b"] * jnp.exp(-params["k"] * x) + params["c"]


ONE = functools.partial(jaxreg.problem, decay, X, Y, START, sigma=0.01, absolute_sigma=True)
TWO = functools.partial(jaxreg.problem, raised, FAR, Z, OTHER, sigma=0.02, absolute_sigma=True)


def stacked(a, b, c, k, *, mean=None, width=0.01):
    rows = [(Y - a * np.exp(-k * X)) / 0.01, (Z - b * np.exp(-k * FAR) - c) / 0.02]
    return np.concatenate(rows if mean is None else [*rows, [(k - mean) / width]])


def by_scipy(residual, start):
    tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
    found = scipy.optimize.least_squares(lambda at: residual(*at), start, jac="3-point", **tight)
    return found.x, np.linalg.inv(found.jac.T @ found.jac), 2 * found.cost


def flat(params):
    return np.array([params[name] for name in sorted(params)])


# A value.


def test_a_fit_of_a_problem_is_that_of_curve_fit_to_the_bit():
    alone = jaxreg.curve_fit(decay, X, Y, START, sigma=0.01, absolute_sigma=True)
    jax.tree.map(np.testing.assert_array_equal, jaxreg.fit(ONE()).without_data(), alone.without_data())


def test_new_numbers_need_no_new_program():
    traces = []

    def counted(params, x):
        traces.append(None)
        return decay(params, x)

    problem = jaxreg.problem(counted, X, Y, START, sigma=0.01, loss="huber")
    jaxreg.fit(problem)
    needed = len(traces)
    for change in ({"y": 2 * Y}, {"x": X + 0.1}, {"p0": {"a": 2.0, "k": 2.0}}, {"sigma": 0.5}, {"delta": 3.0}):
        jaxreg.fit(problem.replace(**change))
    assert len(traces) == needed


def test_it_goes_through_jit_vmap_and_grad():
    problem = jaxreg.problem(decay, X, Y, START, loss="huber", sigma=0.01)
    many = np.stack([Y, 2 * Y, Y[::-1]])
    found = jax.jit(jax.vmap(lambda y: jaxreg.fit(problem.replace(y=y))))(many)
    assert found.params["k"].shape == (3,)
    np.testing.assert_allclose(found[1].params["k"], jaxreg.fit(problem.replace(y=many[1])).params["k"], rtol=1e-9)
    assert found[1].problem.y.shape == (50,)
    rate = jax.jit(lambda delta: jaxreg.fit(problem.replace(delta=delta)).params["k"])
    slope = jax.grad(rate)(1.0)
    np.testing.assert_allclose(slope, (rate(1.001) - rate(0.999)) / 0.002, rtol=1e-3)


def test_what_a_caller_changes_later_does_not_reach_it():
    y = Y.copy()
    problem = jaxreg.problem(decay, X, y, START)
    fit = jaxreg.curve_fit(decay, X, y, START)
    y[:] = 0
    np.testing.assert_array_equal(problem.y, Y)
    np.testing.assert_array_equal(fit.problem.y, Y)
    with pytest.raises(ValueError, match="read-only"):
        problem.y[0] = 1.0


def test_a_threshold_left_at_its_default_can_be_replaced():
    problem = jaxreg.problem(decay, X, Y, START, sigma=0.01, loss="huber")
    wanted = jaxreg.curve_fit(decay, X, Y, START, sigma=0.01, loss=functools.partial(losses.huber, delta=0.7))
    np.testing.assert_allclose(flat(jaxreg.fit(problem.replace(delta=0.7)).params), flat(wanted.params), rtol=1e-10)


@pytest.mark.parametrize("kind", ["pickle", "deepcopy"])
def test_a_fit_comes_back_with_its_problem(kind):
    line = models.expression("a + b*x")
    fit = jaxreg.curve_fit(line, X, Y, {"a": 1.0, "b": 0.0}, sigma=0.1)
    back = pickle.loads(pickle.dumps(fit)) if kind == "pickle" else copy.deepcopy(fit)
    jax.tree.map(np.testing.assert_array_equal, uncertainty.profile_intervals(back), uncertainty.profile_intervals(fit))


# Many.


def test_many_are_selected_from_as_an_array_is():
    fits = jaxreg.fit_many(ONE(), each={"y": np.stack([Y, 2 * Y, 3 * Y, np.full(50, np.nan)])})
    assert len(fits) == 4
    np.testing.assert_allclose([fit.params["a"] for fit in fits][:3], np.array([1, 2, 3]) * fits[0].params["a"])
    assert fits[-1].status == jaxreg.Status.NONFINITE
    assert len(fits[1:3]) == 2
    assert len(fits[fits.status == 0]) == 3
    np.testing.assert_array_equal(fits[2].problem.x, X)
    assert fits.problem.x.strides[0] == 0
    same = jax.tree.map(lambda leaf: leaf[2], fits)
    jax.tree.map(np.testing.assert_array_equal, same, fits[2])
    with pytest.raises(IndexError, match="index 99"):
        fits[99]
    with pytest.raises(TypeError, match="this is one fit, which has no length"):
        len(fits[0])


def test_what_each_has_is_named_or_given():
    many = np.stack([Y, 2 * Y])
    sigma = np.stack([np.full(50, 0.01), np.full(50, 0.02)])
    given = jaxreg.fit_many(ONE(), each={"y": many, "sigma": sigma, "p0": {"a": np.ones(2), "k": np.ones(2)}})
    whole = jaxreg.problem(decay, X, many, START, sigma=sigma, absolute_sigma=True)
    named = jaxreg.fit_many(whole, each=("y", "sigma"))
    easy = jaxreg.fit_many(decay, X, many, START, sigma=sigma, absolute_sigma=True)
    for fits in (given, named):
        np.testing.assert_allclose(fits.covariance, easy.covariance, rtol=1e-9)
    np.testing.assert_allclose(easy[1].chi2, jaxreg.fit(easy[1].problem).chi2, rtol=1e-9)


def test_a_threshold_may_be_each_ones_own():
    problem = jaxreg.problem(decay, X, Y, START, sigma=0.01, loss="huber")
    fits = jaxreg.fit_many(problem, each={"delta": np.array([0.5, 2.0]), "y": np.stack([Y, Y])})
    for delta, fit in zip((0.5, 2.0), fits, strict=True):
        np.testing.assert_allclose(flat(fit.params), flat(jaxreg.fit(problem.replace(delta=delta)).params), rtol=1e-9)


def test_a_sweep_keeps_fits_without_their_data_and_they_are_given_back():
    problem = jaxreg.problem(decay, X, Y, START, sigma=0.01, loss="huber", absolute_sigma=True)
    deltas = np.array([0.5, 1.0, 2.0])
    swept = jaxreg.sweep(lambda delta: jaxreg.fit(problem.replace(delta=delta)), {"delta": deltas}).values
    assert swept.problem is None
    one = swept[1].with_problem(problem.replace(delta=1.0))
    assert uncertainty.profile_intervals(one).status["k"] == 0
    with pytest.raises(ValueError, match=r"the fit has χ² .*: it was made of another"):
        swept[1].with_problem(problem.replace(y=2 * Y))


# Sums.


@pytest.mark.parametrize("mean", [None, 2.9], ids=["two terms", "and a prior"])
def test_a_sum_is_the_least_squares_of_all_rows(mean):
    problem = ONE() + TWO()
    problem = problem if mean is None else problem + jaxreg.prior({"k": (mean, 0.01)})
    fit = jaxreg.fit(problem)
    params, covariance, chi2 = by_scipy(functools.partial(stacked, mean=mean), [1.0, 1.0, 0.0, 1.0])
    np.testing.assert_allclose(flat(fit.params), params, rtol=1e-8)
    np.testing.assert_allclose(fit.covariance, covariance, rtol=1e-6)
    np.testing.assert_allclose(fit.chi2 + (fit.chi2_prior or 0), chi2, rtol=1e-10)
    assert fit.dof == 80 - 4 + (mean is not None)
    assert [part.shape for part in fit.residuals] == [(50,), (30,)]
    np.testing.assert_allclose(fit.residuals[1], Z - raised(fit.params, FAR), rtol=1e-12)


def test_unknown_sigmas_share_one_scale():
    one = jaxreg.problem(decay, X, Y, START, sigma=1.0)
    two = jaxreg.problem(raised, FAR, Z, OTHER, sigma=2.0)
    known = jaxreg.fit(ONE() + TWO())
    fit = jaxreg.fit(sum([one, two]))
    np.testing.assert_allclose(fit.covariance, known.covariance * float(known.chi2) / 76, rtol=1e-8)


def test_terms_keep_their_own_loss_and_scale():
    one = jaxreg.problem(decay, X, Y, START, loss="huber", scale="mad")
    two = jaxreg.problem(raised, FAR, Z, OTHER, loss="cauchy", scale="mad")
    apart = one + two.rename({"k": "k2"})
    fit, alone = jaxreg.fit(apart), [jaxreg.fit(one), jaxreg.fit(two)]
    for name, wanted in (("a", alone[0]), ("k", alone[0]), ("b", alone[1]), ("c", alone[1])):
        np.testing.assert_allclose(fit.params[name], wanted.params[name], rtol=1e-6)
    np.testing.assert_allclose(fit.scale, [alone[0].scale, alone[1].scale], rtol=1e-6)


def test_terms_that_share_nothing_have_the_errors_that_they_have_alone():
    apart = jaxreg.fit(ONE() + TWO().rename({"k": "k2"}))
    one, two = jaxreg.fit(ONE()), jaxreg.fit(TWO())
    np.testing.assert_allclose([apart.stderr["a"], apart.stderr["k"]], [one.stderr["a"], one.stderr["k"]], rtol=1e-8)
    np.testing.assert_allclose([apart.stderr["b"], apart.stderr["k2"]], [two.stderr["b"], two.stderr["k"]], rtol=1e-8)


def test_what_follows_a_sum():
    fit = jaxreg.fit(ONE() + TWO())
    for term, (model, at) in enumerate(((decay, X[:3]), (raised, FAR[:3]))):
        slope = jax.jacfwd(lambda params, model=model, at=at: model(dict(zip("abck", params, strict=True)), at))(
            jnp.asarray(flat(fit.params))
        )
        wanted = np.sqrt(np.einsum("ki,ij,kj->k", slope, fit.covariance, slope))
        np.testing.assert_allclose(uncertainty.band(fit, at, term=term).stderr, wanted, rtol=1e-8)
    ends = uncertainty.profile_intervals(fit)
    refit = scipy.optimize.least_squares(lambda at: stacked(*at, float(ends.upper["k"])), [1.0, 1.0, 0.0], xtol=1e-15)
    np.testing.assert_allclose(2 * refit.cost - fit.chi2, 1.959964**2, rtol=1e-5)
    for kind in ("pairs", "residual", "parametric"):
        spread = uncertainty.bootstrap(jax.random.key(0), fit, kind=kind, num=300)
        np.testing.assert_allclose(flat(spread.stderr), flat(fit.stderr), rtol=0.35)


def test_a_start_that_was_given_beats_a_guess():
    line = models.expression("a + k*x")
    guessing = jaxreg.problem(models.planck(gain=True), np.linspace(3e-7, 2e-6, 50), np.ones(50))
    assert guessing.p0 is None
    named = dict.fromkeys(("gain", "temperature"), 1.0)
    other = jaxreg.problem(line, X, Y, {"a": 0.0, "k": 0.0}).rename({"k": "temperature"})
    both = guessing + other
    assert both.p0 == {"a": 0.0, "temperature": 0.0}
    assert set(jaxreg.fit(both, max_steps=0).params) == {"a", *named}


def test_a_summary_says_which_term_reads_what():
    text = jaxreg.summary(jaxreg.fit(ONE() + TWO() + jaxreg.prior({"k": (3.0, 1.0)})))
    assert "0 data     50     a, k\n1 data     30  b, c, k\n2 prior     1        k" in text
    assert "χ² of the priors" in text


def test_differing_starts_under_a_trace_are_invalid_input():
    def status(k):
        return jaxreg.fit(ONE() + TWO().replace(p0={**OTHER, "k": k})).status

    assert jax.jit(status)(1.0) == jaxreg.Status.OK
    assert jax.jit(status)(2.0) == jaxreg.Status.INVALID_INPUT


def test_models_as_scipy_has_them_are_added_by_the_names_they_are_given():
    named = models.positional(lambda x, a, k: a * jnp.exp(-k * x), names=("a", "k"))
    one = jaxreg.problem(named, X, Y, START, sigma=0.01, absolute_sigma=True)
    np.testing.assert_allclose(jaxreg.fit(one + TWO()).covariance, jaxreg.fit(ONE() + TWO()).covariance, rtol=1e-9)


@pytest.mark.parametrize("loss", [functools.partial(losses.squared), optax.l2_loss], ids=["partial", "optax"])
def test_what_is_the_squared_loss_is_fitted_as_it(loss):
    fit = jaxreg.curve_fit(decay, X, Y, START, loss=loss)
    jax.tree.map(np.testing.assert_array_equal, fit.without_data(), jaxreg.curve_fit(decay, X, Y, START).without_data())


# Priors.


def design(x):
    return np.stack([np.ones_like(x), x], axis=1)


def line(params, x):
    return params["a"] + params["b"] * x


def test_a_correlated_prior_is_that_of_the_closed_form():
    """Linear in its parameters: C = (AᵀA/σ² + P⁻¹)⁻¹, mean C(Aᵀy/σ² + P⁻¹m)."""
    mean, width = np.array([1.0, -1.0]), np.array([[0.04, 0.03], [0.03, 0.09]])
    data = jaxreg.problem(line, X, Y, {"a": 0.0, "b": 0.0}, sigma=0.1, absolute_sigma=True)
    fit = jaxreg.fit(data + jaxreg.prior(lambda params: jnp.stack([params["a"], params["b"]]), mean, width))
    covariance = np.linalg.inv(design(X).T @ design(X) / 0.01 + np.linalg.inv(width))
    wanted = covariance @ (design(X).T @ Y / 0.01 + np.linalg.solve(width, mean))
    np.testing.assert_allclose(flat(fit.params), wanted, rtol=1e-10)
    np.testing.assert_allclose(fit.covariance, covariance, rtol=1e-10)
    rest = wanted - mean
    np.testing.assert_allclose(fit.chi2_prior, rest @ np.linalg.solve(width, rest), rtol=1e-9)
    assert fit.dof == 50


def test_yesterdays_covariance_is_todays_prior():
    half = jaxreg.problem(line, X[:20], Y[:20], {"a": 0.0, "b": 0.0}, sigma=0.1, absolute_sigma=True)
    rest = half.replace(x=X[20:], y=Y[20:])
    old = jaxreg.fit(half)
    chained = jaxreg.fit(rest + jaxreg.prior(lambda p: jnp.stack([p["a"], p["b"]]), flat(old.params), old.covariance))
    at_once = jaxreg.fit(half.replace(x=X, y=Y))
    np.testing.assert_allclose(flat(chained.params), flat(at_once.params), rtol=1e-9)
    np.testing.assert_allclose(chained.covariance, at_once.covariance, rtol=1e-9)


def test_a_robust_loss_does_not_touch_a_prior():
    """Of a prior 50 of its sigmas away: under the loss it would weigh next to nothing."""
    data = jaxreg.problem(decay, X, Y, START, sigma=0.01, absolute_sigma=True, loss="huber")
    fit = jaxreg.fit(data + jaxreg.prior({"k": (2.5, 0.01)}))

    def cost(at):
        residual = np.abs(Y - at[0] * np.exp(-at[1] * X)) / 0.01
        return np.sum(np.where(residual < 1, residual**2 / 2, residual - 0.5)) + ((at[1] - 2.5) / 0.01) ** 2 / 2

    wanted = scipy.optimize.minimize(cost, [1.5, 2.5], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
    np.testing.assert_allclose(flat(fit.params), wanted.x, rtol=1e-6)


def test_a_prior_of_several_numbers_and_many_fits():
    def poly(params, x):
        return params["c"][0] + params["c"][1] * x

    start = {"c": np.zeros(2)}
    data = jaxreg.problem(poly, X, Y, start, sigma=0.1, absolute_sigma=True)
    problem = data + jaxreg.prior({"c": (np.array([1.0, -1.0]), 0.1)})
    wanted = np.linalg.inv(design(X).T @ design(X) / 0.01 + np.eye(2) / 0.01)
    np.testing.assert_allclose(jaxreg.fit(problem).covariance, wanted, rtol=1e-10)
    fits = jaxreg.fit_many(problem, each={"y": np.stack([Y, 2 * Y])})
    for y, fit in zip((Y, 2 * Y), fits, strict=True):
        np.testing.assert_allclose(fit.params["c"], jaxreg.fit(problem.replace(y=y)).params["c"], rtol=1e-9)
    np.testing.assert_allclose(fits.covariance, np.stack([wanted, wanted]), rtol=1e-9)


@pytest.mark.parametrize("kind", ["HC0", "HC3"])
def test_a_prior_counts_as_its_sigma_in_a_sandwich(kind):
    data = jaxreg.problem(line, X, Y, {"a": 0.0, "b": 0.0}, sigma=0.1, absolute_sigma=True)
    fit = jaxreg.fit(data + jaxreg.prior({"b": (-1.0, 0.1)}), covariance=kind)
    rows = design(X) / 0.1
    bread = np.linalg.inv(rows.T @ rows + np.diag([0, 100]))
    error = np.asarray(fit.residuals) / 0.1 / (1 if kind == "HC0" else 1 - np.einsum("ni,ij,nj->n", rows, bread, rows))
    wanted = bread @ ((rows * error[:, None] ** 2).T @ rows + np.diag([0, 100])) @ bread
    np.testing.assert_allclose(fit.covariance, wanted, rtol=1e-9)


# Ties.


def test_a_tie_is_the_fit_of_what_is_free():
    fit = jaxreg.fit((ONE() + TWO()).tie(lambda free: {**free, "b": free["a"] / 4}))
    params, covariance, _ = by_scipy(lambda a, c, k: stacked(a, a / 4, c, k), [1.0, 0.0, 1.0])
    np.testing.assert_allclose([fit.params["a"], fit.params["c"], fit.params["k"]], params, rtol=1e-8)
    np.testing.assert_allclose(fit.params["b"], params[0] / 4, rtol=1e-8)
    spread = np.array([[1, 0, 0], [0.25, 0, 0], [0, 1, 0], [0, 0, 1.0]])
    np.testing.assert_allclose(fit.covariance, spread @ covariance @ spread.T, rtol=1e-5, atol=1e-20)
    np.testing.assert_allclose(flat(fit.stderr), np.sqrt(np.diagonal(fit.covariance)), rtol=1e-10)
    assert fit.dof == 77
    ends = uncertainty.profile_intervals(fit)
    assert np.isnan(ends.upper["b"])
    refit = scipy.optimize.least_squares(
        lambda at: stacked(at[0], at[0] / 4, at[1], float(ends.upper["k"])), [1.0, 0.0], xtol=1e-15
    )
    np.testing.assert_allclose(2 * refit.cost - fit.chi2, 1.959964**2, rtol=1e-5)


def test_a_tied_fit_of_many_and_at_a_bound():
    tied = jaxreg.problem(decay, X, Y, START, sigma=0.01, bounds=(0.0, {"a": 1.5, "k": np.inf}))
    with pytest.raises(ValueError, match="a is tied, so it cannot be bounded"):
        tied.tie(lambda free: {"a": free["k"] / 2, "k": free["k"]})
    fits = jaxreg.fit_many(
        ONE().tie(lambda free: {"a": 2.0, "k": free["k"]}), each={"y": np.stack([Y, 2 * np.exp(-2 * X)])}
    )
    np.testing.assert_allclose(fits.params["a"], [2.0, 2.0])
    np.testing.assert_allclose(fits.params["k"][1], 2.0, rtol=1e-6)
    assert (np.asarray(fits.stderr["a"]) == 0).all()


# What went wrong once.


def test_each_estimated_scale_has_the_errors_that_it_has_alone():
    noisy = 2 * np.exp(-3 * X) + 0.1 * RNG.normal(size=50)
    one = jaxreg.problem(decay, X, Y, START, loss="huber", scale="mad")
    two = one.replace(y=noisy)
    both = jaxreg.fit(one + two.rename({"a": "a2", "k": "k2"}))
    for fit, names in ((jaxreg.fit(one), ("a", "k")), (jaxreg.fit(two), ("a2", "k2"))):
        np.testing.assert_allclose([both.stderr[name] for name in names], list(fit.stderr.values()), rtol=1e-6)
    with pytest.raises(ValueError, match="a profile needs one kind of errors"):
        uncertainty.profile(both)


def test_a_residual_bootstrap_beside_a_prior_is_about_the_fit():
    y = 1 + 0.1 * RNG.normal(size=50)
    data = jaxreg.problem(lambda p, x: p["mu"] + 0 * x, X, y, {"mu": 1.0}, sigma=0.1, absolute_sigma=True)
    fit = jaxreg.fit(data + jaxreg.prior({"mu": (2.0, 0.02)}))
    spread = uncertainty.bootstrap(jax.random.key(0), fit, kind="residual", num=300)
    np.testing.assert_allclose(np.mean(spread.params["mu"]), fit.params["mu"], atol=0.2 * float(fit.stderr["mu"]))


def test_masked_rows_do_not_count_in_errors():
    mask = np.arange(50) % 2 > 0
    options = {"sigma": 0.01, "absolute_sigma": True, "loss": "huber"}
    prior = jaxreg.prior({"k": (2.9, 0.01)})
    found = jaxreg.fit(jaxreg.problem(decay, X, Y, START, mask=mask, **options) + prior)
    wanted = jaxreg.fit(jaxreg.problem(decay, X[mask], Y[mask], START, **options) + prior)
    np.testing.assert_allclose(found.covariance, wanted.covariance, rtol=1e-6)
    rows = np.stack([mask, mask], axis=1)

    def pair(params, x):
        return jnp.stack([decay(params, x), 2 * decay(params, x)], axis=1)

    y = np.stack([Y, 2 * Y], axis=1)
    found = jaxreg.curve_fit(pair, X, y, START, mask=rows, covariance="HC1")
    wanted = jaxreg.curve_fit(pair, X[mask], y[mask], START, covariance="HC1")
    np.testing.assert_allclose(found.covariance, wanted.covariance, rtol=1e-6)


def test_bounds_and_fixed_may_name_some_parameters():
    near = {"a": 1.0, "k": 4.0}
    part = jaxreg.problem(decay, X, Y, near, bounds=({"k": 3.5}, {"a": 5.0}))
    whole = jaxreg.problem(decay, X, Y, near, bounds=({"a": -np.inf, "k": 3.5}, {"a": 5.0, "k": np.inf}))
    jax.tree.map(np.testing.assert_array_equal, part.bounds, whole.bounds)
    fit = jaxreg.fit(part)
    assert (fit.params["k"], fit.at_bound["a"], fit.at_bound["k"]) == (3.5, False, True)
    assert ONE(fixed={"k": True}).form.free == (True, False)


def test_no_bounds_bind_nobody():
    both = TWO(bounds=(-5.0, 9.0)) + ONE()
    low, high = both.bounds
    assert (low["a"], low["k"], high["a"], high["k"]) == (-np.inf, -5, np.inf, 9)
    assert jaxreg.fit(both).status == jaxreg.Status.OK


def test_a_batch_as_long_as_its_data_gets_its_problem_back():
    """Four fits of four points, all with one x and one sigma for each point."""
    x, y = X[:4], np.stack([Y[:4] * factor for factor in (1.0, 2.0, 3.0, 4.0)])
    one = jaxreg.problem(decay, x, y[0], START, sigma=np.array([0.1, 0.2, 0.3, 0.4]))
    fits = jaxreg.fit_many(one, each={"y": y})
    shared = dataclasses.replace(one, terms=(one.terms[0]._replace(y=y),))
    for problem in (fits.problem, shared):
        home = fits.without_data().with_problem(problem)
        np.testing.assert_array_equal(home[2].problem.x, x)
        np.testing.assert_array_equal(home[2].problem.sigma, [0.1, 0.2, 0.3, 0.4])


# What is refused.


def fitted():
    return jaxreg.fit(ONE())


BAD = {
    "two starts": (
        lambda: ONE() + TWO().replace(p0={**OTHER, "k": 2.0}),
        r"two terms give k a start each, 1\.0 and 2\.0",
    ),
    "two boxes": (
        lambda: ONE(bounds=(0.0, 9.0)) + TWO(bounds=(-1.0, 9.0)),
        r"two terms give k a bound each, 0\.0 and -1\.0",
    ),
    "two shapes": (
        lambda: ONE() + jaxreg.problem(raised, FAR, Z, {**OTHER, "k": np.ones(2)}, sigma=1.0, absolute_sigma=True),
        r"k has the shape \(\) in one term and \(2,\) in another",
    ),
    "fixed in one": (
        lambda: ONE(fixed={"a": False, "k": True}) + TWO(),
        "k is fixed in one term and free in another",
    ),
    "kinds of sigma": (lambda: ONE() + TWO(absolute_sigma=False), "the terms of a sum must agree on absolute_sigma"),
    "prior beside unknown": (
        lambda: ONE(absolute_sigma=False) + jaxreg.prior({"k": (1.0, 1.0)}),
        "a prior has a known size of errors, so the data must have one beside it: say absolute_sigma=True",
    ),
    "no such parameter": (
        lambda: jaxreg.fit(ONE() + jaxreg.prior({"rate": (1.0, 1.0)})),
        "a prior is given for rate, which no term has: what is fitted is a, k",
    ),
    "fixed parameter": (
        lambda: jaxreg.fit(ONE(fixed={"a": False, "k": True}) + jaxreg.prior({"k": (1.0, 1.0)})),
        "a prior is given for k, which is fixed",
    ),
    "tied parameter": (
        lambda: jaxreg.fit(
            (ONE() + jaxreg.prior({"k": (1.0, 1.0)})).tie(lambda free: {"a": free["a"], "k": free["a"]})
        ),
        "a prior is given for k, which is tied",
    ),
    "sigma of a prior": (
        lambda: jaxreg.prior({"k": (1.0, 0.0)}),
        r"the sigma of the prior of k must be positive and finite, got 0\.0",
    ),
    "covariance of a prior": (
        lambda: jaxreg.prior(lambda p: jnp.stack([p["a"], p["k"]]), np.ones(2), -np.eye(2)),
        "positive definite",
    ),
    "no pair": (lambda: jaxreg.prior({"k": 1.0}), r"the prior of k must be a pair \(mean, sigma\), got 1\.0"),
    "two linear programs": (
        lambda: sum([jaxreg.problem(models.linear(1), X[:, None], Y, loss="absolute")] * 2),
        "an absolute or quantile loss is fitted alone, as a linear program",
    ),
    "priors alone": (lambda: jaxreg.fit(jaxreg.prior({"k": (1.0, 1.0)})), "a problem needs a term with data"),
    "no names": (
        lambda: jaxreg.problem(models.positional(lambda x, a: a * x), X, Y, (1.0,)) + TWO(absolute_sigma=False),
        r"problems are added by the names of their parameters, a dict's, got tuple: models.positional",
    ),
    "a name that exists": (lambda: ONE().rename({"a": "k"}), "k would be the name of two parameters"),
    "a name that is none": (lambda: ONE().rename({"rate": "k"}), "rename must name parameters of a, k, got rate"),
    "a tie that forgets": (
        lambda: ONE().tie(lambda free: {"a": free["a"]}),
        "the tie must give all parameters, a, k.* leaves out k",
    ),
    "a tie that changes": (
        lambda: ONE().tie(lambda free: {"a": free["a"], "k": jnp.exp(free["k"])}),
        "the tie must give back what is free as it is, and it changes k, which it reads",
    ),
    "a linear program's bounds": (
        lambda: jaxreg.problem(models.linear(1), X[:, None], Y, loss="absolute").replace(bounds=(0.0, 1.0)),
        "bounds must be None for an absolute or quantile loss",
    ),
    "covariance or one each": (
        lambda: jaxreg.fit_many(decay, X[:4], np.ones((4, 4)), START, sigma=0.1 * np.eye(4) + 0.01),
        "sigma may be one row for each of as many data sets as points, or the covariance of all",
    ),
    "a prior that went": (
        lambda: jaxreg.fit(ONE() + jaxreg.prior({"k": (3.0, 1.0)})).with_problem(ONE()),
        "the fit was made with a prior, and this problem has none",
    ),
    "which term": (lambda: (ONE() + TWO()).y, "y is of one term, and this problem has 2 with data"),
    "no number": (
        lambda: ONE().replace(model=decay),
        "replace takes the numbers of a problem, p0, bounds, x, y, sigma, sigma_x, mask",
    ),
    "another form": (lambda: ONE().replace(p0=(1.0, 2.0)), r"p0 must have the form \{'a': \*, 'k': \*\}, got"),
    "curve_fit of a problem": (lambda: jaxreg.curve_fit(ONE()), r"got a Problem: jaxreg.fit\(problem\) fits one"),
    "fit of a model": (lambda: jaxreg.fit(decay, X, Y), r"curve_fit\(model, x, y, …\) says both in one call"),
    "more by place": (lambda: jaxreg.fit(ONE(), "HC0"), r"all else by name: fit\(problem, covariance=…"),
    "no each": (
        lambda: jaxreg.fit_many(ONE()),
        r'each must name what each data set has for itself, as in each=\("y",\)',
    ),
    "each of a model": (lambda: jaxreg.fit_many(decay, X, Y[None], START, each=("y",)), "each is for a problem"),
    "no axis": (lambda: jaxreg.fit_many(ONE(), each=("sigma",)), "each must name arrays with one leading axis"),
    "not a field": (
        lambda: jaxreg.fit_many(ONE(), each=("weights",)),
        "each must be of bounds, mask, p0, sigma, sigma_x, x, y, got weights",
    ),
    "said twice": (
        lambda: jaxreg.fit_many(ONE(), each=("y",), sigma=1.0),
        "the problem knows its data, sigma, bounds and loss",
    ),
    "a column": (lambda: jaxreg.curve_fit(decay, X, Y[:, None], START), r"must have y's shape \(50, 1\), got \(50,\)"),
    "a row": (lambda: jaxreg.curve_fit(decay, X[:, None], Y, START), r"must have y's shape \(50,\), got \(50, 1\)"),
    "rows of x": (
        lambda: jaxreg.curve_fit(decay, X, Y[1:], START),
        r"y's shape \(49,\), got \(50,\) from x of shape \(50,\)",
    ),
    "turned": (lambda: jaxreg.fit_many(decay, X, np.zeros((50, 9)), START), r"got \(50,\): .* is it to be y\.T\?"),
    "x first": (
        lambda: jaxreg.curve_fit(lambda x, params: decay(params, x), X, Y, START),
        "model must be a function f\\(params, x\\), got one that takes x first",
    ),
    "sigma in p0's place": (
        lambda: jaxreg.curve_fit(decay, X, Y, 0.01),
        "p0 must be what the model reads, got one array",
    ),
    "a formula": (lambda: jaxreg.curve_fit("a*x", X, Y, START), "got str: models.expression makes one of a formula"),
    "fixed by name": (
        lambda: ONE(fixed=["k"]),
        r"fixed must be one boolean or shaped like p0, .* names out, as in {'name': True}, got \['k'\]",
    ),
    "fixed, misspelt": (
        lambda: ONE(fixed={"rate": True}),
        "fixed must name parameters, of 'a', 'k', got 'rate'",
    ),
    "a number for a key": (
        lambda: inspect.unwrap(uncertainty.bootstrap)(0, fitted()),
        r"such as jax.random.key\(0\), got 0",
    ),
    "derived": (
        lambda: uncertainty.derived(fitted(), lambda params: params["rate"]),
        "fn reads 'rate', and the fit's parameters are a, k",
    ),
    "by name": (lambda: jaxreg.fit_many(ONE(), each={"y": Y[None]})["params"], "fields are attributes: fits.params"),
    "unpacked": (lambda: dict(zip("ab", fitted(), strict=True)), "take fit.params and fit.covariance"),
    "true": (lambda: bool(fitted()), "a fit is neither true nor false"),
    "as before": (lambda: fitted()._replace(chi2=1.0), r"a fit is a dataclass, without _replace: fit.replace\(…\)"),
    "no field": (lambda: fitted().replace(chi=1.0), "a fit has no field chi: it has params, stderr"),
    "another's problem": (lambda: fitted().with_problem(TWO()), r"the problem has the parameters \{'b'"),
    "no problem": (lambda: fitted().with_problem(decay), "problem must be one that jaxreg.problem made, got function"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_named(case):
    run, message = BAD[case]
    with pytest.raises((ValueError, TypeError, AttributeError), match=message):
        run()


def test_a_fit_is_a_dataclass_whose_fields_have_the_old_name():
    assert jaxreg.CurveFit is jaxreg.Fit
    new = ["chi2_prior", "problem", "pooled", "adjusted_x"]
    assert [field.name for field in dataclasses.fields(jaxreg.Fit)][-4:] == new
    assert str(fitted()) == jaxreg.summary(fitted())
    assert repr(fitted()) == jaxreg.summary(fitted())
