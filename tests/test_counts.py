"""Counts and successes, against statsmodels' GLM, a minimiser that knows no Jacobian, and the counts' own law."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import statsmodels.api as sm

import jaxreg
from jaxreg import losses, models, uncertainty

pytestmark = pytest.mark.usefixtures("x64")
RNG = np.random.default_rng(1)
X = np.linspace(0.0, 2.0, 60)
DESIGN = np.stack([np.ones_like(X), X], axis=1)
COUNTS = RNG.poisson(np.exp(0.2 + 0.8 * X)).astype(float)
TRIALS = RNG.integers(1, 20, 60).astype(float)
HITS = RNG.binomial(TRIALS.astype(int), 1 / (1 + np.exp(1 - 1.2 * X))).astype(float)
ORIGIN = {"a": 0.0, "b": 0.0}
PEAK = RNG.poisson(20 * np.exp(-(((X - 1) / 0.3) ** 2)) + 2).astype(float)
NEAR = {"h": 10.0, "c": 1.1, "w": 0.5, "o": 1.0}


def growth(params, x):
    return jnp.exp(params["a"] + params["b"] * x)


def chance(params, x):
    return jax.nn.sigmoid(params["a"] + params["b"] * x)


def peak(params, x):
    return params["h"] * jnp.exp(-(((x - params["c"]) / params["w"]) ** 2)) + params["o"]


def constant(params, x):
    return params["rate"] + 0 * x


def successes(trials):
    return functools.partial(losses.binomial, trials=trials)


def flat(params):
    return np.array([params[name] for name in sorted(params)])


@pytest.mark.parametrize(
    ("model", "y", "loss", "known"),
    [
        (growth, COUNTS, "poisson", sm.GLM(COUNTS, DESIGN, family=sm.families.Poisson())),
        (
            chance,
            HITS,
            successes(TRIALS),
            sm.GLM(np.stack([HITS, TRIALS - HITS], 1), DESIGN, family=sm.families.Binomial()),
        ),
    ],
    ids=["counts", "successes"],
)
def test_it_is_the_generalised_linear_model(model, y, loss, known):
    fit, wanted = jaxreg.curve_fit(model, X, y, ORIGIN, loss=loss), known.fit(tol=1e-14)
    assert fit.status == jaxreg.Status.OK
    np.testing.assert_allclose(flat(fit.params), wanted.params, rtol=1e-8)
    np.testing.assert_allclose(fit.covariance, wanted.cov_params(), rtol=1e-8)
    np.testing.assert_allclose(fit.chi2, wanted.deviance, rtol=1e-8)
    found = jaxreg.goodness(fit)
    np.testing.assert_allclose(found.log_likelihood, wanted.llf, rtol=1e-10)
    np.testing.assert_allclose(found.aic, wanted.aic, rtol=1e-10)
    if model is growth:  # statsmodels' residuals of successes are those of shares
        np.testing.assert_allclose(found.durbin_watson, sm.stats.durbin_watson(wanted.resid_pearson), rtol=1e-8)


def test_a_curved_model_of_few_counts_is_the_most_likely_one():
    fit = jaxreg.curve_fit(peak, X, PEAK, NEAR, loss="poisson")

    def minus_log(at):
        mean = peak(dict(zip("chow", at, strict=True)), X)
        return float(np.sum(mean - PEAK * np.log(mean)))

    with jax.enable_x64(True):
        wanted = scipy.optimize.minimize(
            minus_log,
            flat(fit.params) * 1.1,
            method="Nelder-Mead",
            options={"xatol": 1e-9, "fatol": 1e-13, "maxfev": 9000},
        )
    np.testing.assert_allclose(flat(fit.params), wanted.x, rtol=1e-6)
    np.testing.assert_allclose(fit.residuals, PEAK - peak(fit.params, X))


def test_a_profile_is_of_the_deviance():
    """One rate: where the deviance of all counts has grown by the quantile's square."""
    fit = jaxreg.curve_fit(constant, X[:5], np.array([1.0, 0.0, 3.0, 2.0, 1.0]), {"rate": 1.0}, loss="poisson")
    np.testing.assert_allclose(fit.stderr["rate"], np.sqrt(7 / 5 / 5), rtol=1e-8)
    ends = uncertainty.profile_intervals(fit)

    def grown(rate):
        return 2 * (5 * rate - 7 * np.log(rate)) - 2 * (7 - 7 * np.log(7 / 5)) - scipy.stats.norm.ppf(0.975) ** 2

    wanted = [scipy.optimize.brentq(grown, 0.1, 1.4), scipy.optimize.brentq(grown, 1.4, 5)]
    np.testing.assert_allclose([ends.lower["rate"], ends.upper["rate"]], wanted, rtol=1e-6)


