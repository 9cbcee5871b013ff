"""What comes in: numbers in any form that says the same are taken as such, and what says more than a float is refused.

All fits are of one shape, so that each program is compiled once.
"""

import copy
import datetime
import functools
import itertools
import math
import pickle
from decimal import Decimal
from fractions import Fraction
from inspect import unwrap  # of the tests' own checks of types, which no user has

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas
import pytest

import jaxreg
from jaxreg import Dataset, batching, covariance, data, gradient_noise, losses, models, plots, studies, uncertainty

pytestmark = pytest.mark.usefixtures("x64_module")

KEY = jax.random.key(0)
X, Y, SIGMA = np.arange(1.0, 7), np.array([2.0, 4, 7, 8, 9, 12]), np.array([1.0, 2, 1, 3, 1, 1])
MANY = np.stack([Y, 2 * Y, Y[::-1]])
START = np.array([1.0, 2.0])


def line(params, x):
    return params["p"][0] + params["p"][1] * x


def curve_fit(x=X, y=Y, sigma=SIGMA, p=START, **options):
    return jaxreg.curve_fit(options.pop("model", line), x, y, {"p": p}, sigma=sigma, **options)


def fit_many(x=X, y=MANY, sigma=SIGMA, p=START, **options):
    return jaxreg.fit_many(options.pop("model", line), x, y, {"p": p}, sigma=sigma, progress=False, **options)


def train(x=X, y=Y, weight=SIGMA, p=START, model=line, loss=losses.squared):
    return jaxreg.train(
        model, loss, Dataset(x, y, weight), optimizer=SGD, epochs=2, batch_size=3, key=KEY, params={"p": p}
    )


SGD = optax.sgd(0.01)


@functools.cache
def fitted():
    """As it was read: NumPy's arrays go wherever JAX's do, under a trace too."""
    return pickle.loads(pickle.dumps(curve_fit()))


def without_data(tree):
    is_fit = lambda node: isinstance(node, jaxreg.Fit)  # noqa: E731
    return jax.tree.map(lambda node: node.without_data() if is_fit(node) else node, tree, is_leaf=is_fit)


def equal(got, wanted):
    """Fits are compared by what they found, not by what they were asked."""
    jax.tree.map(np.testing.assert_array_equal, *map(without_data, (got, wanted)))


# ---- numbers in another form ----

WHOLE = {
    "big-endian": lambda values: values.astype(">f8"),
    "big-endian integers": lambda values: values.astype(">i2"),
    "integers": lambda values: values.astype(int),
    "bytes": lambda values: values.astype(np.uint8),
    "half precision, big-endian": lambda values: values.astype(">f2").astype(">f8"),
    "longer than double": lambda values: values.astype(np.longdouble),
    "objects": lambda values: values.astype(object),
    "a masked array of which nothing is masked": np.ma.masked_array,
    "integers of JAX": lambda values: jnp.asarray(values, int),
}
LISTS = {
    "a list of integers": lambda values: values.astype(int).tolist(),
    "a tuple of floats": lambda values: tuple(values.tolist()),
    "a list of numbers of JAX": lambda values: jax.tree.map(jnp.asarray, values.tolist()),
}
ROWS = {
    "decimals": lambda values: [Decimal(int(value)) for value in values],
    "fractions": lambda values: [Fraction(int(value)) for value in values],
    "a column of pandas": pandas.Series,
    "a column of pandas that could hold gaps": lambda values: pandas.Series(values.astype(int), dtype="Int64"),
}


@pytest.mark.parametrize("argument", ["x", "y", "sigma", "p"])
@pytest.mark.parametrize("form", WHOLE | LISTS | ROWS)
def test_a_fit_takes_numbers_in_any_form(form, argument):
    if argument == "p" and form not in WHOLE:
        return  # a list is a pytree of its own
    native = {"x": X, "y": Y, "sigma": SIGMA, "p": START}[argument]
    equal(curve_fit(**{argument: (WHOLE | LISTS | ROWS)[form](native)}), fitted())


