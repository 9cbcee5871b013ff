import dataclasses
import errno
import functools
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import traceback
import zlib
from collections import OrderedDict, namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray
import zarr

import jaxreg
from jaxreg import fit_many, losses, models, uncertainty
from jaxreg.data import Dataset
from jaxreg.store import load
from jaxreg.store._blocks import Division, Store
from jaxreg.store._opening import open_store
from jaxreg.training import Training

RATES = np.geomspace(1e-3, 1.0, 5, dtype=np.float32)
SCALES = np.arange(3)
SHAPES = {"history": jax.ShapeDtypeStruct((4,), np.float32), "status": jax.ShapeDtypeStruct((), np.int32)}
DIVISION = Division((), (5, 3), (2, 2))  # 3 × 2 blocks, those at the ends cut off
PLACES = list(itertools.product(range(3), range(2)))
MARKS = "@jaxreg/finished"


def opened(path, **changed) -> Store:
    """The store of a small sweep, or of one that differs in something."""
    asked = {
        "axes": {"rate": RATES, "scale": SCALES},
        "static": (),
        "shapes": SHAPES,
        "division": DIVISION,
        "fingerprint": {"jax": "0.10.2", "x64": "False", "program": "a"},
    }
    return open_store(path, **{**asked, **changed})


def whole() -> list[np.ndarray]:
    """The values of that sweep: leaves with the axes (rate, scale, …)."""
    history = np.random.default_rng(0).standard_normal((5, 3, 4), np.float32)
    return [history, np.arange(15, dtype=np.int32).reshape(5, 3)]


def long_ago(path) -> None:
    os.utime(path, (time.time() - 7200,) * 2)


def block(place, division=DIVISION, leaves=None) -> list[np.ndarray]:
    selection = division.selection(place)
    cut = selection[len(division.static) :]
    return [leaf[selection].reshape(*[s.stop - s.start for s in cut], *leaf.shape[len(selection) :]) for leaf in leaves]


def write_all(store, leaves=None, places=None) -> None:
    division, leaves = store.division, leaves or whole()
    for place in places or itertools.product(*map(range, (*division.static, *division.blocks))):
        store.write(place, block(place, division, leaves))


def assert_blocks(store, places=PLACES) -> None:
    for place in places:
        assert store.is_finished(place)
        for found, wanted in zip(store.read(place), block(place, leaves=whole()), strict=True):
            np.testing.assert_array_equal(found, wanted)


def shown(path) -> xarray.Dataset:
    """As anybody opens it; any warning is an error here."""
    with xarray.open_zarr(path) as table:
        return table.load()


def test_division_counts_blocks_and_cuts_the_last():
    division = Division((2,), (5, 3), (2, 2))
    assert division.blocks == (3, 2)
    assert division.num_blocks == 12
    assert division.selection((1, 2, 1)) == (slice(1, 2), slice(4, 5), slice(2, 3))


def test_a_half_finished_store_shows_what_is_there(tmp_path):
    store = opened(tmp_path / "new" / "store")
    write_all(store, places=[(0, 0), (2, 1)])
    assert [store.is_finished(place) for place in PLACES] == [True, False, False, False, False, True]
    assert_blocks(store, [(0, 0), (2, 1)])
    assert store.read((1, 0)) is None

    table = shown(store.path)
    assert dict(table.sizes) == {"rate": 5, "scale": 3, "history_0": 4}
    assert set(table.data_vars) == {"history", "status"}
    np.testing.assert_array_equal(table["rate"], RATES)
    np.testing.assert_array_equal(table["status"][:2, :2], [[0, 1], [3, 4]])
    assert (table["status"][2:4] == -1).all()
    assert table["history"][2:4].isnull().all()
    assert not table["history"][4, 2].isnull().any()

    sweep = load(store.path)
    assert list(sweep.axes) == ["rate", "scale"]
    assert sweep.static == ()
    xarray.testing.assert_identical(sweep.to_xarray(), table.drop_attrs())