def test_many_at_once_with_masks_and_under_a_trace():
    mask = np.ones((3, 60), bool)
    mask[1, ::7] = False
    y = np.stack([PEAK, np.where(mask[1], PEAK, -5.0), PEAK - 0.5])
    fits = jaxreg.fit_many(peak, X, y, NEAR, loss="poisson", mask=mask)
    assert fits.status.tolist() == [jaxreg.Status.OK, jaxreg.Status.OK, jaxreg.Status.INVALID_INPUT]
    for place in (0, 1):
        alone = jaxreg.curve_fit(peak, X[mask[place]], PEAK[mask[place]], NEAR, loss="poisson")
        np.testing.assert_allclose(flat(fits[place].params), flat(alone.params), rtol=1e-7)
        np.testing.assert_allclose(fits[place].chi2, alone.chi2, rtol=1e-8)
    problem = jaxreg.problem(peak, X, PEAK, NEAR, loss="poisson")
    found = jax.jit(jax.vmap(lambda y: jaxreg.fit(problem.replace(y=y)).status))(y)
    assert found.tolist() == [jaxreg.Status.OK, jaxreg.Status.INVALID_INPUT, jaxreg.Status.INVALID_INPUT]
    each = jaxreg.fit_many(
        jaxreg.problem(chance, X, HITS, ORIGIN, loss=successes(TRIALS)),
        each={"y": np.stack([HITS, HITS]), "trials": np.stack([TRIALS, TRIALS + 5])},
    )
    alone = jaxreg.curve_fit(chance, X, HITS, ORIGIN, loss=successes(TRIALS + 5))
    np.testing.assert_allclose(flat(each[1].params), flat(alone.params), rtol=1e-8)


@pytest.mark.parametrize("size", [1e4, 1e9, 1e15])
def test_counts_far_above_the_start_are_reached(size):
    y = np.random.default_rng(1).poisson(size * np.exp(-2 * X))
    fit = jaxreg.curve_fit(lambda p, x: p["a"] * jnp.exp(-p["k"] * x), X, y, {"a": 1.0, "k": 1.0}, loss="poisson")
    assert fit.status == jaxreg.Status.OK
    score = (y - np.exp(-fit.params["k"] * X) * fit.params["a"]) / fit.params["a"]
    assert abs(score.sum()) < 1e-6 * np.abs(score).sum()


@pytest.mark.parametrize(
    ("model", "loss", "y", "link"),
    [
        (growth, "poisson", COUNTS, np.exp),
        (lambda p, x: p["a"] + p["b"] * x, "poisson", COUNTS, lambda eta: eta),
        (chance, successes(TRIALS), HITS, lambda eta: TRIALS / (1 + np.exp(-eta))),
    ],
    ids=["log", "identity", "logit"],
)
def test_the_hessian_is_the_observed_information(model, loss, y, link):
    fit = jaxreg.curve_fit(model, X, y, {"a": 0.5, "b": 0.5}, loss=loss, covariance="hessian")
    assert fit.status == jaxreg.Status.OK

    def cost(at):  # minus the logarithm of the probability
        mean = link(DESIGN @ at)
        if loss == "poisson":
            return np.sum(mean - y * np.log(mean))
        return -np.sum(y * np.log(mean) + (TRIALS - y) * np.log(TRIALS - mean))

    at, step = flat(fit.params), 1e-4
    units = step * np.eye(2)
    second = [[cost(at + i + j) - cost(at + i - j) - cost(at - i + j) + cost(at - i - j) for i in units] for j in units]
    wanted = np.linalg.inv(np.array(second) / (4 * step**2))
    np.testing.assert_allclose(fit.covariance, wanted, rtol=1e-4)


