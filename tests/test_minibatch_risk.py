"""Training from statistics and row by row makes the steps of plain training."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxreg
from jaxreg import _members, data, losses, models
from jaxreg.data import Dataset
from jaxreg.training import _minibatch_risk


def plainly_squared(prediction, target):
    """The squared loss as a function that nobody knows."""
    return losses.squared(prediction, target)


def random_rows(seed, num_rows, size, *, weighted):
    keys = jax.random.split(jax.random.key(seed), 4)
    x = jax.random.normal(keys[0], (num_rows, size))
    y = x @ jax.random.normal(keys[1], (size,)) + 3 + 0.3 * jax.random.normal(keys[2], (num_rows,))
    weight = jax.random.uniform(keys[3], (num_rows,)).at[::7].set(0) if weighted else None
    return Dataset(x, y.at[0].set(jnp.nan) if weighted else y, weight)


def both(model, data, *, rates=(0.03, 0.1), **settings):
    """Training on plain minibatches and on statistics, two learning rates each."""
    return [trained(model, loss, data, rates=rates, **settings) for loss in (plainly_squared, losses.squared)]


def trained(model, loss, data, *, rates, axis_name=None, **settings):
    optimizer = settings.pop("optimizer", optax.sgd)

    def run(rate):
        return jaxreg.train(
            model, loss, data, optimizer=optimizer(rate), key=jax.random.key(3), **{"epochs": 4, **settings}
        )

    return jax.jit(jax.vmap(run, axis_name=axis_name))(jnp.array(rates))


def used(model, loss, rows, batch_size, params=None):
    params = model.init(jax.random.key(0)) if params is None else params
    risk = _minibatch_risk.minibatch_risk(model, loss, params, rows, batch_size, reduction="mean")
    return risk.value_and_grad.__qualname__.split(".")[0]


SETTINGS = {
    "remainder": {"batch_size": 32},
    "one row": {"batch_size": 1, "epochs": 2},
    "full": {"batch_size": 50, "order": "sequential", "epochs": 20},
    "dropped sum": {"batch_size": 16, "remainder": "drop", "reduction": "sum", "rates": (0.003, 0.01)},
    "adam": {"batch_size": 16, "optimizer": optax.adam},
    "line search": {
        "batch_size": 16,
        "optimizer": lambda rate: optax.chain(optax.sgd(rate), optax.scale_by_backtracking_linesearch(5)),
    },
    "epochs apart": {"batch_size": 16, "validation": True},
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_statistics_make_the_steps_of_the_rows(setting):
    settings = dict(SETTINGS[setting])
    weighted = setting in ("remainder", "epochs apart")
    rows = random_rows(1, 50, 2, weighted=weighted)
    if settings.pop("validation", False):
        settings["validation"] = random_rows(2, 30, 2, weighted=weighted)
    plain, found = both(models.linear(2), rows, **settings)
    assert not plain.status.any()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), found, plain)


def test_statistics_serve_a_few_parameters_always_and_many_where_they_are_shared():
    few, many = random_rows(1, 100, 3, weighted=False), random_rows(1, 100, 32, weighted=False)
    assert used(models.linear(3), losses.squared, few, 16) == "_from_statistics"
    assert used(models.linear(3), losses.huber, few, 16) != "_from_statistics"
    assert used(models.linear(32), losses.squared, many, 50) != "_from_statistics"

    def shared(_, *, draws=False):
        name = _members.axis_name(0, draws=draws)
        return jax.make_jaxpr(jax.vmap(lambda _: reached(), axis_name=name))(jnp.arange(1000))

    reached_paths = []

    def reached():
        reached_paths.append(used(models.linear(32), losses.squared, many, 50))
        return 0.0

    shared(None)
    shared(None, draws=True)
    assert reached_paths[0] == "_from_statistics"
    assert reached_paths[1] != "_from_statistics"
    plain = trained(models.linear(32), plainly_squared, many, batch_size=50, rates=(0.01, 0.02))
    found = trained(
        models.linear(32),
        losses.squared,
        many,
        axis_name=_members.axis_name(0, draws=False),
        batch_size=50,
        rates=tuple([0.01, 0.02] * 500),
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[:2], b, rtol=2e-5, atol=2e-5), found, plain)


@pytest.mark.parametrize(
    ("model", "x", "truth"),
    [
        (models.linear(1, bias=False), jnp.linspace(-1, 1, 40)[:, None], {"w": jnp.array([2.0])}),
        (models.ohm(), jnp.linspace(0, 2, 40), {"resistance": jnp.array(5.0)}),
    ],
)
def test_statistics_of_other_linear_models(model, x, truth):
    plain, found = both(model, Dataset(x, model.apply(truth, x)), batch_size=8)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), found, plain)


@pytest.mark.usefixtures("x64")
def test_losses_at_the_optimum_do_not_cancel():
    """Float32 losses of a fit good to 1e-3 of the data's size agree with float64 to 1e-4, and none is negative."""
    double = data.linear(jax.random.key(0), 200, jnp.array([20.0, -34.0]), 42.0, noise=0.01)
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), double)

    def run(rows):
        params = jax.tree.map(lambda leaf: leaf.astype(rows.y.dtype), models.linear(2).init(jax.random.key(1)))
        return jaxreg.train(
            models.linear(2), losses.squared, rows, optimizer=optax.sgd(0.1), epochs=100, batch_size=20,
            key=jax.random.key(2), params=params,
        ).train_loss  # fmt: skip

    found, truth = run(single), run(double)
    assert found.dtype == jnp.float32
    assert (found >= 0).all()
    late = slice(500, None)
    assert truth[late].mean() < 1e-4
    np.testing.assert_allclose(found[late], truth[late], rtol=1e-2)
    np.testing.assert_allclose(found[late].mean(), truth[late].mean(), rtol=1e-4)


