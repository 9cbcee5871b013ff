"""Sweeps: every combination, in the order given, whatever the blocks, threads and devices."""

import functools
import gc
import json
import os
import signal
import subprocess
import sys
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

import jaxreg
from jaxreg import _blocks, losses, models
from jaxreg.sweeps import _programs, _study, _tiles, _values

RATES = np.geomspace(0.01, 0.5, 5, dtype=np.float32)
KEYS = jax.random.split(jax.random.key(7), 3)


def product(a, b):
    return {"sum": a + 10 * b, "both": jnp.stack([a, b]), "whole": jnp.int32(a)}


def test_every_combination_in_the_order_given():
    a, b = np.arange(4.0, dtype=np.float32), np.arange(7.0, dtype=np.float32)
    for first, second in (("a", "b"), ("b", "a")):
        points = {"a": a, "b": b}
        result = jaxreg.sweep(product, {first: points[first], second: points[second]})
        assert list(result.axes) == [first, second]
        grid = dict(zip((first, second), np.meshgrid(points[first], points[second], indexing="ij"), strict=True))
        np.testing.assert_array_equal(result.values["sum"], grid["a"] + 10 * grid["b"])
        np.testing.assert_array_equal(result.values["both"], np.stack([grid["a"], grid["b"]], axis=-1))
        assert result.values["whole"].dtype == np.int32


@pytest.mark.parametrize("chunk_size", [None, 1, 3, 10, 64, 10_000])
def test_chunks_and_padding_are_invisible(chunk_size):
    axes = {"a": np.arange(11.0, dtype=np.float32), "b": np.arange(13.0, dtype=np.float32)}
    result = jaxreg.sweep(product, axes, chunk_size=chunk_size)
    np.testing.assert_array_equal(result.values["sum"], axes["a"][:, None] + 10 * axes["b"])


def test_static_axes_lead_and_are_programs_of_their_own():
    def fn(x, power, scale):
        assert isinstance(power, int)
        return scale(x) ** power

    result = jaxreg.sweep(fn, {"x": [1.0, 2.0, 3.0]}, static={"power": [1, 2], "scale": [jnp.negative, jnp.exp2]})
    assert list(result.axes) == ["power", "scale", "x"]
    assert result.static == ("power", "scale")
    x = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(result.values, [[-x, 2**x], [x**2, 4**x]], rtol=1e-6)


def test_an_axis_may_be_a_list_of_points_of_any_pytree():
    points = {"slope": jnp.array([1.0, 2.0]), "at": [jnp.array([[1.0, 2.0], [3.0, 4.0]])], "n": np.array([1, 2])}

    def fn(point, shift):
        return point["slope"] * point["at"][0].sum() + point["n"] + shift

    result = jaxreg.sweep(fn, {"point": points, "shift": (0, 100)})
    np.testing.assert_array_equal(result.values, [[4.0, 104.0], [16.0, 116.0]])


def test_fits_in_a_sweep_keep_no_data_and_take_them_again():
    x = np.linspace(0.0, 1.0, 6, dtype=np.float32)
    start = {"a": 1.0}

    def fitted(slope):
        return {"fit": jaxreg.curve_fit(lambda params, x: params["a"] * x, x, slope * x, start), "slope": slope}

    found = jaxreg.sweep(fitted, {"slope": [1.0, 2.0, 3.0]}).values["fit"]
    assert type(found) is jaxreg.Fit
    assert found.problem is None
    np.testing.assert_allclose(found.params["a"], [1, 2, 3], rtol=1e-5)
    problem = jaxreg.problem(lambda params, x: params["a"] * x, x, 2 * x, start)
    band = jaxreg.uncertainty.band(found[1].with_problem(problem), x)
    np.testing.assert_allclose(band.prediction, 2 * x, rtol=1e-5)