def test_a_finished_store_shows_all(tmp_path):
    store = opened(tmp_path)  # an empty directory is as good as none
    write_all(store)
    leftover = store.path / "history" / "c" / "0.0123.partial"
    leftover.parent.mkdir(exist_ok=True)
    leftover.write_bytes(b"cut off")
    store.finish()
    assert leftover.exists()  # another process may still be writing it
    long_ago(leftover)
    store.finish()
    assert not leftover.exists()
    assert_blocks(opened(tmp_path))
    sweep = load(str(tmp_path))
    for found, wanted in zip(jax.tree.leaves(sweep.values), whole(), strict=True):
        np.testing.assert_array_equal(found, wanted)
        assert found.dtype == wanted.dtype
    for name, points in (("rate", RATES), ("scale", SCALES)):
        np.testing.assert_array_equal(sweep.axes[name], points)
        assert sweep.axes[name].dtype == points.dtype
    xarray.testing.assert_identical(sweep.to_xarray(), shown(tmp_path).drop_attrs())


def test_a_store_keeps_the_division_it_was_begun_with(tmp_path):
    opened(tmp_path, division=DIVISION)
    again = opened(tmp_path, division=Division((), (5, 3), (5, 3)))
    assert again.division == DIVISION


def test_static_axes_lead(tmp_path):
    small = functools.partial(losses.huber, delta=0.1)
    static = {"loss": (losses.squared, small), "batch_size": (16, 32), "level": (None, np.inf, (0.5, ("a", 1)))}
    division = Division((2, 2, 3), (5,), (3,))
    leaves = [np.arange(60.0).reshape(2, 2, 3, 5)]
    shapes = jax.ShapeDtypeStruct((), np.float64)
    again = functools.partial(
        opened, tmp_path, axes={**static, "rate": RATES}, static=tuple(static), shapes=shapes, division=division
    )
    write_all(again(), leaves)
    np.testing.assert_array_equal(again().read((1, 0, 2, 1)), [leaves[0][1, 0, 2, 3:]])
    sweep = load(tmp_path)
    assert sweep.static == ("loss", "batch_size", "level")
    assert sweep.axes["loss"] == ("squared", "huber(delta=0.1)")
    assert sweep.axes["batch_size"] == (16, 32)
    assert sweep.axes["level"] == (None, np.inf, (0.5, ("a", 1)))
    np.testing.assert_array_equal(sweep.values, leaves[0])
    one = shown(tmp_path)["value"].sel(loss="huber(delta=0.1)", batch_size=16)
    np.testing.assert_array_equal(one, leaves[0][1, 0])


DTYPES = ["bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))]
DTYPES += ["float16", "float32", "float64", "complex64", "complex128"]


def test_every_dtype_comes_back(tmp_path):
    shapes = {name: jax.ShapeDtypeStruct((2,), np.dtype(name)) for name in DTYPES}
    leaves = [np.arange(10).reshape(5, 2).astype(leaf.dtype) for leaf in jax.tree.leaves(shapes)]
    store = opened(tmp_path, axes={"rate": RATES}, shapes=shapes, division=Division((), (5,), (2,)))
    write_all(store, leaves, [(0,), (1,)])
    values = load(tmp_path).values
    for name, wanted in zip(sorted(DTYPES), leaves, strict=True):
        assert values[name].dtype == wanted.dtype
        np.testing.assert_array_equal(values[name][:4], wanted[:4])
        missing = {"f": np.isnan, "c": np.isnan, "i": lambda x: x == -1}.get(wanted.dtype.kind, lambda x: x == 0)
        assert missing(values[name][4:]).all()
    shown(tmp_path)


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "int4"])
def test_a_dtype_that_zarr_lacks_is_refused(tmp_path, name):
    dtype = jnp.dtype(name)
    with pytest.raises(ValueError, match=rf"the value 'params.w' is of dtype {name}, which Zarr does not have"):
        opened(tmp_path / "store", shapes={"params": {"w": jax.ShapeDtypeStruct((), dtype)}})
    with pytest.raises(ValueError, match=rf"the axis 'rate' is of dtype {name}"):
        opened(tmp_path / "store", axes={"rate": jnp.ones(5, dtype), "scale": SCALES})
    assert list(tmp_path.iterdir()) == []


class Mine(NamedTuple):
    a: object
    b: object