@pytest.mark.parametrize("form", WHOLE | LISTS)
def test_many_fits_and_training_take_numbers_in_any_form(form):
    convert = (WHOLE | LISTS)[form]
    start = START if form in LISTS else convert(START)
    wanted, one = fit_many(), train()
    equal(fit_many(convert(X), convert(MANY), convert(SIGMA), start), wanted)
    equal(
        fit_many(np.tile(X, (3, 1)), sigma=np.tile(SIGMA, (3, 1))),
        fit_many(*map(convert, (np.tile(X, (3, 1)), MANY, np.tile(SIGMA, (3, 1))))),
    )
    equal(train(convert(X), convert(Y), convert(SIGMA), start), one)


@pytest.mark.parametrize("form", WHOLE)
def test_what_follows_a_fit_takes_numbers_in_any_form(form):
    convert = WHOLE[form]

    def following(x, y, sigma):
        fit = fitted().with_problem(fitted().problem.replace(x=x, y=y, sigma=sigma))
        band = uncertainty.band(fit, x, kind="prediction", sigma=sigma)
        drawn = uncertainty.bootstrap(KEY, fit, num=20)
        return uncertainty.profile_intervals(fit), drawn, band, uncertainty.nonlinearity(fit)

    equal(following(*map(convert, (X, Y, SIGMA))), following(X, Y, SIGMA))


@pytest.mark.parametrize("form", WHOLE | LISTS)
def test_data_sets_take_numbers_in_any_form(form):
    convert = (WHOLE | LISTS)[form]
    plan = batching.minibatches(jnp.arange(6), 3)
    risk = jaxreg.empirical_risk(models.ohm(), losses.squared)

    def of_data(rows):
        parts = data.split(rows, 4), data.corrupt_target(rows, 1, 9.0), data.corrupt_leverage(rows, 0, 9.0)
        moments = risk({"resistance": 1.0}, rows), batching.gather(rows, plan)
        return parts, moments, data.corrupt_fraction(KEY, rows, 0.5, 9.0), data.check_finite(rows)

    equal(of_data(Dataset(*map(convert, (X, Y, SIGMA)))), of_data(Dataset(X, Y, SIGMA)))


def test_a_decay_in_another_byte_order_is_the_same_decay():
    x = np.linspace(0.5, 2, 6)
    y = 3 * np.exp(-1.5 * x) + 0.01 * np.random.default_rng(0).standard_normal(6)

    def decay(params, x):
        return params["p"][0] * jnp.exp(-params["p"][1] * x)

    for x_of, y_of in itertools.product((x, x.astype(">f8")), (y, y.astype(">f8"))):
        found = curve_fit(x_of, y_of, None, np.ones(2), model=decay)
        assert found.params["p"][1] == pytest.approx(1.4976, abs=5e-5)


def test_a_mask_that_numpy_holds_is_given_as_the_message_says():
    x, y = np.arange(1.0, 6), np.ma.masked_array([2.0, 4.1, 600.0, 8.2, 9.9], [0, 0, 1, 0, 0])
    with pytest.raises(
        ValueError, match=r"y must not be a masked array, got one with 1 masked: give y.data and mask=~y.mask"
    ):
        jaxreg.curve_fit(models.expression("a+b*x"), x, y)
    fit = jaxreg.curve_fit(models.expression("a+b*x"), x, y.data, mask=~y.mask)
    assert fit.params == pytest.approx({"a": 0.08, "b": 1.99})
    assert fit.stderr == pytest.approx({"a": 0.168, "b": 0.0495}, rel=2e-3)


def test_a_list_of_traced_numbers_is_an_array():
    @jax.jit
    def slope(first):
        return curve_fit(y=[first, *Y[1:]]).params["p"][1]

    assert slope(Y[0]) == pytest.approx(float(fitted().params["p"][1]), rel=1e-12)


def test_what_is_not_finite_in_x_is_not_fitted_though_the_model_is_finite_there():
    x = np.where(np.arange(len(X)) == 2, np.inf, X)
    model = models.expression("a*exp(-k*x)")
    fit = jaxreg.curve_fit(model, x, Y, {"a": 1.0, "k": 1.0})
    assert fit.status == jaxreg.Status.NONFINITE
    assert jaxreg.status.culprit_of(fit) == "x is not finite at row 2"
    many = jaxreg.fit_many(model, np.stack([X, x]), np.stack([Y, Y]), {"a": 1.0, "k": 1.0})
    assert many.status.tolist() == [many.status[0], jaxreg.Status.NONFINITE]
    left_out = jaxreg.curve_fit(model, x, Y, {"a": 1.0, "k": 1.0}, mask=np.isfinite(x))
    assert left_out.status == many.status[0] == jaxreg.Status.OK