def test_a_members_random_numbers_depend_on_its_key_alone():
    def fn(key, scale):
        return scale[None] * jax.random.normal(key, (2,))

    one = jnp.stack([jax.random.normal(key, (2,)) for key in KEYS])
    for chunk_size in (None, 1, 2):
        result = jaxreg.sweep(fn, {"scale": RATES, "key": KEYS}, chunk_size=chunk_size)
        np.testing.assert_allclose(result.values, RATES[:, None, None] * np.asarray(one), rtol=1e-6)
    other = jax.random.key(3, impl="rbg")[None]
    np.testing.assert_allclose(
        jaxreg.sweep(fn, {"key": other, "scale": [1.0]}).values[0, 0], jax.random.normal(other[0], (2,)), rtol=1e-6
    )


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_keys_of_xlas_generator_draw_for_their_own_member_alone(impl):
    """``vmap`` draws for all lanes from the first one's key, also where the function makes its keys itself."""
    keys, offsets = jax.random.split(jax.random.key(3, impl=impl), 3), np.arange(40)

    def fn(key, offset):
        made = jax.random.fold_in(jax.random.key(1, impl=impl), offset % 2)
        return jax.random.bits(key, (2,)), jax.random.bits(made), jax.random.bits(KEYS[0])

    drawn = [jax.random.bits(key, (2,)) for key in keys]
    made = [jax.random.bits(jax.random.fold_in(jax.random.key(1, impl=impl), odd)) for odd in (0, 1)]
    for chunk_size in (1, 50):
        of_key, of_made, shared = jaxreg.sweep(fn, {"key": keys, "offset": offsets}, chunk_size=chunk_size).values
        np.testing.assert_array_equal(of_key, np.broadcast_to(np.stack(drawn)[:, None], (3, 40, 2)))
        np.testing.assert_array_equal(of_made, np.broadcast_to(np.asarray(made)[offsets % 2], (3, 40)))
        assert (shared == jax.random.bits(KEYS[0])).all()


def test_keys_of_xlas_generator_that_all_members_share_take_no_time():
    key = jax.random.key(3, impl="rbg")
    study = _study.study_of(lambda x: x * jax.random.normal(key), {"x": np.arange(400.0)}, None)
    block = (400,)
    assert _programs.block_program(study.fn, (), study.forms, block, tuple(jax.devices()[:1]), False).tile == block


TAKEN = {
    "big-endian": (np.arange(3, dtype=">f8"), [0, 2, 4]),
    "big-endian integers": (np.arange(3, dtype=">i2"), [0, 2, 4]),
    "list of int64": ([np.int64(3), np.int64(4)], [6, 8]),
    "list of scalars": (list(jnp.arange(3.0)), [0, 2, 4]),
    "list of bfloat16": ([jnp.bfloat16(1), jnp.bfloat16(2)], [2, 4]),
    "complex": ([1j, 2], [2j, 4]),
    "0-d arrays": ((np.array(1.0), 2), [2, 4]),
}


@pytest.mark.parametrize("case", TAKEN)
def test_numbers_of_any_kind_are_points(case):
    points, wanted = TAKEN[case]
    np.testing.assert_array_equal(jaxreg.sweep(lambda x: 2 * x, {"x": points}).values, wanted)


def test_a_list_of_keys_and_a_data_set_of_another_byte_order_are_points():
    found = jaxreg.sweep(lambda key: jax.random.bits(key), {"key": list(KEYS)})
    np.testing.assert_array_equal(found.values, jax.vmap(jax.random.bits)(KEYS))
    assert found.to_xarray()["key"].values.tolist() == [0, 1, 2]
    rows = {"x": np.arange(6, dtype=">f4").reshape(2, 3), "y": np.array([1, 2], ">u4")}
    np.testing.assert_array_equal(
        jaxreg.sweep(lambda rows: rows["x"].sum() + rows["y"], {"rows": rows}).values, [4, 14]
    )


@pytest.fixture(scope="module")
def train_run(line):
    def run(learning_rate, key=KEYS[0], loss=losses.squared):
        return jaxreg.train(
            models.linear(2), loss, line, optimizer=optax.sgd(learning_rate), epochs=2, batch_size=100, key=key
        )

    return run


@pytest.mark.parametrize("loss", [losses.squared, losses.huber])
def test_a_sweep_of_training_is_a_nested_vmap(train_run, loss):
    rates = np.geomspace(0.01, 0.5, 70, dtype=np.float32)
    found = jaxreg.sweep(train_run, {"learning_rate": rates, "key": KEYS}, static={"loss": [loss]}).values
    over_keys = jax.vmap(functools.partial(train_run, loss=loss), (None, 0))
    plain = jax.jit(jax.vmap(over_keys, (0, None)))(rates, KEYS)
    assert isinstance(found, jaxreg.Training)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, rtol=2e-5, atol=2e-6), found, plain)