def test_an_infinite_loss_is_infinite_and_not_nan():
    rows = random_rows(1, 50, 2, weighted=False)
    plain, found = both(models.linear(2), rows, batch_size=8, rates=(30.0, 100.0), epochs=40)
    np.testing.assert_array_equal(found.status, plain.status)
    np.testing.assert_array_equal(np.isnan(found.train_loss), np.isnan(plain.train_loss))
    assert np.isposinf(found.train_loss).any()
    np.testing.assert_array_less(np.abs(found.num_steps - plain.num_steps), 2)


def test_a_loss_beyond_the_range_of_floats_is_infinite_and_not_zero():
    x = jnp.array([[1.0, 0.2], [1.0, 0.2], [1.0, 0.2], [1.0, 1.0]])
    sizes = np.geomspace(1e20, 1e22, 30, dtype=np.float32)
    starts = np.stack(np.meshgrid(sizes, -sizes), axis=-1).reshape(-1, 2)  # of both signs, as the terms of the sum then
    fixed = {"optimizer": optax.sgd(0.0), "epochs": 1, "batch_size": 4, "key": jax.random.key(0)}

    @jax.vmap
    def loss(start):
        model = models.linear(2, bias=False)
        rows = Dataset(x, x.sum(axis=1))
        return jaxreg.train(model, losses.squared, rows, params={"w": start}, **fixed).train_loss[0]

    assert np.isposinf(loss(starts)).all()


def test_dependent_columns_and_a_zero_column_have_statistics_too():
    x = jnp.stack([jnp.linspace(0, 1, 30), jnp.linspace(0, 2, 30), jnp.zeros(30)], axis=1)
    plain, found = both(models.linear(3), Dataset(x, x[:, 0] + 1), batch_size=8)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), found, plain)


def test_hypergradients_are_those_of_plain_training():
    rows = random_rows(1, 50, 2, weighted=True)

    def final_loss(loss, rate, scale):
        scaled = rows._replace(y=rows.y * scale)
        result = jaxreg.train(
            models.linear(2), loss, scaled, optimizer=optax.sgd(rate), epochs=2, batch_size=8, key=jax.random.key(1)
        )
        return result.train_loss[-1]

    plain, found = (
        jax.jit(jax.grad(functools.partial(final_loss, loss), (0, 1)))(0.05, 2.0)
        for loss in (plainly_squared, losses.squared)
    )
    np.testing.assert_allclose(found, plain, rtol=1e-4)


def planck_rows():
    wavelength = jnp.linspace(3e-7, 2e-6, 37)
    return Dataset(wavelength * 1e6, models.planck_radiance(wavelength, 5000.0) / 1e13)