def test_the_structure_comes_back(tmp_path):
    leaf = jax.ShapeDtypeStruct((), np.float32)
    shapes = {
        "training": Training({"w": leaf, "b": leaf}, leaf, None, leaf, leaf),
        "mine": Mine(leaf, (leaf, [leaf, {}], ())),
        "a/b c": {3: leaf, 1: leaf},
        "ordered": OrderedDict(z=leaf, a=leaf),
        "__x": leaf,
    }
    count = len(jax.tree.leaves(shapes))
    wanted = jax.tree.unflatten(jax.tree.structure(shapes), [np.full(5, number, np.float32) for number in range(count)])
    store = opened(tmp_path, axes={"rate": RATES}, shapes=shapes, division=Division((), (5,), (2,)))
    write_all(store, jax.tree.leaves(wanted))
    found = load(tmp_path).values
    assert type(found["training"]) is Training
    assert type(found["mine"]).__name__ == "Mine"
    assert found["mine"]._fields == ("a", "b")
    assert list(found["ordered"]) == ["z", "a"]
    found["mine"], found["ordered"] = Mine(*found["mine"]), OrderedDict(found["ordered"])
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)
    assert len(shown(tmp_path).data_vars) == count


def test_a_class_that_has_other_fields_today_comes_back_with_those_of_then(tmp_path):
    opened(tmp_path, axes={"rate": RATES}, shapes=TRAINED, division=Division((), (5,), (2,)))
    root = tmp_path / "zarr.json"
    root.write_text(root.read_text().replace('"num_steps"', '"count"'))
    found = load(tmp_path).values
    assert type(found).__name__ == "Training"
    assert found._fields == (*Training._fields[:-1], "count")


OHM = models.ohm()


def fits_of_slopes(path):
    """Of five slopes, as a sweep puts them into a store."""
    x = np.arange(4.0, dtype=np.float32)
    return jaxreg.sweep(lambda rate: jaxreg.curve_fit(OHM, x, rate * x), {"rate": RATES}, store=path)


def test_fits_come_back_as_fits_without_their_data(tmp_path):
    wanted, found = fits_of_slopes(tmp_path).values, load(tmp_path).values
    assert type(found) is type(wanted) is jaxreg.Fit
    assert found.problem is wanted.problem is None
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.asarray, found), jax.tree.map(np.asarray, wanted))
    assert len(found) == 5
    np.testing.assert_allclose(found[3].params["resistance"], RATES[3], rtol=1e-6)
    x = np.arange(4.0, dtype=np.float32)
    one = found[3].with_problem(jaxreg.problem(OHM, x, RATES[3] * x, {"resistance": 1.0}))
    np.testing.assert_allclose(uncertainty.band(one, x).prediction, RATES[3] * x, rtol=1e-6)


def test_fits_in_a_store_of_version_one_are_fits(tmp_path):
    """A NamedTuple then, CurveFit, without the fields that have come since."""
    wanted = fits_of_slopes(tmp_path).values
    root = tmp_path / "zarr.json"
    described = json.loads(root.read_text())

    def as_then(node):
        if isinstance(node, dict) and node.get("kind") == "dataclass":
            fields = [name for name in node["fields"] if name not in ("chi2_prior", "problem")]
            parts = node["parts"][: len(fields)]
            return node | {"kind": "namedtuple", "name": "CurveFit", "fields": fields, "parts": parts}
        return {key: as_then(part) for key, part in node.items()} if isinstance(node, dict) else node

    then = as_then(described)
    assert then != described
    root.write_text(json.dumps(then))
    found = load(tmp_path).values
    assert type(found) is jaxreg.Fit
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.asarray, found), jax.tree.map(np.asarray, wanted))


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Registered:
    slope: object
    offset: object


def test_a_registered_class_comes_back_as_a_dict(tmp_path):
    leaf = jax.ShapeDtypeStruct((), np.float32)
    opened(tmp_path, shapes=[Registered(leaf, leaf)])
    (found,) = load(tmp_path).values
    assert list(found) == ["slope", "offset"]