@pytest.mark.parametrize(
    ("loss", "diverging"), [(losses.squared, [1e30, np.inf, 1e38]), (losses.huber, [np.nan, np.inf, -np.inf])]
)
def test_a_member_that_diverges_changes_no_bit_of_the_others(train_run, loss, diverging):
    rates = np.geomspace(0.01, 0.5, 200, dtype=np.float32)
    wild = rates.copy()
    wild[[0, 77, 199]] = diverging
    calm, found = (
        jaxreg.sweep(train_run, {"learning_rate": axis}, static={"loss": [loss]}).values for axis in (rates, wild)
    )
    ended = np.flatnonzero(found.status[0])
    np.testing.assert_array_equal(ended, [0, 77, 199])
    assert (found.num_steps[0, ended] < 20).all()
    assert np.isfinite(found.params["w"]).all()
    others = np.delete(np.arange(200), ended)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0, others], b[0, others]), found, calm)


def test_gradients_go_through_a_sweeps_training(train_run):
    def slope(learning_rate):
        return jax.grad(lambda rate: train_run(rate, loss=losses.huber).train_loss[-1])(learning_rate)

    rates = np.geomspace(0.01, 0.3, 100, dtype=np.float32)
    plain = jax.jit(jax.vmap(slope))(rates)
    np.testing.assert_allclose(jaxreg.sweep(slope, {"learning_rate": rates}).values, plain, rtol=1e-3, atol=1e-6)


def test_the_second_call_does_not_trace():
    traced = []

    def fn(x, y):
        traced.append(1)
        return x * y

    def call(seed):
        jaxreg.sweep(fn, {"x": np.random.default_rng(seed).normal(size=600), "y": RATES})
        return len(traced)

    assert call(0) == call(1) == call(2)


def test_what_depends_on_no_axis_is_computed_before_the_blocks():
    """And what depends on a key once for all rates: in no inner loop is anything sorted."""

    def fn(key, rate):
        order = jax.random.permutation(jax.random.key(0), 50) + jax.random.permutation(key, 50)
        return order * rate

    study = _study.study_of(fn, {"key": KEYS, "rate": np.arange(10.0)}, None)
    tile = _tiles.mapped(_study.member_of(fn, (), study.forms), [form.draws for form in study.forms])
    block = _tiles.block_of(tile, [form.leaves(length) for form, length in zip(study.forms, (1, 5), strict=True)])
    shapes = [form.leaves(parts, length) for form, parts, length in zip(study.forms, (3, 2), (1, 5), strict=True)]
    shared = jax.make_jaxpr(block.shared)()
    program = jax.make_jaxpr(block.run)(jax.eval_shape(block.shared), *shapes)
    assert str(shared).count(" sort[") == 1
    (over_keys,) = [equation for equation in program.jaxpr.eqns if equation.primitive.name == "scan"]
    body = over_keys.params["jaxpr"].jaxpr
    (over_rates,) = [equation for equation in body.eqns if equation.primitive.name == "scan"]
    assert str(body).count(" sort[") == 1
    assert " sort[" not in str(over_rates.params["jaxpr"])


def test_small_inner_loops_make_narrow_tiles(train_run, monkeypatch):
    rates = np.geomspace(0.01, 0.5, 2000, dtype=np.float32)
    device = (jax.local_devices()[0],)
    # The choice is what is tested, so nothing is compiled, and nothing kept.
    monkeypatch.setattr(_programs, "_compiled", lambda *given: _programs.Program(None, given[3], 0, True))

    def tile(loss):
        study = _study.study_of(train_run, {"learning_rate": rates}, {"loss": [loss]})
        chosen = _programs.block_program.__wrapped__
        return chosen(train_run, study.choices[0], study.forms, (2000,), device, False).tile

    assert tile(losses.huber) == (288,)  # 7 · 288 ≥ 2000, in registers of 16
    assert tile(losses.squared) == (2000,)