def planck_apply(params, x):
    return params["gain"] * models.planck_radiance(x * 1e-6, params["temperature"] * 1e3) / 1e13


ROW_BY_ROW = {
    "huber": (models.linear(2), functools.partial(losses.huber, delta=0.5), None, "sum"),
    "tukey": (models.linear(2), losses.tukey, None, "mean"),
    "planck": (planck_apply, losses.squared, {"temperature": jnp.array(4.5), "gain": jnp.array(1.0)}, "mean"),
}


@pytest.mark.parametrize("case", ROW_BY_ROW)
def test_rows_one_by_one_make_the_steps_of_minibatches(case):
    model, loss, params, reduction = ROW_BY_ROW[case]
    rows = planck_rows() if case == "planck" else random_rows(1, 50, 2, weighted=True)
    most = 0.1 if reduction == "mean" else 0.01

    def run(rate):
        return jaxreg.train(
            model, loss, rows, optimizer=optax.sgd(rate), epochs=2, batch_size=10, key=jax.random.key(0), params=params,
            reduction=reduction, validation=rows,
        )  # fmt: skip

    rates = jnp.geomspace(most / 100, most, _minibatch_risk._MANY_MEMBERS)
    plain = jax.jit(jax.vmap(run))(rates)
    found = jax.jit(jax.vmap(run, axis_name=_members.axis_name(0, draws=False)))(rates)
    assert not plain.status.any()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, plain)


def test_the_squared_loss_of_optax_is_trained_as_the_squared_loss():
    rows = random_rows(1, 50, 2, weighted=False)
    known, found = (
        trained(models.linear(2), loss, rows, rates=(0.03, 0.1), batch_size=16)
        for loss in (losses.squared, optax.l2_loss)
    )
    jax.tree.map(np.testing.assert_array_equal, found, known)


def test_rows_are_taken_one_by_one_only_for_many_members():
    rows = random_rows(1, 50, 2, weighted=False)
    assert used(models.linear(2), losses.huber, rows, 16) == "batch_risk"
    paths = []

    def member(_):
        paths.append(used(models.linear(2), losses.huber, rows, 16))
        return 0.0

    jax.make_jaxpr(jax.vmap(member, axis_name=_members.axis_name(0, draws=True)))(jnp.arange(200))
    assert paths == ["_row_by_row"]


def test_a_loss_of_another_shape_is_refused_on_every_path():
    rows = random_rows(1, 50, 2, weighted=False)

    def run(rate):
        return jaxreg.train(
            models.linear(2), lambda p, t: losses.huber(p, t).mean(), rows, optimizer=optax.sgd(rate), epochs=1,
            batch_size=8, key=jax.random.key(0),
        )  # fmt: skip

    with pytest.raises(ValueError, match="the loss of the rows must have shape"):
        run(0.1)
    with pytest.raises(ValueError, match="the loss of the rows must have shape"):
        jax.vmap(run, axis_name=_members.axis_name(0, draws=False))(jnp.ones(200))


# ---- whoever else is computed ----


def standardised(x):
    return (x - x.mean(axis=0, keepdims=True)) / (x.std(axis=0, keepdims=True) + 1e-3)


def line(params, x):
    return x @ params["w"] + params["b"]


def coupled(params, x):
    return line(params, standardised(x))


def with_ones(x):
    return jnp.hstack([jnp.ones((x.shape[0], 1)), standardised(x)])


LINE, KEY = models.linear(2), jax.random.key(0)
QUARTIC = losses.elementwise(lambda prediction, target, size=0.01: size * (prediction - target) ** 4)
SEEN_APART = {
    "a mean over the rows": (coupled, losses.huber),
    "in a Model": (models.Model(LINE.init, coupled), losses.absolute),
    "in features": (models.Model(LINE.init, coupled, features=with_ones), losses.squared),
    "in place of a model's own": (LINE._replace(apply=coupled, rowwise=False), losses.squared),
    "cumulative": (lambda p, x: 0.1 * jnp.cumsum(line(p, x)), losses.huber),
    "softmax": (lambda p, x: jax.nn.softmax(line(p, x)), losses.tukey),
    "a partial": (
        functools.partial(lambda share, p, x: line(p, x - share * x.mean(axis=0, keepdims=True)), 0.5),
        losses.log_cosh,
    ),
    "a loss over its count": (LINE, lambda p, t: (p - t) ** 2 / p.size),
    "a loss over its maximum": (LINE, lambda p, t: (p - t) ** 2 / (1 + jnp.abs(p - t).max())),
    "a threshold for each row": (LINE, functools.partial(losses.huber, delta=jnp.linspace(0.1, 1, 8))),
    "rowwise": (models.rowwise(line), losses.huber),
    "rowwise inside": (models.Model(LINE.init, models.rowwise(line)), QUARTIC),
    "rowwise by hand": (models.rowwise(models.Model(LINE.init, line)), functools.partial(QUARTIC, size=0.02)),
}