def test_a_double_fit_of_another_day_is_followed_in_single_precision_with_a_warning():
    fit = pickle.loads(pickle.dumps(fitted()))
    with jax.enable_x64(False), pytest.warns(UserWarning, match="float64 arrays are fitted in float32"):
        uncertainty.profile_intervals(fit)


def test_integers_that_single_precision_rounds_are_warned_about():
    with jax.enable_x64(False):
        with pytest.warns(UserWarning, match="x holds integers beyond 16777216, which float32 rounds"):
            curve_fit((X + 2**30).astype(int), Y.tolist(), None, START.astype("f"))
        for form in (WHOLE["big-endian"], pandas.Series, WHOLE["longer than double"]):
            with pytest.warns(UserWarning, match="float64 arrays are fitted in float32"):
                curve_fit(X.tolist(), form(Y), None, START.astype("f"))


# ---- what says more than a number ----

SECOND = "np.timedelta64.1, 's'."
REFUSED = {
    "masked": (lambda values: np.ma.masked_array(values, values == 2), "masked array, got one with . masked: give"),
    "a list with a masked number": (lambda values: [np.ma.masked, *values[1:]], "masked array, got one with . masked"),
    "complex": (lambda values: values + 0j, "real numbers, got complex128: take its abs"),
    "complex objects": (lambda values: [1j, *map(Decimal, values[1:])], "real numbers, got complex 1j at index 0: "),
    "complex of JAX": (lambda values: jnp.asarray(values) * 1j, "real numbers, got complex128: take its abs"),
    "dates": (lambda values: values.astype("M8[D]"), f"got datetime64.D.: give .* - .*0.. / {SECOND}"),
    "dates of Python": (
        lambda values: [datetime.date(2020, 1, int(value)) for value in values],
        f"got date 2020.*{SECOND}",
    ),
    "dates with a zone": (
        lambda values: pandas.Series(pandas.date_range("2020", periods=len(values), tz="UTC")),
        f"got Timestamp 2020.*{SECOND}",
    ),
    "times": (lambda values: values.astype("m8[s]"), f"got timedelta64.s.: give .* / {SECOND}"),
    "times of Python": (lambda values: list(map(datetime.timedelta, values)), f"got timedelta .*{SECOND}"),
    "words": (lambda values: values.astype(str), "real numbers, got <U32: convert"),
    "words as objects": (lambda values: values.astype(str).astype(object), "got str .* at index 0: convert"),
    "nothing": (lambda values: [*values[:-1], None], "got NoneType None at index .: .* leave the rest out"),
    "booleans": (lambda values: values > 1, "real numbers, got bool: convert"),
    "ragged": (lambda values: [[1.0], *values[1:]], "be one array, got a list that is none"),
    "a dictionary": (lambda values: dict(enumerate(values)), "real numbers, got dict"),
    "fields": (lambda values: np.zeros(len(values), [("a", float)]), "real numbers, got .*'a'"),
    "keys": (lambda values: jax.random.split(KEY, len(values)), "real numbers, got key"),
}
PLACES = {
    "x": lambda bad: curve_fit(x=bad(X)),
    "y": lambda bad: curve_fit(y=bad(Y)),
    "sigma": lambda bad: curve_fit(sigma=bad(SIGMA)),
    "data.y": lambda bad: train(y=bad(Y)),
    "data.weight": lambda bad: train(weight=bad(SIGMA)),
    "target": lambda bad: losses.huber(Y, bad(Y)),
}


# What a model may take, as a pytree of features or as complex targets.
TAKEN = {("a dictionary", "x"), ("complex", "y"), ("complex of JAX", "y")}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_real_number_is_refused_by_name(kind, place):
    if (kind, place) in TAKEN:
        return
    bad, message = REFUSED[kind]
    with pytest.raises(ValueError, match=f"^{place} must .*{message}"):
        PLACES[place](bad)


