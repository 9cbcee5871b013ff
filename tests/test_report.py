"""Reports: numbers against lmfit's, every way to fail shown as such, tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg
from jaxreg import models, report, uncertainty

pytestmark = pytest.mark.usefixtures("x64")

X = np.linspace(0.0, 4.0, 25)
Y = 2 * np.exp(-1.3 * X) + 0.4 + 0.05 * np.random.default_rng(0).normal(size=25)
MODEL = models.expression("a*exp(-b*x) + c")
START = {"a": 1.0, "b": 1.0, "c": 0.0}


@pytest.fixture(scope="module")
def fit() -> jaxreg.Fit:
    with jax.enable_x64(True):
        return jaxreg.curve_fit(MODEL, X, Y, START)


def numbers(text: str, name: str) -> list[str]:
    """The cells of the line that begins with a name."""
    return next(line for line in text.splitlines() if line.startswith(name)).split()


def test_a_report_says_what_lmfit_says(fit: jaxreg.Fit) -> None:
    """lmfit 1.3.4, ``Model.fit`` and ``fit_report`` of the same data."""
    text = jaxreg.summary(fit)
    assert text.startswith(f"OK: converged ({int(fit.num_steps)} steps)\n")
    assert numbers(text, "a ")[1:3] == ["2.0237", "0.0351"]
    assert numbers(text, "b ")[1:5] == ["1.3222", "0.0510", "3.9", "%"]
    assert numbers(text, "c ")[1:3] == ["0.3976", "0.0162"]
    assert numbers(text, "points")[1] == "25"
    assert numbers(text, "degrees")[-1] == "22"
    assert numbers(text, "χ²")[1] == "0.0446217"
    assert numbers(text, "reduced")[-1] == "0.00202826"
    assert numbers(text, "AIC")[1] == "-152.210"
    assert numbers(text, "BIC")[1] == "-148.554"
    correlations = text[text.index("correlations") :].splitlines()[1:4]
    assert [line.split() for line in correlations] == [
        ["b,", "c", "+0.7194"],
        ["a,", "b", "+0.2880"],
        ["a,", "c", "-0.1927"],
    ]


def test_a_report_of_an_absolute_sigma_takes_the_normal_distribution_and_its_own_likelihood() -> None:
    """χ² + 2p and χ² + p·log(n): the log-likelihood is -χ²/2 and a constant."""
    absolute = jaxreg.curve_fit(MODEL, X, Y, START, sigma=0.05, absolute_sigma=True)
    text, chi2 = jaxreg.summary(absolute), 0.0446217 / 0.05**2
    assert "95 % interval (normal)" in text
    assert float(numbers(text, "χ²")[1]) == pytest.approx(chi2, abs=1e-4)
    assert float(numbers(text, "AIC")[1]) == pytest.approx(chi2 + 6, abs=1e-4)
    assert float(numbers(text, "BIC")[1]) == pytest.approx(chi2 + 3 * np.log(25), abs=1e-4)
    low, high = (float(numbers(text, "b ")[place]) for place in (-3, -1))
    assert high - low == pytest.approx(2 * 1.959964 * float(absolute.stderr["b"]), rel=0.01)


def test_one_fit_without_its_problem_is_reported_with_the_distribution_that_is_said(fit: jaxreg.Fit) -> None:
    with pytest.raises(ValueError, match="say distribution='t' or 'normal', or give it back"):
        jaxreg.summary(fit.without_data())


@pytest.mark.parametrize(
    ("options", "note"),
    [
        ({"loss": "huber"}, "the loss's threshold is in units of y, as sigma is 1: say sigma, or scale='mad'"),
        ({"loss": "huber", "sigma": 0.1}, ""),
        ({"loss": "huber", "scale": "mad"}, "scale of the residuals, estimated"),
        ({"absolute_sigma": True}, "sigma is 1 in units of y, and taken as known"),
        ({"sigma_x": 0.1}, "sigma is 1 in units of y, beside sigma_x"),
        ({"absolute_sigma": True, "sigma": 0.1}, ""),
        ({"loss": "poisson"}, ""),
    ],
)
def test_what_the_errors_rest_on_is_said_where_it_was_not_given(options, note) -> None:
    line = jaxreg.models.expression("a + b*x")
    fit = jaxreg.curve_fit(line, np.arange(6.0), [1.0, 3.0, 5.0, 7.0, 9.0, 12.0], {"a": 1.0, "b": 2.0}, **options)
    last = str(fit).split("\n\n")[-1]
    assert note in last if note else last.startswith(("points", "correlations")), last


def test_a_fit_without_degrees_of_freedom_says_why_it_has_no_errors() -> None:
    fit = jaxreg.curve_fit(jaxreg.models.expression("a + b*x"), np.arange(2.0), [1.0, 3.0])
    assert str(fit).endswith("no errors: as many parameters as points leave nothing that says how large they are")


def test_a_double_fit_is_reported_where_double_is_off(fit: jaxreg.Fit) -> None:
    with jax.enable_x64(False):
        assert jaxreg.summary(fit).startswith("OK: converged")


def test_small_correlations_are_left_out_and_intervals_have_their_level(fit: jaxreg.Fit) -> None:
    text = report.summary(fit, least_correlation=0.5, level=0.6827, distribution="normal")
    assert "a, b" not in text
    covariance = jnp.array([[1.0, 0.5, -0.9], [0.5, 1.0, 0.0], [-0.9, 0.0, 1.0]])
    assert "a, c  -0.9000\na, b  +0.5000\n" in report.summary(fit.replace(covariance=covariance))  # by their size
    assert "68.27 % interval (normal)" in text
    assert numbers(text, "b ")[-3:] == ["1.271", "to", "1.373"]  # 1.3222 ± 0.0510


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (jaxreg.Status.MAX_STEPS, "MAX_STEPS: not converged: the budget of steps ran out"),
        (jaxreg.Status.NONFINITE, "NONFINITE: not fitted: the start, or the model there, is not finite"),
        (jaxreg.Status.SINGULAR, "SINGULAR: the data do not determine every parameter here"),
        (jaxreg.Status.INVALID_INPUT, "INVALID_INPUT: not fitted: an input was out of its range"),
    ],
)
def test_a_failed_fit_has_no_errors_and_says_so(fit: jaxreg.Fit, status: jaxreg.Status, words: str) -> None:
    unknown = jax.tree.map(lambda leaf: jnp.nan * leaf, (fit.stderr, fit.covariance))
    failed = fit.replace(status=jnp.int32(status), stderr=unknown[0], covariance=unknown[1])
    text = jaxreg.summary(failed)
    assert text.startswith(words)
    assert numbers(text, "b ")[2:] == ["–", "–", "–"]
    assert "correlations" not in text
    assert "nan" not in text


def test_a_fit_that_could_not_start_has_no_goodness(fit: jaxreg.Fit) -> None:
    failed = fit.replace(status=jnp.int32(jaxreg.Status.NONFINITE), residuals=jnp.nan * fit.residuals)
    text = jaxreg.summary(failed)
    assert text.startswith("NONFINITE")
    assert "points" not in text


def test_a_fit_of_a_row_that_is_not_finite_has_no_goodness() -> None:
    broken = jaxreg.curve_fit(jaxreg.models.ohm(), np.arange(4.0), np.array([0.0, np.nan, 2.0, 3.0]))
    assert "y is not finite at row 1" in jaxreg.summary(broken)
    assert "points" not in jaxreg.summary(broken)


def test_a_combination_that_is_not_determined_is_named(fit: jaxreg.Fit) -> None:
    direction = jnp.array([0.8, -0.6, 0.0])
    text = jaxreg.summary(fit.replace(status=jnp.int32(jaxreg.Status.SINGULAR), undetermined=direction))
    assert "not determined: 0.8 a - 0.6 b\n" in text


def test_parameters_at_a_bound_and_fixed_ones_are_marked(fit: jaxreg.Fit) -> None:
    covariance = jnp.diag(jnp.array([jnp.nan, 0.01, 0.0]))
    stopped = {"a": jnp.array(True), "b": jnp.array(False), "c": jnp.array(False)}
    stderr = {"a": jnp.nan, "b": 0.1, "c": 0.0}
    text = jaxreg.summary(fit.replace(covariance=covariance, at_bound=stopped, stderr=stderr))
    assert numbers(text, "a ")[-3:] == ["at", "a", "bound"]
    assert numbers(text, "c ")[-1] == "fixed"
    assert numbers(text, "b ")[2] == "0.100"


def test_an_exact_fit_and_one_without_degrees_of_freedom(fit: jaxreg.Fit) -> None:
    text = jaxreg.summary(fit.replace(chi2=0.0 * fit.chi2, dof=jnp.int32(0)))
    assert numbers(text, "reduced")[-1] == "–"
    assert numbers(text, "AIC")[1] == "-inf"
    assert "fixed" not in jaxreg.summary(fit.replace(stderr=jax.tree.map(jnp.zeros_like, fit.stderr)))


def test_a_row_of_leverage_one_is_named_where_it_takes_an_error_away() -> None:
    x = np.where(np.arange(25) == 7, 1.7, 0.3)
    line = models.expression("a + b*x + 0*c")
    start, held = {"a": 0.0, "b": 0.0, "c": 0.0}, {"a": False, "b": False, "c": True}
    text = jaxreg.summary(jaxreg.curve_fit(line, x, Y, start, fixed=held, covariance="HC3"))
    assert "no error of a, b: one point alone sets it, with leverage 1" in text
    assert "(the curve goes through row 7)" in text
    assert "leverage" not in jaxreg.summary(jaxreg.curve_fit(line, x, Y, start, fixed=held, covariance="HC0"))


def many(fit: jaxreg.Fit) -> jaxreg.Fit:
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf, leaf]), fit)
    return stacked.replace(status=jnp.array([0, 0, int(jaxreg.Status.NONFINITE)]))


def test_of_many_fits_the_statuses_are_counted(fit: jaxreg.Fit) -> None:
    lines = jaxreg.summary(many(fit)).splitlines()
    assert lines[0] == "3 fits: 2 OK, 1 NONFINITE"
    assert lines[1] == "failed first: [2] NONFINITE"
    assert numbers("\n".join(lines), "b ")[1:] == ["1.3222", "1.3222", "1.3222", "0.0510"]
    failed = many(fit).replace(status=jnp.full(3, int(jaxreg.Status.MAX_STEPS)))
    assert jaxreg.summary(failed).splitlines()[0] == "3 fits: 3 MAX_STEPS"


def test_of_many_fits_the_quartiles_are_those_that_ended_well(fit: jaxreg.Fit) -> None:
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * 6), fit)
    b, error = jnp.array([50.0, 10.0, 1e6, 20.0, 40.0, 30.0]), jnp.array([9.0, 1.0, 1e5, 1.0, 1.0, 9e3])
    status = jnp.array([0, 0, int(jaxreg.Status.NONFINITE), int(jaxreg.Status.KINK), 0, 0])
    fits = stacked.replace(params={**stacked.params, "b": b}, stderr={**stacked.stderr, "b": error}, status=status)
    cells = numbers(jaxreg.summary(fits), "b ")[1:]
    assert [float(cell) for cell in cells] == [20, 30, 40, 1]


def test_what_a_store_gives_back_is_reported_like_the_fits_themselves(fit: jaxreg.Fit) -> None:
    fits = jax.tree.map(np.asarray, many(fit))
    loaded = jaxreg.Sweep({"fit": np.arange(3)}, fits.without_data())
    assert jaxreg.summary(loaded) == jaxreg.summary(fits)
    intervals = uncertainty.intervals(loaded, distribution="t")
    for found, expected in zip(intervals, uncertainty.intervals(fits), strict=True):
        jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_tables(fit: jaxreg.Fit) -> None:
    table = fit.to_dataframe()
    assert list(table.index) == ["a", "b", "c"]
    np.testing.assert_allclose(table["stderr"], [fit.stderr[name] for name in "abc"])
    table = many(fit).to_dataframe()
    assert list(table.columns) == [
        "a",
        "b",
        "c",
        "a_stderr",
        "b_stderr",
        "c_stderr",
        "chi2",
        "dof",
        "num_steps",
        "status",
    ]
    assert list(table["status"]) == ["OK", "OK", "NONFINITE"]
    assert table.index.name == "fit"
    grid = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), many(fit))
    assert grid.to_dataframe().index.names == ["fit_0", "fit_1"]
    assert len(grid.to_dataframe()) == 6
    assert grid[:0].to_dataframe().shape == (0, grid.to_dataframe().shape[1])


def test_names_of_the_numbers_in_arrays(fit: jaxreg.Fit) -> None:
    params = {"w": jnp.array([1.0, 2.0]), "b": jnp.array(3.0)}
    table = fit.replace(params=params, stderr=params).to_dataframe()
    assert dict(table["value"]) == {"b": 3.0, "w[0]": 1.0, "w[1]": 2.0}


@pytest.mark.parametrize("many", [False, True])
def test_what_follows_a_fit_is_printed_as_a_table(fit: jaxreg.Fit, many: bool) -> None:
    text = str(uncertainty.intervals(jaxreg.fit_many(fit.problem, each={"y": [fit.problem.y] * 2}) if many else fit))
    names = [f"{name}[{member}]" for name in "abc" for member in range(2)] if many else list("abc")
    lines = text.splitlines()
    assert lines[0].split() == ["lower", "upper"]
    assert [line.split()[0] for line in lines[1:]] == names
    lower = float(uncertainty.intervals(fit).lower["a"])
    assert float(lines[1].split()[1]) == pytest.approx(lower, rel=1e-5)


def test_statuses_are_printed_as_words_and_what_is_large_by_its_shape(fit: jaxreg.Fit) -> None:
    ends = str(uncertainty.profile_intervals(fit))
    assert ends.splitlines()[0].split()[:4] == ["lower", "upper", "discrepancy", "status"]
    assert ends.count(" OK ") == 3
    spread = uncertainty.bootstrap(jax.random.key(0), fit, num=40, batch_size=40)
    assert "num_failed: 0" in str(spread)
    assert "status: of shape (40,)" in str(spread)
    assert str(jaxreg.goodness(fit)).startswith("log_likelihood: ")
    assert jax.jit(lambda level: jnp.sign(len(str(uncertainty.intervals(fit, level=level)))))(0.9) == 1