def stepped(model, loss, rows, params, rate, batch_size, epochs):
    """Plain descent on minibatches in the order of the rows."""
    for first in [*range(0, rows.y.size, batch_size)] * epochs:
        x, y = rows.x[first : first + batch_size], rows.y[first : first + batch_size]
        slope = jax.grad(lambda p, x=x, y=y: loss(getattr(model, "apply", model)(p, x), y).mean())(params)
        params = jax.tree.map(lambda p, s: (p - rate * s).astype(p.dtype), params, slope)
    return params


def test_a_members_value_does_not_depend_on_how_many_there_are():
    """Neither does it where model or loss couple the rows, nor where they say that they do not."""
    rows = random_rows(5, 40, 2, weighted=False)
    params = {"w": jnp.zeros(2), "b": jnp.zeros(())}

    def member(rate):
        return {
            name: jaxreg.train(
                model, loss, rows, optimizer=optax.sgd(rate), epochs=2, batch_size=8, key=jax.random.key(0),
                params=params, order="sequential",
            ).params
            for name, (model, loss) in SEEN_APART.items()
        }  # fmt: skip

    truth = jax.jit(lambda: {name: stepped(*case, rows, params, 0.05, 8, 2) for name, case in SEEN_APART.items()})()
    for members in (1, _minibatch_risk._MANY_MEMBERS):
        found = jaxreg.sweep(member, {"rate": np.full(members, 0.05, np.float32)}).values
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-4, atol=1e-5), found, truth)


DTYPES = [jnp.float64, jnp.float32, jnp.bfloat16, jnp.float16]


def of_dtypes(of_params, of_data, of_threshold):
    """Training of a line, as a function of the learning rate."""
    rows, params = (
        jax.tree.map(lambda leaf: leaf.astype(of_data), random_rows(5, 16, 2, weighted=False)),
        LINE.init(KEY),
    )
    return lambda rate: jaxreg.train(
        LINE, functools.partial(losses.huber, delta=jnp.asarray(0.5, of_threshold)), rows, optimizer=optax.sgd(rate),
        epochs=1, batch_size=8, key=KEY, params=jax.tree.map(lambda leaf: leaf.astype(of_params), params),
        validation=random_rows(6, 8, 2, weighted=False),
    ).params  # fmt: skip


@pytest.mark.usefixtures("x64")
def test_nor_does_its_dtype():
    few, many = jnp.full(1, 0.05), jnp.full(_minibatch_risk._MANY_MEMBERS, 0.05)
    for of_params, of_data in itertools.permutations(DTYPES, 2):
        member = jax.vmap(of_dtypes(of_params, of_data, jnp.float32), axis_name=_members.axis_name(0, draws=False))
        assert jax.eval_shape(member, many)["w"].dtype == of_params
    for dtypes in ((jnp.float64, jnp.float32, jnp.float32), (jnp.float32, jnp.float32, jnp.float64)):
        one, other = (jaxreg.sweep(of_dtypes(*dtypes), {"rate": rates}).values["w"][0] for rates in (few, many))
        assert one.dtype == other.dtype == dtypes[0]
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_held_out_rows_of_another_width_are_refused():
    rows, wide = random_rows(1, 10, 2, weighted=False), random_rows(1, 10, 3, weighted=False)
    with pytest.raises(ValueError, match=r"validation.x must have shape \(10, 2\), got \(10, 3\)"):
        trained(LINE, losses.huber, rows, rates=(0.1,), batch_size=5, validation=wide)