@pytest.mark.usefixtures("x64")
def test_double_precision_reaches_the_threads():
    values = jaxreg.sweep(lambda x: x / 3, {"x": np.arange(2000.0)}, chunk_size=500).values
    np.testing.assert_allclose(values, np.arange(2000.0) / 3, rtol=1e-15)  # XLA multiplies by the rounded third


# In a process of its own, that has eight devices and compiles as users do.
ON_EIGHT = """
import jax, jax.numpy as jnp, numpy as np, optax, jaxreg
from jax.sharding import Mesh
from jaxreg import data, losses, models
rows = data.linear(jax.random.key(0), 100, jnp.array([2.0, -3.4]), 4.2, noise=0.01)
def run(learning_rate, key, loss):
    optimizer = optax.sgd(learning_rate)
    return jaxreg.train(models.linear(2), loss, rows, optimizer=optimizer, epochs=1, batch_size=32, key=key)
def values(rates, chunk_size, mesh=None):
    axes = {"learning_rate": rates, "key": jax.random.split(jax.random.key(1), 2)}
    static = {"loss": [losses.squared, losses.huber]}
    return jaxreg.sweep(run, axes, static=static, chunk_size=chunk_size, mesh=mesh).values
assert len(jax.devices()) == 8
rates = np.geomspace(1e-3, 3.0, 501, dtype=np.float32)
eight = values(rates, 150)
jax.tree.map(np.testing.assert_array_equal, eight, values(rates, 10_000, Mesh(np.array(jax.devices()[:1]), ("one",))))
wild = rates.copy()
wild[[0, 77, 500]] = np.inf, np.nan, 1e38
wild = values(wild, 150)
assert set(np.argwhere(wild.status)[:, 1]) == {0, 77, 500}
others = np.delete(np.arange(501), [0, 77, 500])
jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[:, others], b[:, others]), wild, eight)
matrix = jax.random.normal(jax.random.key(2), (1000, 3))  # large enough for LAPACK to wait for the others' threads
jaxreg.sweep(lambda scale: jnp.linalg.qr(matrix + scale)[1], {"scale": np.linspace(1, 2, 300)})
"""


def test_eight_devices_and_one_give_equal_bits_whatever_the_others_do():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", ON_EIGHT], check=True, env=os.environ | flags)


def test_a_mesh_says_where():
    devices = jax.devices()[:1]
    for mesh in (Mesh(np.array(devices), ("any",)), devices, 2 * devices):
        np.testing.assert_array_equal(jaxreg.sweep(lambda x: 2 * x, {"x": RATES}, mesh=mesh).values, 2 * RATES)
    with pytest.raises(ValueError, match=r"mesh must have a device of this process \(0\), got cpu"):
        jaxreg.sweep(lambda x: 2 * x, {"x": RATES}, mesh="cpu")
    others = SimpleNamespace(devices=np.array([SimpleNamespace(process_index=1)]))
    with pytest.raises(ValueError, match=r"mesh must have a device of this process \(0\), got namespace"):
        jaxreg.sweep(lambda x: 2 * x, {"x": RATES}, mesh=others)


