"""Laws of sweeps, of their tables and stores: every member in its place, whatever the blocks."""

import itertools
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import zarr
from hypothesis import example, given, settings

import jaxreg
from jaxreg import _names, _points, _tables
from jaxreg.store import load
from jaxreg.store._blocks import Division
from jaxreg.store._opening import open_store

EACH = settings(max_examples=settings.default.max_examples // 3)  # an example may compile a program
DISK = settings(max_examples=settings.default.max_examples // 5)

LENGTHS = (1, 2, 3, 7)
KEYS = jax.random.split(jax.random.key(0), 7)
BITS = np.asarray(jax.random.key_data(KEYS))
RATES = np.array([3.0, -1.0, 0.5, 8.0, 0.0, 4.0, 2.0], np.float32)
POINTS = {"at": np.arange(14, dtype=np.float32).reshape(7, 2) * 16, "number": np.arange(7, dtype=np.int32) * 10}


def place(rate: Any = 1.0, point: Any = None, key: Any = None, scale: int = 1, name: str = "none") -> dict[str, Any]:
    """Arithmetic without rounding that tells where a member stands."""
    point = {"at": jnp.zeros(2), "number": jnp.int32(0)} if point is None else point
    bits = jnp.zeros(2, jnp.uint32) if key is None else jax.random.key_data(key)
    code = len(name) * 1000 + scale * (rate + point["number"])
    return {"code": jnp.float32(code), "at": (scale * point["at"],), "bits": bits, "curved": jnp.sin(rate + code)}


@st.composite
def grids(draw: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Axes in any order, of any lengths, and static values."""
    names = draw(st.permutations(["rate", "point", "key"]))[: draw(st.integers(1, 3))]
    whole = {"rate": RATES, "point": POINTS, "key": KEYS}
    axes = {}
    for name in names:
        length = draw(st.sampled_from(LENGTHS))
        axes[name] = jax.tree.map(lambda leaf, length=length: leaf[:length], whole[name])
    static = draw(st.sampled_from([{}, {"scale": [2, 1]}, {"name": ["a", "bcd"]}, {"name": ["xyz"], "scale": [2, 1]}]))
    return axes, static


def length_of(points: Any) -> int:
    return len(jax.tree.leaves(points)[0])


def expected(axes: dict[str, Any], static: dict[str, Any], indices: dict[str, int]) -> dict[str, Any]:
    """What ``place`` gives at a point, in NumPy."""
    rate = axes["rate"][indices["rate"]] if "rate" in axes else np.float32(1)
    number = axes["point"]["number"][indices["point"]] if "point" in axes else 0
    at = axes["point"]["at"][indices["point"]] if "point" in axes else np.zeros(2, np.float32)
    scale = static["scale"][indices["scale"]] if "scale" in static else 1
    name = static["name"][indices["name"]] if "name" in static else "none"
    bits = BITS[indices["key"]] if "key" in axes else np.zeros(2, np.uint32)
    return {"code": np.float32(len(name) * 1000 + scale * (rate + number)), "at": scale * at, "bits": bits}


def members(axes: dict[str, Any], static: dict[str, Any]) -> Iterator[dict[str, int]]:
    lengths = {name: len(values) for name, values in static.items()}
    lengths |= {name: length_of(points) for name, points in axes.items()}
    for indices in itertools.product(*map(range, lengths.values())):
        yield dict(zip(lengths, indices, strict=True))


chunk_sizes = st.none() | st.integers(1, 30)


@EACH
@given(grids(), chunk_sizes)
def test_every_member_is_the_function_at_its_point_in_its_place_and_under_its_labels(
    grid: Any, chunk_size: int | None
) -> None:
    axes, static = grid
    found = jaxreg.sweep(place, axes, static=static, chunk_size=chunk_size)
    assert list(found.axes) == [*static, *axes]
    assert found.static == tuple(static)
    shape = (*map(len, static.values()), *map(length_of, axes.values()))
    assert found.values["code"].shape == shape
    for indices in members(axes, static):
        where, wanted = tuple(indices.values()), expected(axes, static, indices)
        assert found.values["code"][where] == wanted["code"]
        np.testing.assert_array_equal(found.values["at"][0][where], wanted["at"])
        np.testing.assert_array_equal(found.values["bits"][where], wanted["bits"])
    table = found.to_xarray()
    for indices in itertools.islice(members(axes, static), 0, None, 7):
        labels: dict[str, Any] = {name: static[name][indices[name]] for name in static}
        labels |= {name: axes[name][indices[name]] if name == "rate" else indices[name] for name in axes}
        member, wanted = table.sel(labels), expected(axes, static, indices)
        assert member["code"].dims == ()
        assert float(member["code"]) == wanted["code"]
        np.testing.assert_array_equal(member["at[0]"], wanted["at"])
        np.testing.assert_array_equal(member["bits"], wanted["bits"])


@EACH
@given(grids(), st.permutations(["rate", "point", "key"]), chunk_sizes, chunk_sizes)
def test_neither_the_order_of_the_axes_nor_the_blocks_decide_a_value(
    grid: Any, order: Any, one: int | None, other: int | None
) -> None:
    axes, static = grid
    turned = {name: axes[name] for name in order if name in axes}
    found = jaxreg.sweep(place, axes, static=static, chunk_size=one)
    again = jaxreg.sweep(place, turned, static=static, chunk_size=other)
    axis_of = {name: number for number, name in enumerate(again.axes)}
    count = len(axis_of)

    def as_found(leaf: np.ndarray) -> np.ndarray:
        return leaf.transpose(*(axis_of[name] for name in found.axes), *range(count, leaf.ndim))

    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, as_found(b)), found.values, again.values)


@DISK
@given(st.data(), chunk_sizes, st.booleans())
def test_a_sweep_is_a_plain_loop(data: Any, chunk_size: int | None, keep: bool) -> None:
    """Up to four axes of any lengths, in any order of them; in a store, from a half of it, and loaded from there."""
    kinds = data.draw(st.lists(st.booleans(), min_size=1, max_size=4))  # keys or numbers
    lengths = [data.draw(st.integers(1, 5)) for _ in kinds]
    static = data.draw(st.sampled_from([{}, {"s": [3, 7]}]))

    def fn(**point: Any) -> Any:
        total = 0 * jnp.zeros((2,), jnp.uint32)
        for factor, name in enumerate(sorted(point), start=1):
            given = point[name]
            bits = jax.random.key_data(given) if name.startswith("k") else jnp.asarray(given, jnp.uint32)
            total = total * jnp.uint32(31) + jnp.uint32(factor) * bits
        return {"total": total}

    names = [f"{'k' if is_key else 'n'}{number}" for number, is_key in enumerate(kinds)]
    axes = {name: KEYS[:n] if name[0] == "k" else 5 + np.arange(n) for name, n in zip(names, lengths, strict=True)}
    wanted = np.zeros((*map(len, static.values()), *lengths, 2), np.uint32)
    for place in np.ndindex(*wanted.shape[:-1]):
        point = dict(zip([*static, *axes], place, strict=True))
        for factor, name in enumerate(sorted(point), start=1):
            index = point[name]
            bits = {"k": BITS[index % 7], "n": 5 + index, "s": [3, 7][index % 2]}[name[0]]
            wanted[place] = wanted[place] * np.uint32(31) + np.uint32(factor) * np.asarray(bits, np.uint32)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "store" if keep else None
        found = [jaxreg.sweep(fn, axes, static=static, chunk_size=chunk_size, store=path)]
        if path is not None:
            for mark in sorted((path / "@jaxreg/finished/c").rglob("*"))[::2]:
                if mark.is_file():
                    mark.unlink()
            found += [jaxreg.sweep(fn, axes, static=static, store=path), load(path)]
        for one in found:
            np.testing.assert_array_equal(one.values["total"], wanted)


def test_three_axes_lie_in_a_store_as_they_were_given() -> None:
    """Ordered by their lengths they are computed; of three the way there is not the way back."""
    for lengths, chunks in (((5, 1, 2), (3, 1, 1)), ((2, 5, 1), (1, 3, 1)), ((3, 2, 4), (1, 1, 4))):
        axes = {name: np.arange(length) for name, length in zip("abc", lengths, strict=True)}
        with tempfile.TemporaryDirectory() as path:
            for _ in range(2):
                found = jaxreg.sweep(lambda a, b, c: 100 * a + 10 * b + c, axes, chunk_size=4, store=path).values
                np.testing.assert_array_equal(
                    found, sum(np.meshgrid(*(axes[n] * f for n, f in FACTORS), indexing="ij"))
                )
            assert zarr.open_array(path + "/value", mode="r").chunks == chunks


FACTORS = (("a", 100), ("b", 10), ("c", 1))

# ---- stores ----

STORED = {"point": POINTS, "rate": RATES}
STATIC = {"scale": [2, 1]}


def stored(path: Path) -> jaxreg.Sweep:
    return jaxreg.sweep(place, STORED, static=STATIC, chunk_size=10, store=path)


def chunk_files(path: Path) -> list[Path]:
    """What a killed or damaged sweep may lack: chunks of its values, and the marks of finished blocks."""
    arrays = ("code", "at[0]", "bits", "curved", "@jaxreg/finished")
    return sorted(file for name in arrays for file in (path / name / "c").rglob("*") if file.is_file())


@DISK
@given(st.data())
def test_a_store_that_lost_or_spoilt_any_of_its_chunks_ends_with_the_same_bits(data: Any) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "store"
        whole = stored(path)
        files = chunk_files(path)
        assert len(files) == 5 * 2 * 7  # arrays, static values, blocks
        for number in data.draw(st.lists(st.integers(0, len(files) - 1), unique=True, max_size=8)):
            file = files[number]
            damage = data.draw(st.sampled_from(["lost", "cut", "changed"]))
            content = bytearray(file.read_bytes())
            file.unlink()
            if damage == "cut":
                file.write_bytes(content[: len(content) // 2])
            elif damage == "changed":
                content[data.draw(st.integers(0, len(content) - 1))] ^= 0x41
                file.write_bytes(content)
        for again in (stored(path), load(path)):
            jax.tree.map(np.testing.assert_array_equal, again.values, whole.values)


# Keys that a file system, a path or a table might trip over.
keys = st.text(st.sampled_from("a_/.*\n"), max_size=2) | st.sampled_from(
    ["..", ".", "c", "zarr.json", "__x", "@jaxreg", "value", "rate", "rate.0", "a_0", "code"]
)
shapes = st.tuples(st.lists(st.integers(1, 3), max_size=2).map(tuple), st.sampled_from(["float32", "int32", "bool"]))
leaf = shapes.map(lambda form: jax.ShapeDtypeStruct(form[0], np.dtype(form[1])))
shapeless = jax.ShapeDtypeStruct((), np.dtype("float32"))
trees = st.recursive(
    leaf,
    lambda inner: (
        st.dictionaries(keys, inner, min_size=1, max_size=4)
        | st.lists(inner, min_size=1, max_size=3)
        | st.tuples(inner, st.none())
        | st.dictionaries(st.integers(-2, 9), inner, min_size=1, max_size=2)
    ),
    max_leaves=6,
)
# Of a few letters, so that most have names that would be the same.
crowded = st.dictionaries(
    st.text("_./", max_size=2), leaf | st.dictionaries(st.text("_/", max_size=1), leaf), min_size=3
)


@example({"_": shapeless, "/": shapeless}, [])  # the second, once another, may not become "__"
@given(trees | crowded, st.lists(keys.filter(bool), unique=True, max_size=3))
def test_leaves_and_their_axes_have_names_that_a_file_can_have_and_never_twice(tree: Any, taken: list[str]) -> None:
    names = _names.leaf_names(tree)
    assert len(set(names)) == len(names) == len(jax.tree.leaves(tree))
    for name in names:
        assert set(name) & set('/\\*@: \n"') == set()
        assert name.strip(".")
        assert not name.startswith("__")
        assert name not in ("", "zarr.json")
    found = _tables.variables(tree, taken)
    used = [*taken, *(part for one in found for part in (one.name, *one.dims))]
    assert len(set(used)) == len(used)
    assert [len(one.dims) for one in found] == [len(leaf.shape) for leaf in jax.tree.leaves(tree)]


@DISK
@given(trees, st.data())
def test_a_store_gives_back_any_pytree_and_what_is_not_finished_as_missing(tree: Any, data: Any) -> None:
    grid = (data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3)))
    division = Division((2,), grid, (data.draw(st.integers(1, grid[0])), data.draw(st.integers(1, grid[1]))))
    axes = {"loss": ("huber", None), "rate": RATES[: grid[0]], "point": {"x": np.arange(grid[1])}}
    places = list(itertools.product(range(2), *map(range, division.blocks)))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    wanted = jax.tree.map(lambda leaf: random.integers(0, 2, (2, *grid, *leaf.shape)).astype(leaf.dtype), tree)
    done = np.zeros((2, *grid), bool)
    with tempfile.TemporaryDirectory() as path:
        store = open_store(path, axes=axes, static=("loss",), shapes=tree, division=division, fingerprint={})
        for block in data.draw(st.lists(st.sampled_from(places), unique=True)):
            where = division.selection(block)
            store.write(block, [leaf[where][0] for leaf in jax.tree.leaves(wanted)])
            done[where] = True
        found = load(path)
    assert jax.tree.structure(found.values) == jax.tree.structure(wanted)
    assert list(found.axes) == list(axes)
    assert found.axes["loss"] == axes["loss"]
    for got, leaf in zip(jax.tree.leaves(found.values), jax.tree.leaves(wanted), strict=True):
        missing = {"f": np.nan, "i": -1, "b": False}[leaf.dtype.kind]
        np.testing.assert_array_equal(got, np.where(done.reshape(*done.shape, *[1] * (leaf.ndim - 3)), leaf, missing))
        assert got.dtype == leaf.dtype


@given(st.lists(st.sampled_from(LENGTHS), min_size=1, max_size=3), st.data())
def test_blocks_cover_a_grid_once(grid: list[int], data: Any) -> None:
    block = tuple(data.draw(st.integers(1, length)) for length in grid)
    static = tuple(data.draw(st.lists(st.integers(1, 2), max_size=2)))
    division = Division(static, tuple(grid), block)
    count = np.zeros((*static, *grid), int)
    for indices in itertools.product(*map(range, (*static, *division.blocks))):
        count[division.selection(indices)] += 1
    assert (count == 1).all()
    assert division.num_blocks == math.prod((*static, *division.blocks))


@given(st.data())
def test_axes_have_a_label_for_each_point_and_static_ones_never_twice(data: Any) -> None:
    values = st.one_of(
        st.lists(st.integers(-3, 3), min_size=1),
        st.lists(st.sampled_from([1, 1.0, True, "1", None, "None", math.nan, 10**30, max, min]), min_size=1),
    )
    points = tuple(data.draw(values))
    found = _points.labels("name", points, static=True)["name"]
    assert len(found) == len(np.unique(found)) == len(points)
    assert found.dtype != object