def test_keys_and_pytrees_of_points_come_back(tmp_path):
    keys = jax.random.split(jax.random.key(3), 5)
    starts = {
        "start": Mine(np.arange(3.0), [np.ones((3, 2), np.float32)]),
        "key": jax.random.split(jax.random.key(0, impl="rbg"), 3),
    }
    tables = Dataset(np.ones((2, 4, 3), np.float32), np.zeros((2, 4), np.float32))
    axes = {"key": keys, "point": starts, "table": tables, "w": np.arange(4.0).reshape(2, 2), "rate": [0.1, 1]}
    shapes, division = jax.ShapeDtypeStruct((), np.float32), Division((), (5, 3, 2, 2, 2), (2, 2, 2, 2, 2))
    again = functools.partial(opened, tmp_path, axes=axes, shapes=shapes, division=division)
    write_all(again(), [np.zeros((5, 3, 2, 2, 2), np.float32)])
    again()
    found = load(tmp_path).axes
    assert list(found) == list(axes)
    assert str(jax.random.key_impl(found["point"]["key"])) == "rbg"
    assert jax.random.bits(found["key"][2]) == jax.random.bits(keys[2])
    np.testing.assert_array_equal(*(jax.random.key_data(one["point"]["key"]) for one in (found, axes)))
    np.testing.assert_array_equal(found["point"]["start"].b[0], starts["start"].b[0])
    assert type(found["table"]) is Dataset
    assert found["table"].weight is None
    assert found["table"].x.shape == (2, 4, 3)
    np.testing.assert_array_equal(found["w"], axes["w"])
    assert found["rate"].tolist() == [0.1, 1.0]
    table = shown(tmp_path)
    assert set(table.coords) == {"key", "point", "point.start.a", "table", "w", "rate"}
    assert table["point.start.a"].dims == ("point",)
    xarray.testing.assert_identical(load(tmp_path).to_xarray(), table.drop_attrs())


def test_a_history_of_no_steps_is_kept(tmp_path):
    shapes = {"history": jax.ShapeDtypeStruct((0,), np.float32), "loss": jax.ShapeDtypeStruct((), np.float32)}
    store = opened(tmp_path, shapes=shapes)
    write_all(store, [np.zeros((5, 3, 0), np.float32), np.ones((5, 3), np.float32)])
    assert store.read((2, 1))[0].shape == (1, 1, 0)
    assert load(tmp_path).values["history"].shape == (5, 3, 0)
    shown(tmp_path)


def test_blocks_may_lie_in_any_order_in_memory(tmp_path):
    store = opened(tmp_path)
    for place in PLACES:
        store.write(place, [np.asfortranarray(leaf) for leaf in block(place, leaves=whole())])
    assert_blocks(store)


def test_values_of_another_shape_or_dtype_are_refused(tmp_path):
    store = opened(tmp_path)
    history, status = block((0, 0), leaves=whole())
    with pytest.raises(
        ValueError, match=r"history of block \(0, 0\) must be float32 \(2, 2, 4\), got float32 \(2, 1, 4\)"
    ):
        store.write((0, 0), [history[:, :1], status])
    with pytest.raises(ValueError, match=r"status of block \(0, 0\) must be int32 \(2, 2\), got int64 \(2, 2\)"):
        store.write((0, 0), [history, status.astype(np.int64)])
    assert not store.is_finished((0, 0))


def test_fill_values_count_as_written(tmp_path):
    store = opened(tmp_path)
    fill = [np.full((2, 2, 4), np.nan, np.float32), np.full((2, 2), -1, np.int32)]
    store.write((0, 0), fill)
    assert opened(tmp_path).is_finished((0, 0))
    assert (tmp_path / "history" / "c" / "0" / "0" / "0").exists()
    np.testing.assert_array_equal(store.read((0, 0))[0], fill[0])


def test_threads_write_at_once(tmp_path):
    store = opened(tmp_path, division=Division((), (5, 3), (1, 1)))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda place: store.write(place, block(place, store.division, whole())), np.ndindex(5, 3)))
    for found, wanted in zip(jax.tree.leaves(load(tmp_path).values), whole(), strict=True):
        np.testing.assert_array_equal(found, wanted)


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


DAMAGES = {
    "deleted": lambda _: None,
    "emptied": lambda _: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "first byte": lambda content: flipped(content, 0),
    "last byte": lambda content: flipped(content, len(content) - 1),
    "too long": lambda content: content + b"\0",
    "garbage": lambda _: bytes(range(256)),
    # What the chunk's own checksum does not see: the whole chunk of another run.
    "other values": lambda content: (other := bytes(len(content) - 4)) + crc32c(other),
}