BAD = {
    "no axes": ({}, {}, "axes must map names to points"),
    "a list": ([1.0], {}, "axes must map names to points"),
    "empty axis": ({"x": np.zeros(0)}, {}, "axis 'x' has no points"),
    "empty list": ({"x": []}, {}, "axis 'x' has no points"),
    "a scalar": ({"x": 0.1}, {}, r"axis 'x' must have its points along a leading axis, got shape \(\)"),
    "words": (
        {"x": ["a", "b"]},
        {},
        r"axis 'x'\[0\] must hold numbers or random keys, got 'a': words belong in static=",
    ),
    "array of words": ({"x": np.array(["a"])}, {}, "axis 'x' must hold numbers or random keys, got ndarray of <U1"),
    "objects": ({"x": np.array([1.0, None])}, {}, r"got ndarray of object: convert numbers with astype\(float\)"),
    "longdouble": ({"x": np.ones(2, np.longdouble)}, {}, r"got ndarray of float\d+: convert numbers with astype"),
    "dates": ({"x": np.array(["2020-01-01"], "M8[D]")}, {}, r"got ndarray of datetime64\[D\]: convert numbers"),
    "masked": ({"x": np.ma.masked_array([1.0, 2.0], [0, 1], ">f8")}, {}, "got MaskedArray of float64: .* fill masked"),
    "unlike keys": ({"x": [KEYS[0], jax.random.key(0, impl="rbg")]}, {}, r"(?s)shape \(\) .*: a list needs jnp.stack"),
    "too large": ({"x": [1e300, 1.0]}, {}, "axis 'x' has numbers beyond float32: turn jax_enable_x64 on"),
    "too many": (
        {f"x{index}": [1.0] for index in range(70)},
        {},
        "axes and static must be at most 16 together, got 70",
    ),
    "no store": ({"x": RATES}, {"store": ""}, "store must be the path of a directory, got ''"),
    "store elsewhere": ({"x": RATES}, {"store": "s3://bucket/x"}, "a directory, got 's3://bucket/x': mount what is"),
    "uneven": ({"x": {"a": np.zeros(2), "b": np.zeros(3)}}, {}, r"axis 'x'\['b'\] must have 2 points"),
    "unknown name": ({"x": RATES, "rate": RATES}, {}, "fn takes x, n: it cannot be swept over rate"),
    "missing name": ({"n": RATES}, {}, "fn needs x: put it in axes or static"),
    "static words": ({"x": RATES}, {"static": {"n": "abc"}}, r"static\['n'\] must be a list"),
    "static empty": ({"x": RATES}, {"static": {"n": []}}, r"static\['n'\] must be a list of at least one value"),
    "static array": ({"x": RATES}, {"static": {"n": [np.zeros(2)]}}, "hashable values, got ndarray: arrays belong"),
    "static list": ({"x": RATES}, {"static": ["n"]}, "static must map names to lists"),
    "twice": ({"x": RATES, "n": RATES}, {"static": {"n": [1]}}, "n cannot be both in axes and in static"),
    "shape by value": ({"x": RATES, "n": [1, 2]}, {}, "put that name in static= instead of axes"),
    "shapes differ": ({"x": RATES}, {"static": {"n": [1, 2]}}, r"is float32\[1\] for n=1 and float32\[2\] for n=2"),
    "chunk_size": ({"x": RATES}, {"chunk_size": 0}, "chunk_size must be at least 1, got 0"),
}


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_before_anything_is_compiled(case, monkeypatch):
    def fn(x, n=1):
        return x * jnp.ones(n)

    monkeypatch.setattr(_values, "block_program", None)
    axes, settings, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        jaxreg.sweep(fn, axes, **settings)


class Unhashable:
    __hash__ = None

    def __call__(self, x):
        return x


def test_functions_that_cannot_be_swept():
    with pytest.raises(ValueError, match="fn must be a function, got int"):
        jaxreg.sweep(3, {"x": RATES})
    np.testing.assert_array_equal(jaxreg.sweep(dict, {"x": RATES}).values["x"], RATES)  # it does not tell its names
    with pytest.raises(ValueError, match="fn must be hashable, as functions are, got Unhashable"):
        jaxreg.sweep(Unhashable(), {"x": RATES})
    with pytest.raises(ValueError, match="must return an array"):
        jaxreg.sweep(lambda **_: (), {"x": RATES})
    with pytest.raises(ValueError, match=r"result\['k'\] is a random key"):
        jaxreg.sweep(lambda **_: {"k": jax.random.key(0)}, {"x": RATES})
    with pytest.raises(ValueError, match=r"fn returns .* for n=1 and .* for n=2"):
        jaxreg.sweep(lambda x, n: (x,) * n, {"x": RATES}, static={"n": [1, 2]})
    with pytest.raises(TypeError, match="unsupported operand"):  # a mistake of fn's own stays what it is
        jaxreg.sweep(lambda x: x + "a", {"x": RATES})


def test_a_traced_setting_of_train_says_static(line):
    def run(rate, **setting):
        settings = {"epochs": 1, "batch_size": 100, **setting}
        optimizer = optax.sgd(rate)
        return jaxreg.train(models.linear(2), losses.squared, line, optimizer=optimizer, key=KEYS[0], **settings).params

    for name in ("batch_size", "epochs"):
        with pytest.raises(ValueError, match=rf"{name} fixes shapes.*static="):
            jaxreg.sweep(run, {"rate": RATES, name: [1, 2]})
    result = jaxreg.sweep(run, {"rate": RATES}, static={"batch_size": [500], "epochs": [2]})
    assert result.values["w"].shape == (1, 1, 5, 2)


