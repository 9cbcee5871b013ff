"""What a prompt and a notebook show: reports and tables in place of walls of arrays."""

import xml.etree.ElementTree as ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxreg
from jaxreg import data, losses, models, uncertainty

pytestmark = pytest.mark.usefixtures("x64_module")

X = np.linspace(0.0, 4.0, 25)
Y = 2 * np.exp(-1.3 * X) + 0.4 + 0.05 * np.random.default_rng(0).normal(size=25)
START = {"rate": 1.0, "offset": 0.0, "amp": 1.0}
ROWS = data.Dataset(np.random.default_rng(0).normal(size=(40, 2)), np.arange(40.0))


def decay(p, x):
    return p["amp"] * jnp.exp(-p["rate"] * x) + p["offset"]


def training(learning_rate=0.01, key=0):
    model, key = models.linear(2), jax.random.key(key) if isinstance(key, int) else key
    optimizer = optax.sgd(learning_rate)
    return jaxreg.train(model, losses.squared, ROWS, optimizer=optimizer, epochs=2, batch_size=10, key=key)


with jax.enable_x64(True):
    PROBLEM = jaxreg.problem(decay, X, Y, START, sigma=0.05, bounds=({"rate": 0.0}, np.inf))


@pytest.fixture(scope="module")
def results():
    fits = jaxreg.fit_many(decay, X, np.stack([Y, Y, np.full(25, np.nan)]), START)
    rates = {"learning_rate": jnp.array([0.01, 1e300]), "key": jax.random.split(jax.random.key(0), 2)}
    return {
        "fit": jaxreg.fit(PROBLEM),
        "fits": fits,
        "problem": PROBLEM,
        "model": models.expression("amp*exp(-rate*x) + offset"),
        "training": training(),
        "sweep": jaxreg.sweep(training, rates),
    }


def table(html, place=0):
    """The cells of a table of a notebook, which must be well-formed."""
    found = ElementTree.fromstring(html).findall("table")[place]
    return [[cell.text or "" for cell in row] for row in found.iter("tr")]


@pytest.mark.parametrize("kind", ["fit", "fits", "problem", "model", "training", "sweep"])
def test_a_prompt_shows_what_print_shows_and_a_notebook_the_same_words(results, kind):
    one = results[kind]
    assert repr(one) == str(one)
    assert "Array" not in repr(one)
    assert "array(" not in repr(one)
    html = ElementTree.fromstring(one._repr_html_())
    words = [cell for part in html.iter() for cell in (part.text or "").split()]
    assert words
    assert set(words) <= set(repr(one).split())


def test_parameters_stand_in_the_order_given(results):
    names = ["rate", "offset", "amp"]
    fit, fits = results["fit"], results["fits"]
    assert [row[0] for row in table(fit._repr_html_())[1:]] == names
    assert [row[0] for row in table(fits._repr_html_())[1:]] == names
    assert list(fit.to_dataframe().index) == names
    assert list(fits.to_dataframe().columns[:3]) == names
    assert list(fits.to_xarray())[:4] == ["rate", "rate_stderr", "offset", "offset_stderr"]
    assert repr(results["model"]) == "Model expression('amp*exp(-rate*x) + offset') of amp, rate, offset"


def test_the_order_is_that_of_the_terms_of_a_sum_and_of_a_model_that_guesses():
    first = jaxreg.problem(decay, X, Y, START)
    second = first.rename({"amp": "height"})
    assert (second + first).order == ("rate", "offset", "height", "amp")
    text = models.expression("c*x + a + b*x**2")
    assert jaxreg.problem(text, X, Y).order == ("c", "a", "b")


def test_another_order_is_no_other_program():
    turned = dict(reversed(START.items()))
    traces = []

    def counted(p, x):
        traces.append(1)
        return decay(p, x)

    jaxreg.curve_fit(counted, X, Y, START)
    needed = len(traces)
    found = jaxreg.curve_fit(counted, X, Y, turned)
    assert len(traces) == needed
    assert found.problem.order == tuple(turned)


def test_numbers_of_a_notebook_are_those_of_the_fit(results):
    fit = results["fit"]
    for name, value, error, *_ in table(fit._repr_html_())[1:]:
        assert float(value) == pytest.approx(float(fit.params[name]), abs=float(fit.stderr[name]) / 50)
        assert float(error) == pytest.approx(float(fit.stderr[name]), rel=0.01)


def test_statuses_are_words(results):
    assert repr(results["fits"]).startswith("3 fits: 2 OK, 1 NONFINITE\nfailed first: [2] NONFINITE")
    assert repr(results["training"]).startswith("OK: 8 steps")
    assert "status: 2 OK, 2 DIVERGED" in repr(results["sweep"])
    assert repr(results["sweep"].values).startswith("4 trainings: 2 OK, 2 DIVERGED")


def test_a_problem_says_where_its_parameters_start_and_may_go():
    rows = table(PROBLEM._repr_html_(), 1)
    assert rows[1:] == [
        ["rate", "1", "0 to inf", ""],
        ["offset", "0", "-inf to inf", ""],
        ["amp", "1", "-inf to inf", ""],
    ]
    held = jaxreg.problem(decay, X, Y, START, fixed={"offset": True}, loss="huber")
    assert [row[-1] for row in table(held._repr_html_(), 1)[1:]] == ["", "fixed", ""]
    assert table(held._repr_html_())[1] == ["0", "decay", "25", "huber(delta=1)", "1"]
    assert table(jaxreg.problem(models.exponential(), X, Y)._repr_html_(), 1)[1][1] == "guessed"


def test_what_follows_a_fit_is_a_table_in_a_notebook_too(results):
    ends = uncertainty.intervals(results["fit"])
    assert [row[0] for row in table(ends._repr_html_())[1:]] == ["amp", "offset", "rate"]
    assert table(jaxreg.compare({"a": results["fit"], "<b>": results["fit"]})._repr_html_())[2][0] == "<b>"


def test_under_a_trace_there_are_no_numbers_to_show():
    shown = []

    @jax.jit
    def traced(y):
        problem = PROBLEM.replace(y=y, sigma=y[0])
        fit = jaxreg.fit(problem)
        shown.extend(map(repr, (problem, fit)))
        shown.append(fit._repr_html_())  # a notebook takes the text instead
        return y

    traced(Y)
    assert shown == ["Problem(25 points)", "Fit(amp, offset, rate)", None]