@pytest.mark.parametrize("y", [[2.0], [3.0, 3.0], [4.0] * 5, [1e6, 1e6], [0.0, 0.0, 5.0]], ids=str)
def test_counts_that_a_model_meets_are_an_optimum(y):
    fit = jaxreg.curve_fit(constant, np.zeros(len(y)), np.array(y), {"rate": 1.0}, loss="poisson")
    assert fit.status == jaxreg.Status.OK
    np.testing.assert_allclose(fit.params["rate"], np.mean(y), rtol=1e-9)
    np.testing.assert_allclose(fit.stderr["rate"], np.sqrt(np.mean(y) / len(y)), rtol=1e-8)


def test_an_optimum_at_the_edge_of_the_domain_is_none():
    """A line that one count of zero holds at zero: the others pull it below."""
    x, y = np.arange(4.0), np.array([0.0, 3.0, 5.0, 10.0])
    edge = jaxreg.curve_fit(models.expression("a*x + b"), x, y, {"a": 1.0, "b": 1.0}, loss="poisson")
    assert edge.status == jaxreg.Status.SINGULAR
    assert "not determined: b" in jaxreg.summary(edge)
    held = jaxreg.curve_fit(
        models.expression("a*x + b"), x, y, {"a": 1.0, "b": 1.0}, loss="poisson", bounds=(0.0, 99.0)
    )
    assert held.at_bound["b"]
    np.testing.assert_allclose([held.params["a"], held.stderr["a"]], [3.0, np.sqrt(3 / 6)], rtol=1e-8)


def test_a_count_that_is_none_is_named_under_a_trace_too():
    y = np.where(np.arange(60) == 7, np.nan, COUNTS)
    fit = jaxreg.fit_many(growth, X, y[None], ORIGIN, loss="poisson")[0]
    assert fit.status == jaxreg.Status.NONFINITE
    assert "y is not finite at row 7" in jaxreg.summary(fit)
    with pytest.raises(ValueError, match="sigma must be None for the poisson loss"):
        jaxreg.problem(growth, X, COUNTS, ORIGIN, loss="poisson").replace(sigma=3.0)


def test_what_no_count_says_has_a_status():
    below = jaxreg.curve_fit(constant, X, COUNTS, {"rate": -1.0}, loss="poisson")
    assert below.status == jaxreg.Status.NONFINITE
    assert "the loss at the start is not finite at row 0" in jaxreg.summary(below)
    nothing = jaxreg.curve_fit(constant, X, 0 * COUNTS, {"rate": 1.0}, loss="poisson")
    assert nothing.status == jaxreg.Status.SINGULAR
    assert nothing.params["rate"] < 1e-12
    for bounds in ((0.0, 9.0), (0.0, np.inf)):
        held = jaxreg.curve_fit(constant, X, 0 * COUNTS, {"rate": 1.0}, loss="poisson", bounds=bounds)
        assert (held.status, float(held.params["rate"])) == (jaxreg.Status.OK, 0.0)
        assert held.at_bound["rate"]
    walled = jaxreg.curve_fit(constant, X, 0 * COUNTS, {"rate": 1.0}, loss="poisson", bounds=(0.1, 9.0))
    assert walled.at_bound["rate"]


@pytest.mark.parametrize("kind", ["pairs", "parametric"])
def test_a_bootstrap_of_counts(kind):
    fit = jaxreg.curve_fit(growth, X, COUNTS, ORIGIN, loss="poisson")
    spread = uncertainty.bootstrap(jax.random.key(0), fit, kind=kind, num=400)
    np.testing.assert_allclose(flat(spread.stderr), flat(fit.stderr), rtol=0.3)


def test_counts_beside_measurements():
    """A rate that counts and a measured signal share; the sum of both likelihoods."""
    signal = np.exp(0.8 * X) + 0.1 * RNG.normal(size=60)
    two = jaxreg.problem(lambda p, x: jnp.exp(p["b"] * x), X, signal, {"b": 0.0}, sigma=0.1, absolute_sigma=True)
    fit = jaxreg.fit(jaxreg.problem(growth, X, COUNTS, ORIGIN, loss="poisson") + two)

    def cost(at):
        mean = np.exp(at[0] + at[1] * X)
        return np.sum(mean - COUNTS * np.log(mean)) + np.sum(((signal - np.exp(at[1] * X)) / 0.1) ** 2) / 2

    wanted = scipy.optimize.minimize(cost, [0.1, 0.7], method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-13})
    np.testing.assert_allclose(flat(fit.params), wanted.x, rtol=1e-7)
    information = np.einsum("n,ni,nj->ij", np.exp(DESIGN @ wanted.x), DESIGN, DESIGN)
    information[1, 1] += np.sum((X * np.exp(wanted.x[1] * X) / 0.1) ** 2)
    np.testing.assert_allclose(fit.covariance, np.linalg.inv(information), rtol=1e-5)