@pytest.mark.parametrize(
    "kind", ["masked", "complex", "complex of JAX", "dates", "dates with a zone", "times", "words", "fields", "keys"]
)
def test_what_is_no_real_number_among_features_is_refused_by_its_place(kind):
    bad, message = REFUSED[kind]
    with pytest.raises(ValueError, match=rf"^x\['v'\] must .*{message}"):
        jaxreg.problem(lambda params, x: line(params, x["v"]), {"t": X, "v": bad(X)}, Y, {"p": START})


BAD = {
    "masked cube": (
        lambda: fit_many(y=np.ma.masked_array(MANY, MANY > 8)),
        "y must not be a masked array, got one with 8 masked",
    ),
    "list of masked": (lambda: fit_many(y=list(np.ma.masked_array(MANY, MANY > 8))), "y must not be a masked array"),
    "complex cube": (lambda: fit_many(sigma=MANY * 1j), "sigma must be of real numbers, got complex128"),
    "masked mask": (lambda: curve_fit(mask=np.ma.masked_array(Y, Y == 4) > 3), "mask must not be a masked array"),
    "mask of integers": (
        lambda: curve_fit(mask=[1, 1, 1, 1, 0, 0]),
        r"mask must be of booleans, got int64: .*astype\(bool\)",
    ),
    "complex start": (lambda: curve_fit(p=START * 1j), r"p0\['p'\] must be of real numbers, got complex128"),
    "masked start": (lambda: curve_fit(p=np.ma.masked_array(START, [0, 1])), r"p0\['p'\] must not be a masked array"),
    "complex bounds": (lambda: curve_fit(bounds=(0j, 1.0)), "bounds must be of real numbers, got complex128"),
    "a word as threshold": (
        lambda: curve_fit(loss=functools.partial(losses.huber, delta="1")),
        "the loss's delta must be of real numbers, got <U1",
    ),
    "complex band": (lambda: uncertainty.band(fitted(), X * 1j), "x must be of real numbers, got complex128"),
    "masked y in another's place": (
        lambda: fitted().problem.replace(y=np.ma.masked_array(Y, Y > 8)),
        "y must not be a masked array",
    ),
    "absolute": (lambda: curve_fit(absolute_sigma="no"), "absolute_sigma must be True or False, got 'no'"),
    "absolute 1": (lambda: curve_fit(absolute_sigma=1), "absolute_sigma must be True or False, got 1"),
    "absolute traced": (
        lambda: jax.jit(lambda a: curve_fit(absolute_sigma=a))(True),
        "absolute_sigma must be True or False",
    ),
    "absolute problem": (
        lambda: jaxreg.problem(line, X, Y, {"p": START}, absolute_sigma="no"),
        "absolute_sigma must be True or False, got 'no'",
    ),
    "each": (lambda: fit_many(p0_each="no"), "p0_each must be True or False, got 'no'"),
    "residuals": (lambda: fit_many(residuals=0), "residuals must be True or False, got 0"),
    "gain": (lambda: models.planck(gain=2.5), "gain must be True or False, got 2.5"),
    "offset": (lambda: models.gaussian(offset="no"), "offset must be True or False, got 'no'"),
    "bias": (lambda: models.linear(2, bias=None), "bias must be True or False, got None"),
    "kind": (lambda: estimate("hc3"), "kind must be one of 'classic', .*, got 'hc3'"),
    "no kind": (lambda: estimate(None), "kind must be one of 'classic', .*, got None"),
    "absolute estimate": (lambda: estimate("classic", absolute_sigma="no"), "absolute_sigma must be True or False"),
    "no hessian": (lambda: estimate("hessian"), "bending must be given for kind 'hessian', got None"),
    "negative batches": (lambda: batching.steps_per_epoch(10, -4), "batch_size must be at least 1, got -4"),
    "large batches": (lambda: batching.steps_per_epoch(10, 11), "batch_size must be at most 10, got 11"),
    "remainder": (lambda: batching.steps_per_epoch(10, 4, "dropp"), "remainder must be one of 'keep', 'drop'"),
    "seeds": (lambda: range_test(num_seeds=0), "num_seeds must be at least 1, got 0"),
    "digits": (lambda: jaxreg.summary(fitted(), digits=0), "digits must be at least 1, got 0"),
    "no data set": (lambda: batching.gather((X, Y), None), "data must be a jaxreg.data.Dataset"),
}


