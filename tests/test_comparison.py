"""Derived quantities, goodness and comparison, against the delta method by hand, SciPy's refits and statsmodels."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import statsmodels.api as sm
from statsmodels.sandbox.stats.runs import runstest_1samp

import jaxreg
from jaxreg import models, uncertainty

pytestmark = pytest.mark.usefixtures("x64")
RNG = np.random.default_rng(3)
X = np.linspace(0.0, 1.0, 50)
Y = 2 * np.exp(-3 * X) + 0.05 * RNG.normal(size=50)
START = {"a": 1.0, "k": 1.0}
LINE, CURVE = models.expression("a + b*x"), models.expression("a + b*x + c*x**2")
STRAIGHT = 1 + 2 * X + 0.1 * RNG.normal(size=50)
SIGMA = 0.05 + 0.1 * RNG.random(50)
DESIGN = np.stack([np.ones(50), X], axis=1)


def decay(params, x):
    return params["a"] * jnp.exp(-params["k"] * x)


def fitted(**options):
    return jaxreg.curve_fit(decay, X, Y, START, **options)


# Derived quantities.


def quantities(params):
    return {"area": params["a"] / params["k"], "ends": jnp.stack([params["a"], params["a"] * jnp.exp(-params["k"])])}


def test_errors_are_those_of_the_delta_method():
    fit = fitted()
    found = uncertainty.derived(fit, quantities)
    a, k = (float(fit.params[name]) for name in "ak")
    slope = np.array([[1 / k, -a / k**2], [1, 0], [np.exp(-k), -a * np.exp(-k)]])
    wanted = slope @ fit.covariance @ slope.T
    np.testing.assert_allclose(found.covariance, wanted, rtol=1e-10)
    np.testing.assert_allclose(found.stderr["area"], np.sqrt(wanted[0, 0]), rtol=1e-10)
    np.testing.assert_allclose(found.stderr["ends"], np.sqrt(np.diagonal(wanted)[1:]), rtol=1e-10)
    width = scipy.stats.t.ppf(0.975, 48) * np.sqrt(wanted[0, 0])
    np.testing.assert_allclose([found.lower["area"], found.upper["area"]], [a / k - width, a / k + width], rtol=1e-8)


@pytest.mark.parametrize("loss", ["squared", "huber"])
def test_a_profile_does_not_depend_on_how_it_is_written(loss):
    options = {} if loss == "squared" else {"loss": "huber", "scale": "mad"}
    fit = fitted(**options)
    wanted = uncertainty.profile_intervals(fit)
    low, high = wanted.lower["k"], wanted.upper["k"]
    found = uncertainty.derived(fit, lambda params: {"rate": params["k"], "life": 1 / params["k"]}, kind="profile")
    np.testing.assert_allclose([found.lower["rate"], found.upper["rate"]], [low, high], rtol=1e-6)
    np.testing.assert_allclose([found.lower["life"], found.upper["life"]], [1 / high, 1 / low], rtol=1e-6)


def test_a_profile_of_a_combination_is_where_refits_reach_it():
    """The area a/k, which no parameter is: with it held a = area·k, one parameter is left."""
    fit = fitted(sigma=0.05, absolute_sigma=True)
    found = uncertainty.derived(fit, quantities, kind="profile")
    for area in (found.lower["area"], found.upper["area"]):
        refit = scipy.optimize.least_squares(
            lambda at, area=float(area): (Y - area * at[0] * np.exp(-at[0] * X)) / 0.05, [3.0], xtol=1e-15
        )
        np.testing.assert_allclose(2 * refit.cost - fit.chi2, scipy.stats.norm.ppf(0.975) ** 2, rtol=1e-5)


def test_many_fits_fixed_parameters_and_bounds():
    fits = jaxreg.fit_many(decay, X, np.stack([Y, 2 * Y, np.full(50, np.nan)]), START)
    found = uncertainty.derived(fits, lambda params: jnp.log(2) / params["k"])
    assert found.value.shape == (3,)
    np.testing.assert_allclose(found.stderr[0], uncertainty.derived(fits[0], lambda p: jnp.log(2) / p["k"]).stderr)
    assert np.isnan(found.stderr[2])
    held = fitted(fixed={"a": True, "k": False})
    known = uncertainty.derived(held, lambda params: params["a"] / params["k"])
    np.testing.assert_allclose(known.stderr, held.stderr["k"] / float(held.params["k"]) ** 2, rtol=1e-9)
    stopped = fitted(bounds=(0.0, {"a": 1.9, "k": 9.0}))
    assert stopped.at_bound["a"]
    assert np.isfinite(uncertainty.derived(stopped, lambda params: params["a"] / params["k"]).stderr)


def test_of_two_terms_and_of_a_tie():
    one = jaxreg.problem(decay, X, Y, START, sigma=0.05, absolute_sigma=True)
    both = jaxreg.fit(one + one.rename({"k": "k2"}).replace(y=Y[::-1].copy()))
    ratio = uncertainty.derived(both, lambda params: params["k2"] / params["k"])
    slope = np.array([0, -both.params["k2"] / both.params["k"] ** 2, 1 / both.params["k"]])
    np.testing.assert_allclose(ratio.stderr, np.sqrt(slope @ both.covariance @ slope), rtol=1e-9)
    tied = jaxreg.fit(one.tie(lambda free: {"a": free["k"], "k": free["k"]}))
    found = uncertainty.derived(tied, lambda params: params["a"] + params["k"])
    np.testing.assert_allclose(found.stderr, 2 * tied.stderr["k"], rtol=1e-9)


# Goodness.


CASES = {
    "ordinary": ({}, sm.OLS(STRAIGHT, DESIGN)),
    "weighted": ({"sigma": SIGMA}, sm.WLS(STRAIGHT, DESIGN, weights=1 / SIGMA**2)),
    "correlated": ({"sigma": np.diag(SIGMA**2) + 1e-3}, sm.GLS(STRAIGHT, DESIGN, sigma=np.diag(SIGMA**2) + 1e-3)),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_that_of_statsmodels(case):
    given, model = CASES[case]
    wanted = model.fit()
    found = jaxreg.goodness(jaxreg.curve_fit(LINE, X, STRAIGHT, **given))
    np.testing.assert_allclose(
        [found.log_likelihood, found.aic, found.bic, found.r_squared],
        [wanted.llf, wanted.aic, wanted.bic, wanted.rsquared],
        rtol=1e-9,
    )
    np.testing.assert_allclose(found.aicc - found.aic, 2 * 2 * 3 / (50 - 3))
    if case != "correlated":
        np.testing.assert_allclose(found.durbin_watson, sm.stats.durbin_watson(wanted.wresid), rtol=1e-8)
        np.testing.assert_allclose(found.runs, runstest_1samp(wanted.wresid, 0, False)[0], rtol=1e-10)
    assert np.isnan(found.p_value)


def test_of_a_known_sigma():
    fit = jaxreg.curve_fit(LINE, X, STRAIGHT, sigma=SIGMA, absolute_sigma=True)
    found = jaxreg.goodness(fit)
    curve = LINE.apply(fit.params, X)
    np.testing.assert_allclose(found.log_likelihood, scipy.stats.norm.logpdf(STRAIGHT, curve, SIGMA).sum(), rtol=1e-10)
    np.testing.assert_allclose(found.p_value, scipy.stats.chi2.sf(fit.chi2, 48), rtol=1e-8)
    prior = jaxreg.fit(fit.problem + jaxreg.prior({"b": (1.5, 0.1)}))
    of_both = jaxreg.goodness(prior)
    curve, slope = LINE.apply(prior.params, X), prior.params["b"]
    wanted = scipy.stats.norm.logpdf(STRAIGHT, curve, SIGMA).sum() + scipy.stats.norm.logpdf(1.5, slope, 0.1)
    np.testing.assert_allclose(of_both.log_likelihood, wanted, rtol=1e-10)
    np.testing.assert_allclose(of_both.reduced_chi2, (prior.chi2 + prior.chi2_prior) / 49, rtol=1e-12)


def test_masked_points_are_not_there():
    mask = np.arange(50) % 3 > 0
    spoilt = np.where(mask, STRAIGHT, np.nan)
    found = jaxreg.goodness(jaxreg.curve_fit(LINE, X, spoilt, mask=mask))
    wanted = jaxreg.goodness(jaxreg.curve_fit(LINE, X[mask], STRAIGHT[mask]))
    np.testing.assert_allclose(found, wanted, rtol=1e-8)


def test_a_robust_loss_has_no_likelihood_and_a_failed_fit_none():
    robust = jaxreg.goodness(jaxreg.curve_fit(LINE, X, STRAIGHT, loss="huber", scale="mad"))
    for name in ("log_likelihood", "aic", "aicc", "bic", "p_value", "r_squared"):
        assert np.isnan(getattr(robust, name)), name
    assert np.isfinite(robust.durbin_watson)
    failed = jaxreg.goodness(fitted(max_steps=1))
    assert np.isnan([failed.aic, failed.r_squared, failed.durbin_watson]).all()
    few = jaxreg.goodness(jaxreg.curve_fit(LINE, X[:3], STRAIGHT[:3]))
    assert np.isnan(few.aicc)
    many = jaxreg.goodness(jaxreg.fit_many(LINE, X, np.stack([STRAIGHT, -STRAIGHT])))
    np.testing.assert_allclose(many.aic, [many.aic[0]] * 2, rtol=1e-9)


def test_a_summary_has_the_aic_of_what_is_known():
    """100 points with χ² 400 against 390 with three parameters more: the second is preferred by 4."""
    known = jaxreg.fit(jaxreg.problem(LINE, X, STRAIGHT, sigma=SIGMA, absolute_sigma=True))
    assert re.search(rf"AIC +{float(known.chi2) + 4:.4f}\n", jaxreg.summary(known))
    assert re.search(r"AIC +–\n", jaxreg.summary(jaxreg.curve_fit(LINE, X, STRAIGHT, loss="huber")))


# Comparison.


def test_nested_models_are_tested_as_by_statsmodels():
    fits = {"line": jaxreg.curve_fit(LINE, X, STRAIGHT), "curve": jaxreg.curve_fit(CURVE, X, STRAIGHT)}
    found = jaxreg.compare(fits, nested=True)
    small, large = sm.OLS(STRAIGHT, DESIGN).fit(), sm.OLS(STRAIGHT, np.column_stack([DESIGN, X**2])).fit()
    np.testing.assert_allclose(found.p_value[1], large.compare_f_test(small)[1], rtol=1e-9)
    np.testing.assert_allclose(
        found.aic_difference, np.array([small.aic, large.aic]) - min(small.aic, large.aic), atol=1e-9
    )
    np.testing.assert_allclose(found.weight[0] / found.weight[1], np.exp((large.aic - small.aic) / 2), rtol=1e-9)
    assert found.num_params.tolist() == [2, 3]
    assert str(found).splitlines()[0].split() == [
        "fit",
        "parameters",
        "χ²",
        "AIC",
        "difference",
        "weight",
        "AICc",
        "BIC",
        "p",
        "(nested)",
    ]
    assert [line.split()[0] for line in str(found).splitlines()[1:]] == ["line", "curve"]


def test_of_known_sigmas_by_the_likelihood_ratio():
    options = {"sigma": SIGMA, "absolute_sigma": True}
    fits = [jaxreg.curve_fit(model, X, STRAIGHT, **options) for model in (CURVE, LINE)]
    found = jaxreg.compare(fits, nested=True)
    wanted = scipy.stats.chi2.sf(float(fits[1].chi2 - fits[0].chi2), 1)
    np.testing.assert_allclose(found.p_value, [wanted, np.nan], rtol=1e-8)
    assert np.isnan(jaxreg.compare(fits).p_value).all()


def straight(**options):
    return jaxreg.curve_fit(LINE, X, options.pop("y", STRAIGHT), **options)


BAD = {
    "one": (lambda: [straight()], "fits must be at least two, got 1"),
    "data": (lambda: [straight(), straight(y=STRAIGHT + 1)], "fit 0 and fit 1 have different data"),
    "mask": (lambda: [straight(), straight(mask=X > 0.1)], "have different masks"),
    "sigma": (lambda: [straight(), straight(sigma=SIGMA)], "have different sigmas"),
    "kind": (lambda: [straight(), straight(absolute_sigma=True)], "have different kinds of sigma"),
    "prior": (
        lambda: [
            fit := straight(sigma=SIGMA, absolute_sigma=True),
            jaxreg.fit(fit.problem + jaxreg.prior({"b": (2.0, 1.0)})),
        ],
        "have different priors",
    ),
    "robust": (lambda: [straight(), straight(loss="huber")], "fit 1 has a robust loss, which is no likelihood"),
    "failed": (lambda: [straight(), fitted(max_steps=1)], "fit 1 must have ended at an optimum"),
    "many": (lambda: [straight(), jaxreg.fit_many(LINE, X, STRAIGHT[None])], "fit 1 must be one fit"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_compared_is_named(case):
    fits, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        jaxreg.compare(fits())


def test_arguments_of_derived_are_checked():
    with pytest.raises(ValueError, match="kind must be one of 'delta', 'profile'"):
        uncertainty.derived(fitted(), quantities, kind="wald")
    traced = jax.jit(lambda y: uncertainty.derived(jaxreg.curve_fit(decay, X, y, START), quantities).stderr["area"])
    np.testing.assert_allclose(traced(Y), uncertainty.derived(fitted(), quantities).stderr["area"], rtol=1e-8)