def test_a_half_deviance_far_from_agreement_keeps_its_digits():
    """y·log(y/m) + m - y by hand, where 1 + (m - y)/y rounds to nothing."""
    np.testing.assert_allclose(losses.poisson(jnp.array([1.0]), jnp.array([1e17])), [1e17 * np.log(1e17) + 1 - 1e17])
    single = losses.poisson(jnp.array([1.0, 1.0], "f4"), jnp.array([1e4, 1e8], "f4"))
    np.testing.assert_allclose(single, [82104.40372, 1742068075.0], rtol=1e-6)


def test_as_losses_they_train():
    data = jaxreg.Dataset(X, COUNTS)
    risk = jaxreg.empirical_risk(growth, losses.poisson, reduction="sum")
    fit = jaxreg.curve_fit(growth, X, COUNTS, ORIGIN, loss="poisson")
    np.testing.assert_allclose(2 * risk(fit.params, data), fit.chi2, rtol=1e-10)
    np.testing.assert_allclose(flat(jax.grad(risk)(fit.params, data)), [0, 0], atol=1e-9)


@pytest.mark.parametrize(
    ("loss", "law"),
    [(losses.poisson, scipy.stats.poisson), (successes(7.0), scipy.stats.binom)],
    ids=["counts", "successes"],
)
def test_half_deviances_are_of_the_law(loss, law):
    y = np.arange(8.0)
    for mean in (0.2, 0.6):
        at = functools.partial(law.logpmf, y.astype(int))
        args = (lambda p: (p,)) if law is scipy.stats.poisson else (lambda p: (7, p))
        best = y if law is scipy.stats.poisson else y / 7
        wanted = at(*args(np.maximum(best, 1e-300))) - at(*args(mean))
        np.testing.assert_allclose(loss(np.full(8, mean), y), wanted, atol=1e-12)
    assert np.isinf(loss(np.array([0.0]), np.array([1.0]))).all()
    np.testing.assert_allclose(loss(np.array([0.0]), np.array([0.0])), [0.0])


BAD = {
    "below zero": ({"y": COUNTS - 9}, "y must be counts, whole and not below zero, got -"),
    "not whole": ({"y": COUNTS + 0.5}, r"y must be counts, whole and not below zero, got \d+\.5 at index 0"),
    "NaN": ({"y": np.where(COUNTS > 3, np.nan, COUNTS)}, "y must be counts, .* got nan"),
    "sigma": ({"sigma": 1.0}, "sigma must be None for the poisson loss, which knows the size of its errors"),
    "scale": ({"scale": "mad"}, "scale must be None for the poisson loss"),
    "trials": ({"loss": losses.binomial}, r"the binomial loss needs trials: loss=partial\(losses.binomial, trials=…\)"),
    "too many": ({"y": TRIALS + 1, "loss": successes(TRIALS)}, "not more than the trials, which are whole too, got"),
    "shape": ({"loss": successes(TRIALS[:5])}, r"the loss's trials must be a number or have y's shape \(60,\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_count_is_named(case):
    given, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        jaxreg.curve_fit(growth, X, **({"y": COUNTS, "p0": ORIGIN, "loss": "poisson"} | given))


def test_what_does_not_go_with_counts_is_named():
    fit = jaxreg.curve_fit(growth, X, COUNTS, ORIGIN, loss="poisson")
    with pytest.raises(ValueError, match="nonlinearity is of the squared loss"):
        uncertainty.nonlinearity(fit)
    with pytest.raises(ValueError, match="kind must be 'pairs' or 'parametric' for counts"):
        uncertainty.bootstrap(jax.random.key(0), fit, kind="residual")
    with pytest.raises(ValueError, match="kind must be 'confidence' for counts"):
        uncertainty.band(fit, X, kind="prediction")