def estimate(kind, **options):
    return unwrap(covariance.estimate)(kind, jnp.ones((1, 3)), jnp.array([1.0, -1.0, 1.0]), **options)


def range_test(**options):
    return studies.range_test(
        models.ohm(), losses.squared, Dataset(X, Y), learning_rate=[0.1], batch_size=3, steps=2, key=KEY, **options
    )


@pytest.mark.parametrize("case", BAD)
def test_a_bad_argument_is_named(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=f"^{message}"):
        call()


# ---- models and losses that JAX cannot trace ----

UNTRACEABLE = {
    "np.exp": lambda params, x: np.exp(params["p"][0] * x),
    "math.exp": lambda params, x: math.exp(params["p"][0]) * x,
    "float": lambda params, x: float(params["p"][0]) * x,
    "if": lambda params, x: x if params["p"][0] > 0 else -x,
    "and": lambda params, x: x * (params["p"][0] > 0 and params["p"][1] > 0),
    "x[x > 0]": lambda params, x: params["p"][0] * x[x > params["p"][1]],
    "range": lambda params, x: sum(x for _ in range(params["p"][0].astype(int))),
}


@pytest.mark.parametrize("fit", [curve_fit, fit_many, train])
@pytest.mark.parametrize("case", UNTRACEABLE)
def test_a_model_that_cannot_be_traced_is_told_what_to_write(case, fit):
    with pytest.raises(
        ValueError, match=r"^model must be written with jax.numpy.*jnp.exp for np.exp.*jnp.where"
    ) as caught:
        fit(model=UNTRACEABLE[case])
    assert type(caught.value.__cause__).__module__ == "jax.errors" or "racer" in type(caught.value.__cause__).__name__


@pytest.mark.parametrize("fit", [curve_fit, fit_many, train])
def test_a_loss_that_cannot_be_traced_is_told_what_to_write(fit):
    with pytest.raises(ValueError, match=r"^loss must be written with jax.numpy.*jnp.exp for np.exp"):
        fit(loss=lambda prediction, target: np.log1p((prediction - target) ** 2))


PREDICTIONS = {
    "complex": (lambda params, x: jnp.exp(1j * params["p"][0] * x), "complex128: take its abs"),
    "nothing": (lambda *_: None, "NoneType None"),
    "booleans": (lambda params, x: x > params["p"][0], "bool"),
}


@pytest.mark.parametrize("fit", [curve_fit, fit_many, train])
@pytest.mark.parametrize("case", PREDICTIONS)
def test_a_prediction_that_is_no_real_number_is_refused(case, fit):
    model, got = PREDICTIONS[case]
    with pytest.raises(ValueError, match=f"^the model's prediction must be of real numbers, got {got}"):
        fit(model=model)


def test_a_complex_prediction_of_features_is_refused_where_they_are_trained_on():
    spiral = models.Model(None, lambda p, x: 1j * x * p["p"], None, lambda x: 1j * x[:, None])
    with pytest.raises(ValueError, match=r"^the model's prediction must be of real numbers, got complex128"):
        train(model=spiral, p=np.ones(()))


@pytest.mark.parametrize(
    ("model", "p0", "given"),
    [
        (lambda p, x: p["a"] * x, [1.0], "params of shapes [()] and x of (6,)"),
        (lambda p, x: p[0] * x + p[1], (1.0,), "params of shapes ((),) and x of (6,)"),
        (lambda p, x: p.a * x, {"a": 1.0}, "params of shapes {'a': ()} and x of (6,)"),
    ],
    ids=["a list read by name", "too few", "a dict read by attribute"],
)
def test_an_error_in_a_model_says_what_it_was_called_with(model, p0, given):
    with pytest.raises((TypeError, IndexError, AttributeError)) as caught:
        jaxreg.curve_fit(model, X, Y, p0)
    assert f"The model was called as model(params, x), with {given}." in caught.value.__notes__


# ---- levels ----