def crc32c(content: bytes) -> bytes:
    """Castagnoli's cyclic redundancy check, bit by bit, as it ends a chunk."""
    check = 2**32 - 1
    for byte in content:
        check ^= byte
        for _ in range(8):
            check = (check >> 1) ^ (0x82F63B78 if check & 1 else 0)
    return (check ^ (2**32 - 1)).to_bytes(4, "little")


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("file", ["history/c/0/1/0", "status/c/0/1", f"{MARKS}/c/0/1"])
def test_damage_is_found_and_repaired(tmp_path, file, damage):
    store = opened(tmp_path)
    write_all(store)
    content = damage((tmp_path / file).read_bytes())
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    store = opened(tmp_path)
    without_mark = file.startswith(MARKS) and damage in (
        DAMAGES["deleted"],
        DAMAGES["other values"],
    )  # as never written
    assert store.is_finished((0, 1)) is not without_mark
    assert store.read((0, 1)) is None
    assert_blocks(store, [place for place in PLACES if place != (0, 1)])
    if store.is_finished((0, 1)):
        with pytest.warns(
            RuntimeWarning,
            match=r"^1 of the 6 blocks in the store at .* are damaged and left out, the first at \(0, 1\)",
        ):
            values = load(tmp_path).values
    else:
        values = load(tmp_path).values
    assert np.isnan(values["history"][:2, 2:]).all()
    assert (values["status"][:2, 2:] == -1).all()
    np.testing.assert_array_equal(values["history"][2:], whole()[0][2:])
    store.write((0, 1), block((0, 1), leaves=whole()))
    assert_blocks(opened(tmp_path))


LABELLED = {"loss": ("huber", "squared"), "rate": RATES, "point": {"scale": np.arange(3.0), "start": np.ones((3, 2))}}


@pytest.mark.parametrize("damage", [DAMAGES["deleted"], DAMAGES["truncated"], DAMAGES["other values"], "directory"])
@pytest.mark.parametrize("name", ["rate", "@jaxreg/point.start", "loss", "point.scale"])
def test_damaged_points_and_labels_are_named_and_mended(tmp_path, name, damage):
    settings = {"axes": LABELLED, "static": ("loss",), "division": Division((2,), (5, 3), (2, 2))}
    opened(tmp_path, **settings)
    (file,) = (one for one in (tmp_path / name / "c").rglob("*") if one.is_file())
    content = file.read_bytes()
    file.unlink()
    if damage == "directory":
        file.mkdir()
    elif (spoilt := damage(content)) is not None:
        file.write_bytes(spoilt)
    if name in ("loss", "point.scale"):  # the words and numbers themselves are kept elsewhere too
        with pytest.warns(RuntimeWarning, match=rf"^the labels {name} in the store at .* are damaged"):
            assert load(tmp_path).axes["loss"] == LABELLED["loss"]
    else:
        with pytest.raises(ValueError, match=rf"^the points {name} in the store at .* are damaged: the same sweep"):
            load(tmp_path)
    if damage == "directory":
        with pytest.raises(ValueError, match=r"the store at .* cannot be written: .*Is a directory"):
            opened(tmp_path, **settings)
        file.rmdir()
    opened(tmp_path, **settings)
    assert file.read_bytes() == content
    jax.tree.map(np.testing.assert_array_equal, load(tmp_path).axes["point"], LABELLED["point"])


def test_a_directory_in_a_chunks_place_is_named(tmp_path):
    store = opened(tmp_path)
    (tmp_path / "status" / "c" / "0" / "0").mkdir(parents=True)
    assert store.read((0, 0)) is None
    with pytest.raises(OSError, match=r"Is a directory: .*/status/c/0/0; the finished blocks are kept"):
        write_all(store)


@pytest.mark.parametrize("path", ["", "s3://bucket/store", "file:///tmp/store", Path("gs://bucket"), 3, b"store"])
def test_what_is_no_directory_is_refused(path):
    for call in (opened, load):
        with pytest.raises(ValueError, match=r"store must be the path of a directory, got .*: mount what is elsewhere"):
            call(path)


def test_a_reader_of_zarr_is_told_of_damage(tmp_path):
    write_all(opened(tmp_path))
    chunk = tmp_path / "history" / "c" / "0" / "1" / "0"
    chunk.write_bytes(flipped(chunk.read_bytes(), 3))
    with pytest.raises(ValueError, match="checksum"):
        shown(tmp_path)


def test_the_mark_is_the_checksum_of_all_values(tmp_path):
    store = opened(tmp_path)
    write_all(store, places=[(2, 1)])
    leaves = block((2, 1), leaves=whole())
    assert zarr.open_array(tmp_path / MARKS, mode="r")[2, 1] == 1 + zlib.crc32(b"".join(map(bytes, leaves)))


