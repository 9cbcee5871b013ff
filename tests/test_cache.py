"""What is compiled for a function goes when the function goes, and is found again while it lives."""

import functools
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxreg
from jaxreg import losses, models, uncertainty
from jaxreg.data import Dataset

pytestmark = pytest.mark.usefixtures("new_garbage_only")

X = np.linspace(0, 1, 12, dtype=np.float32)
Y = 2 * np.exp(-3 * X) + 0.01 * np.cos(50 * X)
START = {"a": 1.0, "k": 1.0}


def decay(data):
    return lambda p, x: p["a"] * jnp.exp(-p["k"] * x) + 0 * data[0]


PLAIN, SGD = decay([0]), optax.sgd(0.1)


def trained(model=PLAIN, loss=losses.squared, optimizer=SGD):
    return jaxreg.train(
        model, loss, Dataset(X, Y), optimizer=optimizer, epochs=1, batch_size=6, key=jax.random.key(0), params=START
    )


def swept(fn, static=None):
    return jaxreg.sweep(fn, {"rate": X}, static=static)


def apply(fn, rate):
    return fn(rate)


def followed(f):
    fit, key = jaxreg.curve_fit(f, X, Y, START), jax.random.key(0)
    uncertainty.band(fit, X)
    uncertainty.profile(fit, num=3)
    uncertainty.profile_intervals(fit)
    uncertainty.profile_contour(fit, ("a", "k"), num=3)
    uncertainty.bootstrap(key, fit, num=3)
    uncertainty.nonlinearity(fit)


USES = {
    "fit": (decay, lambda f: jaxreg.fit(jaxreg.problem(f, X, Y, START))),
    "fit_many of a problem": (
        decay,
        lambda f: jaxreg.fit_many(jaxreg.problem(f, X, Y, START), each={"y": np.stack([Y, 2 * Y])}),
    ),
    "uncertainty": (decay, followed),
    "curve_fit": (decay, lambda f: jaxreg.curve_fit(f, X, Y, START)),
    "fit_many": (decay, lambda f: jaxreg.fit_many(f, X, Y[None], START)),
    "train": (decay, trained),
    "loss": (lambda data: functools.partial(losses.huber, delta=data[0] + 1), lambda f: trained(loss=f)),
    "optimizer": (lambda data: optax.sgd(lambda _: data[0] + 0.1), lambda f: trained(optimizer=f)),
    "sweep": (lambda data: lambda rate: rate + data[0], swept),
    "static": (lambda data: lambda rate: rate + data[0], lambda f: swept(apply, {"fn": [f]})),
}


def programs():
    gc.collect()
    return len(jax.devices()[0].client.live_executables())


@pytest.mark.parametrize("use", USES)
def test_a_function_its_data_and_its_programs_are_let_go(use):
    make, call = USES[use]

    def used():
        data = jnp.arange(3.0)
        call(make(data))
        return weakref.ref(data)

    used()  # compiles JAX's own small programs too
    before = programs()
    held = used()
    assert programs() <= before
    assert held() is None


class Line:
    def __init__(self):
        self.traced = 0

    def apply(self, params, x):
        self.traced += 1
        return params["a"] + params["k"] * x

    def positional(self, x, a, k):
        self.traced += 1
        return a + k * x


SAME = {
    "method": (lambda line: line.apply, START),
    "positional": (lambda line: models.positional(line.positional), (1.0, 1.0)),
    "rowwise": (lambda line: models.rowwise(models.positional(line.positional)), (1.0, 1.0)),
}


@pytest.mark.parametrize("kind", SAME)
def test_what_is_equal_though_made_anew_is_traced_once(kind):
    line, (make, start) = Line(), SAME[kind]

    def traced():
        jaxreg.curve_fit(make(line), X, Y, start)
        jaxreg.fit_many(make(line), X, Y[None], start)
        return line.traced

    assert traced() == traced() > 0
    assert hash(make(line)) == hash(make(line))
    assert make(line) == make(line)


def test_another_function_at_the_same_place_in_memory_is_another():
    for number in range(20):
        assert swept(lambda rate, number=number: rate + number).values[0] == number