LEVELS = {
    "quantile": lambda level: uncertainty.quantile(4, level),
    "normal quantile": lambda level: uncertainty.quantile(4, level, "normal"),
    "quantile of many": lambda level: uncertainty.quantile(jnp.array([5000, 4]), level),
    "intervals": lambda level: uncertainty.intervals(fitted(), level=level),
    "band": lambda level: uncertainty.band(fitted(), X, level=level)[2:],
    "profile_intervals": lambda level: uncertainty.profile_intervals(fitted(), level=level)[:2],
    "profile_contour": lambda level: uncertainty.profile_contour(fitted(), ("p[0]", "p[1]"), level=level, num=4).points,
    "bootstrap": lambda level: uncertainty.bootstrap(KEY, fitted(), num=20, level=level)[2:4],
    "nonlinearity": lambda level: uncertainty.nonlinearity(fitted(), level=level),
}
SHOWN = {
    "summary": lambda level: jaxreg.summary(fitted(), level=level),
    "plots.fit": lambda level: plots.fit(fitted(), level=level),
}


@pytest.mark.parametrize("level", [95, 95.0, 1.0, 0, -0.5, math.nan, np.array([0.5, 95.0])])
@pytest.mark.parametrize("name", LEVELS | SHOWN)
def test_a_level_is_a_probability(name, level):
    with pytest.raises(ValueError, match=r"^level must be between 0 and 1 \(0.95 for 95 %\), got "):
        (LEVELS | SHOWN)[name](level)
    plt.close("all")


@pytest.mark.parametrize("name", LEVELS)
def test_a_traced_level_that_is_no_probability_gives_nan(name):
    fitted()  # before anything is traced
    traced = jax.jit(lambda level: jax.tree.map(jnp.isnan, LEVELS[name](level)))
    assert all(leaf.all() for leaf in jax.tree.leaves(traced(95.0)))
    assert not any(leaf.any() for leaf in jax.tree.leaves(traced(0.5)))


# ---- sizes of minibatches ----

ROW = Dataset(X, Y), {"resistance": 1.0}
RISK = jaxreg.empirical_risk(models.ohm(), losses.squared)
SIZES = {
    "edge": lambda size, **options: unwrap(gradient_noise.mean_square_edge)(
        RISK, *ROW[::-1], batch_size=size, **options
    ),
    "training": lambda size, **options: unwrap(gradient_noise.expected_training)(
        RISK, *ROW[::-1], learning_rate=0.001, batch_sizes=jnp.stack([size, 2]), **options
    ).loss[1:],
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_of_minibatches_are_those_of_rows(name):
    for size in (0, -4, 7, 2.5, math.nan):
        with pytest.raises(ValueError, match=r"^batch_size must be whole, between 1 and 6, got "):
            SIZES[name](size)
        assert jnp.isnan(jax.jit(SIZES[name])(float(size))).all()
    with pytest.raises(ValueError, match=r"^replace must be True or False, got 'no'"):
        SIZES[name](2, replace="no")
    assert jnp.isfinite(jax.jit(SIZES[name])(2)).all()


# ---- pickles ----


def test_a_result_keeps_double_precision_where_it_is_read_in_single():
    found = (
        fitted(),
        uncertainty.intervals(fitted()),
        uncertainty.band(fitted(), X),
        uncertainty.bootstrap(KEY, fitted(), num=20),
        train(),
        Dataset(jnp.asarray(X), jnp.asarray(Y)),
    )
    text = pickle.dumps(found)
    with jax.enable_x64(False):
        for read in (pickle.loads(text), copy.deepcopy(found), tuple(map(copy.copy, found))):
            assert list(map(type, read)) == list(map(type, found))
            assert [leaf.dtype for leaf in jax.tree.leaves(read)] == [leaf.dtype for leaf in jax.tree.leaves(found)]
            equal(read, found)
        assert jaxreg.summary(read[0]) == jaxreg.summary(found[0])


def test_a_pickled_fit_keeps_its_problem_but_for_a_function_made_within_another():
    kept = fitted()
    equal(uncertainty.band(kept, X), uncertainty.band(curve_fit(), X))
    local = curve_fit(model=lambda params, x: line(params, x))
    lost = pickle.loads(pickle.dumps(local))
    equal((lost, uncertainty.intervals(lost)), (local, uncertainty.intervals(local)))
    with pytest.raises(ValueError, match=r"<lambda> was left out when this fit was kept.*fit\.with_problem\("):
        uncertainty.band(lost, X)
    equal(uncertainty.band(lost.with_problem(local.problem), X), uncertainty.band(local, X))