TRAINED = Training({"w": SHAPES["history"]}, SHAPES["status"], None, SHAPES["status"], SHAPES["status"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"axes": {"scale": SCALES, "rate": RATES}}, "it has the axes rate, scale there and scale, rate here"),
        ({"axes": {"rate": RATES[:4], "scale": SCALES}}, "axis 'rate' has 5 points there and 4 here"),
        ({"axes": {"rate": 2 * RATES, "scale": SCALES}}, "axis 'rate' has other values"),
        (
            {"axes": {"rate": RATES.astype(float), "scale": SCALES}},
            "axis 'rate' has points of rate: float32 () there and rate: float64 () here",
        ),
        (
            {"axes": {"rate": jax.random.split(jax.random.key(0), 5), "scale": SCALES}},
            "axis 'rate' has points of rate: float32 () there and rate.value: threefry2x32 (2,) here",
        ),
        (
            {"axes": {"rate": range(5), "scale": SCALES}, "static": ("rate",)},
            "axis 'rate' is an axis of arrays there and static here",
        ),
        (
            {"shapes": {**SHAPES, "history": jax.ShapeDtypeStruct((8,), np.float32)}},
            "the value 'history' is float32 (4,) there and float32 (8,) here",
        ),
        (
            {"shapes": {**SHAPES, "status": jax.ShapeDtypeStruct((), np.int8)}},
            "the value 'status' is int32 () there and int8 () here",
        ),
        (
            {"shapes": {"loss": SHAPES["history"]}},
            "it has the values history, status there and loss here",
        ),
        (
            {"shapes": namedtuple("Pair", "history status")(**SHAPES)},
            "the values are in other tuples, lists or dicts",
        ),
        (
            {"fingerprint": {"jax": "0.10.3", "x64": "False", "program": "b"}},
            "it was computed with jax 0.10.2, this is 0.10.3",
        ),
        (
            {"fingerprint": {"jax": "0.10.3", "x64": "True", "program": "a"}},
            "it was computed with jax 0.10.2, this is 0.10.3; it was computed with x64 False, this is True",
        ),
        (
            {"fingerprint": {"jax": "0.10.2", "x64": "False", "program": "b"}},
            "the function or the data it closes over differ",
        ),
        (
            {"axes": {"rate": RATES[:2], "scale": 2 * SCALES}, "fingerprint": {}},
            "axis 'rate' has 5 points there and 2 here; axis 'scale' has other values; it was computed with jax "
            "0.10.2, this is None; it was computed with x64 False, this is None",
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_the_store_of_another_sweep_is_refused(tmp_path, changed, message):
    write_all(opened(tmp_path))
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the whole message is compared
        opened(tmp_path, **changed)
    assert str(raised.value) == (
        f"the store at {tmp_path} belongs to another study: {message}. Give another path, or delete it"
    )
    assert_blocks(opened(tmp_path))


@pytest.mark.parametrize(
    ("losses_here", "programs", "message"),
    [
        (
            (losses.squared, losses.absolute),
            "xy",
            "axis 'loss' has the values squared, huber there and squared, absolute",
        ),
        ((losses.squared, losses.huber), "xz", "the function or the data it closes over differ (static: loss=huber)."),
        ((losses.squared,), "x", "axis 'loss' has the values squared, huber there and squared here."),
    ],
)
def test_other_static_values_are_named(tmp_path, losses_here, programs, message):
    def begun(values, digests):
        opened(
            tmp_path,
            axes={"loss": values, "rate": RATES},
            static=("loss",),
            division=Division((len(values),), (5,), (5,)),
            fingerprint={
                f"program (loss={value.__name__})": digest for value, digest in zip(values, digests, strict=True)
            },
        )

    begun((losses.squared, losses.huber), "xy")
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - compared below
        begun(losses_here, programs)
    assert message in str(raised.value)


def test_other_static_tuples_and_their_programs_are_named(tmp_path):
    settings = {"axes": {"sizes": ((8,), (8, 4)), "rate": RATES}, "static": ("sizes",)}
    again = functools.partial(opened, tmp_path, **settings, division=Division((2,), (5,), (5,)))
    again(fingerprint={"program (sizes=(8,))": "x"})
    with pytest.raises(ValueError, match=r"the function or the data it closes over differ \(static: sizes=\(8,\)\)\."):
        again(fingerprint={"program (sizes=(8,))": "y"})


def test_a_store_of_fits_is_that_of_its_data(tmp_path):
    given = {
        "x": np.arange(1.0, 5),
        "y": 2 * np.arange(1.0, 9).reshape(2, 4),
        "p0": {"slope": 1.0},
        "sigma": np.ones(4),
    }
    given = jax.tree.map(np.float32, given)
    fitted = functools.partial(fit_many, lambda params, x: params["slope"] * x, store=tmp_path)
    fitted(**given)
    for changed in given:
        other = given | {changed: jax.tree.map(lambda leaf: leaf * 2, given[changed])}
        with pytest.raises(ValueError, match="belongs to another study: it was computed with data, starts and sigmas"):
            fitted(**other)
    fitted(**given)


def test_points_in_other_pytrees_are_named(tmp_path):
    opened(tmp_path, axes={"rate": RATES, "scale": (SCALES, SCALES)})
    with pytest.raises(ValueError, match="axis 'scale' has points in other tuples, lists or dicts"):
        opened(tmp_path, axes={"rate": RATES, "scale": [SCALES, SCALES]})


@pytest.mark.parametrize(
    "content", [None, b"", b"{}", b'{"attributes": {}}', b'{"attributes": {"jaxreg": 3}}', b"\xff"]
)
def test_anything_else_at_the_path_is_left_alone(tmp_path, content):
    other = tmp_path / ("notes.txt" if content is None else "zarr.json")
    other.write_bytes(content or b"")
    for call in (opened, load):
        with pytest.raises(ValueError, match=r"is neither a store of jaxreg nor empty: give another path"):
            call(tmp_path)
    with pytest.raises(ValueError, match="is neither a store of jaxreg nor empty"):
        opened(other)
    assert other.read_bytes() == (content or b"")
    assert list(tmp_path.iterdir()) == [other]


def test_a_format_of_the_future_is_refused(tmp_path):
    opened(tmp_path)
    root = tmp_path / "zarr.json"
    described = json.loads(root.read_text())
    described["attributes"]["jaxreg"]["format"] = 99
    root.write_text(json.dumps(described))
    with pytest.raises(ValueError, match=r"has format 99, this version of jaxreg has 1: give another path"):
        opened(tmp_path)


def test_a_path_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"the store at .*/store cannot be written: .*File exists: '.*/file'"):
        opened(tmp_path / "file" / "store")
    monkeypatch.setattr(Path, "mkdir", failing(errno.EROFS))
    with pytest.raises(ValueError, match=r"the store at .*/store cannot be written: .*Read-only file system"):
        opened(tmp_path / "store")


