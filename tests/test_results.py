import functools
import itertools
from collections import OrderedDict
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import Sweep, losses
from jaxreg._names import leaf_names
from jaxreg._points import labels, num_points
from jaxreg._tables import variables
from jaxreg.training import Training

RATES = np.array([0.01, 0.1, 1.0])


class Point(NamedTuple):
    scale: np.ndarray
    start: np.ndarray


@pytest.fixture
def atlas() -> Sweep:
    """2 losses, 3 rates, 2 keys; a scalar, a history and nested parameters."""
    shape = (2, 3, 2)
    numbers = np.arange(12.0).reshape(shape)
    values = Training(
        params={"w": np.stack([numbers, -numbers], -1), "b": numbers},
        train_loss=numbers[..., None] + np.arange(4),
        validation_loss=None,
        status=np.zeros(shape, np.int32),
        num_steps=np.full(shape, 4, np.int32),
    )
    axes = {
        "loss": (losses.squared, functools.partial(losses.huber, delta=0.1)),
        "learning_rate": RATES,
        "key": jax.random.split(jax.random.key(0), 2),
    }
    return Sweep(axes, values, ("loss",))


def test_a_table_has_every_leaf_under_its_path(atlas):
    table = atlas.to_xarray()
    assert set(table.data_vars) == {"params.w", "params.b", "train_loss", "status", "num_steps"}
    assert table["params.w"].dims == ("loss", "learning_rate", "key", "params.w_0")
    assert table["train_loss"].dims == ("loss", "learning_rate", "key", "train_loss_0")
    assert table["status"].dims == ("loss", "learning_rate", "key")
    assert table["status"].dtype == np.int32
    np.testing.assert_array_equal(table["train_loss"], atlas.values.train_loss)


def test_a_table_is_selected_by_name(atlas):
    one = atlas.to_xarray().sel(loss="huber(delta=0.1)", learning_rate=0.1, key=1)
    assert float(one["params.b"]) == atlas.values.params["b"][1, 1, 1]


def test_rows_are_one_for_each_member(atlas):
    frame = atlas.to_dataframe()
    assert list(frame.columns) == ["loss", "learning_rate", "key", "params.b", "status", "num_steps"]
    assert list(frame["loss"][:6]) == ["squared"] * 6
    assert list(frame["learning_rate"][:6]) == [0.01, 0.01, 0.1, 0.1, 1.0, 1.0]
    assert list(frame["params.b"]) == list(range(12))


def test_rows_need_a_scalar():
    sweep = Sweep({"rate": RATES}, {"history": np.zeros((3, 5))})
    with pytest.raises(ValueError, match=r"use to_xarray\(\)"):
        sweep.to_dataframe()


def test_rows_carry_the_numbers_of_points():
    frame = Sweep({"point": Point(RATES, np.zeros((3, 2)))}, np.arange(3)).to_dataframe()
    assert list(frame.columns) == ["point", "point.scale", "value"]
    assert list(frame["point.scale"]) == list(RATES)


def test_a_bare_array_is_the_value():
    assert list(Sweep({"rate": RATES}, np.zeros(3)).to_xarray().data_vars) == ["value"]


def test_a_leaf_named_like_an_axis_or_another_leafs_axis_is_renamed():
    later = {"rate": np.zeros(3), "w": np.zeros((3, 2)), "w_0": np.zeros(3)}
    table = Sweep({"rate": RATES}, later).to_xarray()
    assert {name: one.dims[1:] for name, one in table.data_vars.items()} == {"rate_": (), "w": ("w_0",), "w_0_": ()}
    earlier = OrderedDict(w_0=np.zeros(3), w=np.zeros((3, 2)))
    table = Sweep({"rate": RATES}, earlier).to_xarray()
    assert {name: one.dims[1:] for name, one in table.data_vars.items()} == {"w_0": (), "w_": ("w__0",)}


def test_leaves_have_names_that_are_never_twice():
    tree = {"a.b": 0, "a": {"b": 1}, "c/d e": (2, [3]), "__x": 4, "..": 5, "zarr": {"json": 6}, "β": None}
    names = leaf_names(tree)
    assert sorted(names) == sorted(["a.b", "a.b_", "c_d_e[0]", "c_d_e[1][0]", "value__x", "value..", "valuezarr.json"])
    assert leaf_names(Training({"w": 0}, 1, None, 2, 3)) == ["params.w", "train_loss", "status", "num_steps"]
    assert leaf_names(OrderedDict(b=0, a=1)) == ["b", "a"]
    assert leaf_names(np.zeros(3)) == ["value"]
    assert leaf_names({3: 1.0}) == ["value[3]"]


def test_variables_of_shapes_and_of_values_are_the_same():
    shapes = {"w": jax.ShapeDtypeStruct((2,), np.float32), "b": jax.ShapeDtypeStruct((), np.float32)}
    values = {"w": np.zeros((3, 4, 2)), "b": np.zeros((3, 4))}
    assert variables(shapes, []) == variables(values, [], leading=2)


class Opaque:
    pass


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ((16, 32), [16, 32]),
        ((0.5, 1), [0.5, 1.0]),
        ((np.int64(3), np.float32(0.5)), [3.0, 0.5]),
        ((True, False), [True, False]),
        (("sgd", "adam"), ["sgd", "adam"]),
        ((1, "all"), ["1", "all"]),
        ((True, 2), ["True", "2"]),
        ((None, 3), ["None", "3"]),
        (((16,), (32, 16), ()), ["(16,)", "(32, 16)", "()"]),
        (((max, (0.5, "a")), None), ["(max, (0.5, a))", "None"]),
        ((losses.squared, losses.absolute), ["squared", "absolute"]),
        (
            (functools.partial(losses.huber, delta=0.1), functools.partial(losses.huber, delta=1)),
            ["huber(delta=0.1)", "huber(delta=1)"],
        ),
        ((functools.partial(max, 0, key=abs), max), ["max(0, key=abs)", "max"]),
        ((Opaque, Training), ["Opaque", "Training"]),
        ((Opaque(), Point(1, 2)), ["Opaque", "Point"]),
        ((Opaque(), Opaque()), [0, 1]),
        ((16, 16), [0, 1]),
        ((10**30, 1), [0, 1]),
    ],
    ids=itertools.count(),
)
def test_static_values_are_labelled_readably(values, wanted):
    assert labels("name", values, static=True)["name"].tolist() == wanted


def test_axes_are_labelled_by_what_they_are():
    keys = jax.random.split(jax.random.key(0), 3)
    assert {name: found.tolist() for name, found in labels("rate", jnp.arange(3)).items()} == {"rate": [0, 1, 2]}
    assert labels("rate", [0.1, 3])["rate"].tolist() == [0.1, 3.0]
    assert labels("key", keys)["key"].tolist() == [0, 1, 2]
    assert list(labels("start", np.zeros((3, 2)))) == ["start"]
    point = labels("point", {"rate": RATES, "start": np.zeros((3, 2)), "key": keys})
    assert {name: found.tolist() for name, found in point.items()} == {"point": [0, 1, 2], "point.rate": RATES.tolist()}
    assert list(labels("pair", (RATES, {"w": RATES}))) == ["pair", "pair[0]", "pair[1].w"]
    assert labels("narrow", jnp.array([0.5, 1.0], jnp.bfloat16))["narrow"].dtype == np.float32


def test_points_are_counted():
    assert num_points([0.1, 0.2]) == 2
    assert num_points(jax.random.split(jax.random.key(0), 4)) == 4