def test_a_block_too_large_names_chunk_size(monkeypatch):
    with pytest.raises(MemoryError, match=r"a block of 5 members does not fit in memory .*: give a smaller chunk_size"):
        jaxreg.sweep(lambda key: jnp.sort(jax.random.uniform(key, 2**30)).sum(), {"key": jax.random.split(KEYS[0], 5)})
    with pytest.raises(MemoryError, match=r"the values of 5 members take .* GiB: return less from fn"):
        jaxreg.sweep(lambda **_: jnp.zeros(2**50), {"x": RATES})

    def exhausted(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 byte")

    program = _programs.Program(exhausted, (5,), 0, True)
    monkeypatch.setattr(_values, "block_program", lambda *_: program)
    with pytest.raises(MemoryError, match=r"does not fit in memory: give a smaller chunk_size"):
        jaxreg.sweep(lambda x: x, {"x": RATES})

    def broken(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(_values, "block_program", lambda *_: program._replace(compiled=broken))
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        jaxreg.sweep(lambda x: x, {"x": RATES})


def test_large_temporary_arrays_make_smaller_tiles(monkeypatch):
    compiled, tiles = _programs._compiled, []
    monkeypatch.setattr(_programs, "_WORKING_SET", 2**12)
    monkeypatch.setattr(_programs, "_compiled", lambda *given: tiles.append(given[3]) or compiled(*given))
    points = np.linspace(1, 2, 300, dtype=np.float32)
    values = jaxreg.sweep(lambda x: jnp.sort(x * jnp.arange(-20.0, 20.0)), {"x": points}, chunk_size=300).values
    np.testing.assert_allclose(values, points[:, None] * np.arange(-20.0, 20.0, dtype=np.float32))
    assert tiles == [(300,), (60,)]  # 300 in five parts of at least 64 or so


def test_the_bar_counts_members_and_those_that_diverged(capsys):
    def run(rate):
        ended = jnp.where(rate < 0, jaxreg.Status.MAX_STEPS, jaxreg.Status.OK)  # which is another end
        return {"status": jnp.where(rate > 1, jaxreg.Status.DIVERGED, ended)}

    rates = np.array([0.1] * 299 + [-1] + [1e30] * 4, np.float32)
    jaxreg.sweep(run, {"rate": rates}, progress=True)
    drawn = capsys.readouterr().err
    assert "304/304" in drawn
    assert "4 diverged" in drawn
    assert "members/s" in drawn
    jaxreg.sweep(run, {"rate": rates})  # stderr is no terminal here
    jaxreg.sweep(run, {"rate": rates}, progress=False)
    assert capsys.readouterr().err == ""


def test_a_finished_store_is_read_and_nothing_computed(tmp_path, capsys, monkeypatch):
    def run(rate):
        return {"status": jnp.where(rate > 1, jaxreg.Status.DIVERGED, jaxreg.Status.OK)}

    def swept():
        advance, told = _blocks.Progress.advance, []
        with monkeypatch.context() as patch:
            patch.setattr(_blocks.Progress, "advance", lambda *g, **k: told.append(k) or advance(*g, **k))
            values = jaxreg.sweep(run, {"rate": RATES * 10}, chunk_size=2, store=tmp_path, progress=True).values
        return values["status"], told, capsys.readouterr().err

    half = tmp_path / "status" / "0.1.partial"
    status, told, drawn = swept()
    half.write_bytes(b"")
    os.utime(half, (0, 0))
    monkeypatch.setattr(_values, "block_program", None)
    again, told_again, drawn_again = swept()
    np.testing.assert_array_equal(again, status)
    assert (told, told_again) == ([{}] * 3, [{"restored": True}] * 3)
    assert all("2 diverged" in one and "5.00/5.00" in one for one in (drawn, drawn_again))
    assert not half.exists()


def test_no_more_blocks_are_computed_at_once_than_memory_holds(monkeypatch):
    program, run, asked = _programs.block_program, _blocks.run, []
    monkeypatch.setattr(_values, "block_program", lambda *given: program(*given)._replace(num_bytes=100))
    monkeypatch.setattr(_blocks, "memory_of", lambda _: 350)
    monkeypatch.setattr(_blocks, "workers_on", lambda _: 8)
    monkeypatch.setattr(_blocks, "run", lambda *g, **k: asked.append(k["workers"]) or run(*g, **k))
    for fn in (jnp.sin, lambda x: jnp.linalg.qr(x * jnp.ones((9, 2)))[1].sum()):  # LAPACK's wait for each other
        jaxreg.sweep(lambda x, fn: fn(x), {"x": np.arange(100.0)}, static={"fn": [fn]}, chunk_size=10)
    assert asked == [3, 1]


def test_the_bar_does_not_count_what_was_restored_for_its_speed(capsys):
    with _blocks.Progress(10, True, stored=True) as bar:
        bar.advance(7, 0, restored=True)
        assert (bar._bar.initial, bar._bar.n) == (7, 7)
        bar.advance(3, 1)
    assert "1 diverged" in capsys.readouterr().err


def test_without_tqdm_there_is_no_bar(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    jaxreg.sweep(lambda x: x, {"x": RATES})


def test_ctrl_c_ends_within_a_chunk_and_says_how_to_go_on(monkeypatch):
    done = []

    def advance(self, members, *_, **__):
        done.append(members)
        self.done += members
        if len(done) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(_blocks.Progress, "advance", advance)
    with pytest.raises(KeyboardInterrupt, match=r"stopped with \d+ of 1000 members done; give it a store= to be able"):
        jaxreg.sweep(lambda x: x, {"x": np.arange(1000.0)}, chunk_size=100)
    assert sum(done) < 1000


def test_ctrl_c_waits_for_the_compiler_and_is_never_lost(monkeypatch):
    """Raised while XLA compiles it crashes Python's end, in a callback of the garbage collector nobody hears of it."""
    caught = []

    def interrupted(*given):
        try:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)  # whoever insists
        except KeyboardInterrupt:  # as in a callback
            caught.append(len(caught))
        return compiled(*given)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background ignores it
    compiled = _programs.block_program
    monkeypatch.setattr(_values, "block_program", interrupted)
    with pytest.raises(KeyboardInterrupt, match=r"stopped with 0 of 1000 members done; give it a store="):
        jaxreg.sweep(lambda x: x, {"x": np.arange(1000.0)}, chunk_size=100)
    assert caught == [0]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt, match="stopped with 0 of 3"), _blocks.Progress(3, False, stored=True):
        signal.raise_signal(signal.SIGINT)
    monkeypatch.undo()
    assert jaxreg.sweep(lambda x: x, {"x": RATES}).values.shape == (5,)  # and then all is as before
    signal.signal(signal.SIGINT, lambda *_: caught.append(7))  # whoever has other plans keeps them
    with _blocks.Progress(3, False, stored=True):
        signal.raise_signal(signal.SIGINT)
    assert caught == [0, 7]
    signal.signal(signal.SIGINT, before)


def test_a_thread_may_sweep():
    with ThreadPoolExecutor(1) as pool:  # where Python lets nobody set what Ctrl-C does
        found = pool.submit(jaxreg.sweep, lambda x: 3 * x, {"x": RATES}).result()
    np.testing.assert_array_equal(found.values, 3 * RATES)


def test_a_system_that_does_not_tell_its_memory_is_no_obstacle(monkeypatch):
    monkeypatch.delattr(os, "sysconf")  # Windows
    np.testing.assert_array_equal(jaxreg.sweep(lambda x: 3 * x, {"x": RATES}).values, 3 * RATES)


def test_an_error_in_one_block_ends_the_others():
    seen, ended = [], [3]

    def compute(job):
        seen.append(job)
        if job == 3:
            raise RuntimeError("three")
        time.sleep(0.01)
        ended.append(job)

    with pytest.raises(RuntimeError, match="three"):
        _blocks.run(range(1000), compute, workers=2, finished=lambda *_: None)
    assert len(seen) < 1000
    assert sorted(seen) == sorted(ended)  # none is left running


def test_results_are_json_ready_tables():
    result = jaxreg.sweep(lambda x: {"y": x}, {"x": [0.5, 1.5]})
    assert json.loads(result.to_dataframe().to_json(orient="records")) == [{"x": 0.5, "y": 0.5}, {"x": 1.5, "y": 1.5}]


def test_blocks_are_cut_along_what_is_costly():
    """Otherwise each block computes the same orders of the rows, or statistics of the same data sets, again."""
    assert _tiles.block_shape((4, 1000), (False, True), 2000) == (4, 500)
    assert _tiles.block_shape((20, 512), (True, False), 5120) == (10, 512)
    assert _tiles.block_shape((4, 1000), (False, False), 2000) == (2, 1000)
    assert _tiles.block_shape((2000, 70), (False, True), 1000) == (14, 70)  # enough members for the vector unit


def test_failed_members_of_a_sweep_are_named():
    swept = jaxreg.sweep(lambda x: {"status": jnp.where(x > 1, 2, 0)}, {"x": [0.5, 1.5]})
    with pytest.raises(RuntimeError, match=r"1 of 2 fits failed: \[1\] DIVERGED"):
        jaxreg.raise_if_failed(swept)
    with pytest.raises(ValueError, match="result must have a status, got only 'y'"):
        jaxreg.raise_if_failed(jaxreg.sweep(lambda x: {"y": x}, {"x": [0.5]}))


def test_static_values_that_are_equal_but_of_other_types_are_other_programs():
    def fn(n, **_):
        return jnp.asarray(n)

    for value, dtype in ((1, np.int32), (1.0, np.float32), (True, np.bool_)):
        assert jaxreg.sweep(fn, {"x": RATES}, static={"n": [value]}).values.dtype == dtype


def test_a_store_knows_a_function_with_a_bound_threshold_again(tmp_path):
    def swept():
        half = functools.partial(losses.huber, delta=0.5)
        return jaxreg.sweep(lambda x, loss: loss(x, 0 * x), {"x": RATES}, static={"loss": [half]}, store=tmp_path)

    np.testing.assert_array_equal(swept().values, swept().values)
    assert "0x" not in (tmp_path / "zarr.json").read_text()


def test_of_functions_that_are_called_alike_a_store_knows_each(tmp_path):
    def swept(*fns):
        return jaxreg.sweep(lambda x, f: f(x), {"x": RATES}, static={"f": fns}, store=tmp_path).values

    swept(lambda x: x, lambda x: 2 * x)
    with pytest.raises(ValueError, match=r"the function or the data it closes over differ \(static: f=<lambda>\)"):
        swept(lambda x: 3 * x, lambda x: 2 * x)


def test_a_function_is_compiled_anew_for_double_precision():
    def fn(n):
        return n * jnp.ones(())

    for x64, dtype in ((False, np.float32), (True, np.float64), (False, np.float32)):
        with jax.enable_x64(x64):
            assert jaxreg.sweep(fn, {"n": np.arange(3, dtype=np.int32)}).values.dtype == dtype


def test_integers_that_would_wrap_are_refused():
    with pytest.raises(ValueError, match="axis 'x' has numbers beyond int32: turn jax_enable_x64 on"):
        jaxreg.sweep(lambda x: x, {"x": np.array([2**40, 2])})


def test_under_a_trace_there_is_vmap():
    with pytest.raises(ValueError, match=r"sweep is for the host: .* use jax\.vmap"):
        jax.jit(lambda x: jaxreg.sweep(lambda x: x, {"x": x}).values)(RATES)


@pytest.mark.usefixtures("new_garbage_only")
def test_a_function_and_its_data_are_let_go():
    class Doubles:
        def method(self, x):
            return 2 * x

    def swept(kind):
        data = jnp.arange(3.0)
        fn = functools.partial(lambda data, x: x * data, data) if kind == "partial" else lambda x: x * data
        jaxreg.sweep(fn, {"x": RATES})
        return weakref.ref(data)

    held = [swept(kind) for kind in ("function", "partial")]
    gc.collect()
    assert [data() for data in held] == [None, None]
    doubles = Doubles()  # whose bound method is another object each time
    for _ in range(2):
        np.testing.assert_array_equal(jaxreg.sweep(doubles.method, {"x": RATES}).values, 2 * RATES)