def test_a_store_that_may_only_be_read_is_named(tmp_path, monkeypatch):
    opened(tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ValueError, match=r"cannot be written: no permission; jaxreg.store.load reads it"):
        opened(tmp_path)
    load(tmp_path)
    monkeypatch.setattr(Path, "read_bytes", failing(errno.EACCES))
    with pytest.raises(ValueError, match=r"the store at .* cannot be read: Permission denied"):
        load(tmp_path)


def failing(code):
    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    return fail


def test_a_missing_store_is_named(tmp_path):
    with pytest.raises(ValueError, match="there is no store at"):
        load(tmp_path / "none")


def full_after(count, monkeypatch):
    """A disk that takes so many more files."""
    real, left = zarr.storage.LocalStore.set, itertools.count(count, -1)

    async def limited(self, key, value):
        if next(left) <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        await real(self, key, value)

    monkeypatch.setattr(zarr.storage.LocalStore, "set", limited)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_full_disk_keeps_what_is_finished(tmp_path, monkeypatch, count):
    store = opened(tmp_path)
    write_all(store, places=[(0, 0)])
    with monkeypatch.context() as patch:
        full_after(count, patch)
        with pytest.raises(OSError, match="No space left on device; the finished blocks are kept") as raised:
            write_all(store, places=[(1, 1)])
        assert raised.value.errno == errno.ENOSPC
        assert raised.value.filename == str(tmp_path)
    again = opened(tmp_path)
    assert not again.is_finished((1, 1))
    assert_blocks(again, [(0, 0)])
    write_all(again, places=[place for place in PLACES if place != (0, 0)])
    assert_blocks(again)


@pytest.mark.parametrize("count", [0, 3, 8])
def test_a_full_disk_leaves_no_half_begun_store(tmp_path, monkeypatch, count):
    with monkeypatch.context() as patch:
        full_after(count, patch)
        with pytest.raises(ValueError, match=r"cannot be written: .*No space left on device"):
            opened(tmp_path / "store")
    assert list(tmp_path.iterdir()) == []
    write_all(opened(tmp_path / "store"))


