"""A sweep and fits shared by several processes: the same call in each, on loopback."""

import socket
import subprocess
import sys

import numpy as np

CODE = """
import sys
import jax
import jax.numpy as jnp
import numpy as np
import jaxreg

if __name__ == "__main__":
    port, processes, number, store, file = sys.argv[1:]
    jax.distributed.initialize(f"localhost:{port}", int(processes), int(number))
    assert jax.process_count() == int(processes)

def fn(rate, key, power):
    return {"drawn": jnp.exp(rate * jax.random.normal(key, (3,))), "whole": jnp.int8(rate) ** power, "ended": rate > 2}

def swept(rates, **settings):
    axes = {"rate": rates, "key": jax.random.split(jax.random.key(1), 2)}
    return jaxreg.sweep(fn, axes, static={"power": [1, 2]}, chunk_size=150, **settings)

def fitted():
    currents = jnp.linspace(0.5, 2.0, 7)
    return jaxreg.fit_many(jaxreg.models.ohm(), currents, jnp.arange(1.0, 40.0)[:, None] * currents[None])

def both(store):
    rates = jnp.geomspace(1e-3, 100.0, 301)
    values = swept(rates, store=store).values
    try:
        swept(2 * rates, store=store)
    except ValueError as error:
        assert "axis 'rate' has other values" in str(error)
    else:
        raise AssertionError("the store of another sweep was taken")
    return list(map(np.asarray, jax.tree.leaves((values, swept(rates[:3]).values["drawn"], fitted()))))

if __name__ == "__main__":
    np.savez(file, *both(store))
"""


def run(tmp_path, processes, store):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    files = [tmp_path / f"{number}.npz" for number in range(processes)]
    running = [
        subprocess.Popen([sys.executable, "-c", CODE, port, str(processes), str(number), str(store), str(file)])
        for number, file in enumerate(files)
    ]
    assert [process.wait(timeout=120) for process in running] == [0] * processes
    found = []
    for path in files:
        with np.load(path) as file:
            found.append(list(file.values()))
    return found


def test_two_processes_and_one_give_equal_bits_and_share_a_store(tmp_path):
    here = {"__name__": "here"}
    exec(CODE, here)
    alone = here["both"](tmp_path / "alone")
    together = run(tmp_path, 2, tmp_path / "together")
    again = here["both"](tmp_path / "together")  # everything is in the store
    for found in (*together, again):
        for one, other in zip(found, alone, strict=True):
            np.testing.assert_array_equal(one, other)