def test_the_store_is_as_open_as_other_directories(tmp_path):
    opened(tmp_path / "store")
    (tmp_path / "other").mkdir()
    assert (tmp_path / "store").stat().st_mode == (tmp_path / "other").stat().st_mode


def killed(path, when, how) -> None:
    """Begin a store and write block (1, 0), in a process killed while it writes the file of that number.

    Creation writes files too; ``when`` counts from the first of creation, or, if negative, of the block.
    """
    real, number = zarr.storage.LocalStore.set, itertools.count()

    async def deadly(self, key, value):
        if next(number) == when:
            if how == "half":  # what a file system may leave of a file that was not written beside and renamed
                target = self.root / key
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(value.to_bytes()[: len(value) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        await real(self, key, value)

    if when < 0:
        store = opened(path)
        write_all(store, places=[(0, 0)])
        when = -when - 1
        zarr.storage.LocalStore.set = deadly
        write_all(store, places=[(1, 0)])
    elif how == "rename":
        Path.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        opened(path)
    else:
        zarr.storage.LocalStore.set = deadly
        opened(path)


def killed_each(folder, cases) -> None:
    """``killed`` for each case in a fork of this process, which has imported everything; prints how each ended."""
    for number, case in enumerate(cases):
        process = os.fork()
        if process == 0:
            try:
                killed(Path(folder) / str(number), *case)
            except Exception:
                traceback.print_exc()
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))


def child(call: str) -> subprocess.Popen:
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_store; test_store.{call}"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_kill_at_any_file_loses_nothing_but_the_block(tmp_path):
    # Files 0 and 1 are the values, 2 is the mark.
    cases = [(0, "none"), (0, "rename"), (8, "half"), (-1, "half"), (-2, "half"), (-3, "half")]
    ended, errors = child(f"killed_each({str(tmp_path)!r}, {cases})").communicate(timeout=60)
    assert ended.split() == [str(-signal.SIGKILL)] * len(cases), errors
    for number, (when, _) in enumerate(cases):
        path = tmp_path / str(number)
        if when >= 0:
            assert not path.exists()
            (half,) = tmp_path.glob(f".{number}.*")
            long_ago(half)
        store = opened(path)
        assert list(tmp_path.glob(f".{number}.*")) == []
        if when < 0:
            assert_blocks(store, [(0, 0)])
        assert store.read((1, 0)) is None
        write_all(store, places=[place for place in PLACES if store.read(place) is None])
        assert_blocks(opened(path))


def begun_at_once(folder, count) -> None:
    """Several processes begin each of some stores at the same instant and write all of it; prints how each ended."""
    for number in range(count):
        start = time.time() + 0.05
        forks = []
        for _ in range(4):
            process = os.fork()
            if process == 0:
                try:
                    time.sleep(max(start - time.time(), 0))
                    store = opened(Path(folder) / str(number))
                    write_all(store)
                    store.finish()
                except BaseException:
                    traceback.print_exc()
                    os._exit(1)
                os._exit(0)
            forks.append(process)
        print(*(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in forks))


def test_whoever_begins_a_store_second_goes_on_with_the_first_ones(tmp_path):
    ended, errors = child(f"begun_at_once({str(tmp_path)!r}, 4)").communicate(timeout=60)
    assert ended.split() == ["0"] * 16, errors
    assert sorted(one.name for one in tmp_path.iterdir()) == list("0123")
    for number in range(4):
        assert_blocks(opened(tmp_path / str(number)))


MANY = Division((), (5, 3), (1, 1))


def written_for_ever(path) -> None:
    store = opened(path, division=MANY)
    while True:
        write_all(store)


def test_a_kill_at_random_is_gone_on_from(tmp_path):
    path = tmp_path / "store"
    process = child(f"written_for_ever({str(path)!r})")
    last = path / MARKS / "c" / "2" / "1"
    deadline = time.monotonic() + 60
    while not last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.kill()
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors
    store = opened(path, division=MANY)
    finished = [place for place in np.ndindex(5, 3) if store.read(place) is not None]
    assert len(finished) >= 7  # all before that mark but the one that was being written again
    write_all(store, places=[place for place in np.ndindex(5, 3) if place not in finished])
    for found, wanted in zip(jax.tree.leaves(load(path).values), whole(), strict=True):
        np.testing.assert_array_equal(found, wanted)
