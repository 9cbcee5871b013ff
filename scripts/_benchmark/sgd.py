"""One problem, minibatch SGD of a line at many learning rates, and the programs that compute it."""

import ctypes
import functools
import importlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxreg
from _benchmark import measure
from jaxreg import batching, data, losses, models

LOSSES = {"squared": losses.squared, "huber": losses.huber, "absolute": losses.absolute}
KINDS = list(LOSSES)  # in the order of the C source's enum
KEY = jax.random.key(1)
EPOCHS = 3
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Problem(NamedTuple):
    """Rows, rates, and the minibatches and the start that ``jaxreg.train`` makes of them with ``KEY``."""

    loss: str
    rows: data.Dataset
    batch_size: int
    rates: np.ndarray  # (members,)
    order: np.ndarray  # (epochs, rows)
    x: np.ndarray  # (steps, batch_size, features)
    y: np.ndarray  # (steps, batch_size)
    weight: np.ndarray  # (steps, batch_size), 0 for filling
    start: np.ndarray  # (features + 1,), the bias last

    @property
    def features(self) -> int:
        """The number of features."""
        return self.x.shape[2]

    @property
    def steps(self) -> int:
        """The number of steps."""
        return self.x.shape[0]


class Competitor(NamedTuple):
    """A program for the problem."""

    run: Callable[[], Any]
    numbers: Callable[[Any], tuple[Any, Any]]  # of its result: params (p, members) and losses (steps, members)


def problem(loss: str, members: int, *, features: int = 2, batch_size: int = 32, largest_rate: float = 0.5) -> Problem:
    """The exercises' line of 1000 rows and three epochs, or one of more features; rates at which nothing diverges."""
    truth = jnp.array([2.0, -3.4]) if features == 2 else jnp.cos(jnp.arange(1.0, features + 1))
    rows = data.linear(jax.random.key(0), 1000, truth, 4.2, noise=0.01)
    key_init, key_order = jax.random.split(KEY)
    order_of = batching.epoch_order("reshuffled", len(rows.y), key_order)
    order = jnp.stack([order_of(epoch) for epoch in range(EPOCHS)])
    batches = [batching.gather(rows, batching.minibatches(rows_of, batch_size)) for rows_of in order]
    x, y, weight = (np.concatenate(leaves) for leaves in zip(*batches, strict=True))
    init = models.linear(features).init(key_init)
    rates = np.geomspace(1e-3, largest_rate, members, dtype=np.float32)
    start = np.append(init["w"], init["b"])
    return Problem(loss, rows, batch_size, rates, np.asarray(order), x, y, weight, start)


def training(given: Problem) -> Callable[..., jaxreg.Training]:
    """The problem as a user of jaxreg writes it."""
    model, loss = models.linear(given.features), LOSSES[given.loss]

    def run(learning_rate: jax.Array, key: jax.Array = KEY) -> jaxreg.Training:
        return jaxreg.train(
            model,
            loss,
            given.rows,
            optimizer=optax.sgd(learning_rate),
            epochs=EPOCHS,
            batch_size=given.batch_size,
            key=key,
        )

    return run


def _numbers_of_training(result: jaxreg.Training) -> tuple[Any, Any]:
    return np.vstack([np.asarray(result.params["w"]).T, result.params["b"]]), np.asarray(result.train_loss).T


def sweep(given: Problem) -> Competitor:
    """``jaxreg.sweep`` of ``jaxreg.train``."""
    run = training(given)
    return Competitor(
        lambda: jaxreg.sweep(run, {"learning_rate": given.rates}, progress=False).values, _numbers_of_training
    )


def bare(given: Problem) -> Competitor:
    """``jax.jit(jax.vmap(…))`` of ``jaxreg.train``."""
    run = jax.jit(jax.vmap(training(given)))
    return Competitor(lambda: run(given.rates), _numbers_of_training)


def plain(given: Problem) -> Competitor:
    """``jax.jit(jax.vmap(jax.lax.scan))``, without jaxreg."""
    loss = LOSSES[given.loss]
    batches = (given.x, given.y, given.weight)
    start = {"w": jnp.asarray(given.start[:-1]), "b": jnp.asarray(given.start[-1])}

    def risk(params: Any, x: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
        return (weight * loss(x @ params["w"] + params["b"], y)).sum() / weight.sum()

    def member(rate: jax.Array) -> Any:
        def step(params: Any, batch: Any) -> Any:
            value, gradient = jax.value_and_grad(risk)(params, *batch)
            return jax.tree.map(lambda p, g: p - rate * g, params, gradient), value

        return jax.lax.scan(step, start, batches)

    run = jax.jit(jax.vmap(member))
    return Competitor(
        lambda: run(given.rates), lambda result: (np.vstack([result[0]["w"].T, result[0]["b"]]), result[1].T)
    )


def c(given: Problem) -> Competitor:
    """Vectors written by hand, all cores: the machine's limit."""
    compiler = os.environ.get("CC") or shutil.which("cc")
    if compiler is None:
        raise measure.AbsentError("no C compiler")
    try:
        function = _compiled(compiler, given.features)
    except (OSError, subprocess.CalledProcessError) as error:
        raise measure.AbsentError(f"{compiler} cannot compile it: {getattr(error, 'stderr', None) or error}") from error
    members = len(given.rates)
    inputs = [np.ascontiguousarray(array, np.float32) for array in (given.rates, given.x, given.y, given.weight)]
    params, history = np.empty((given.features + 1, members), np.float32), np.empty((given.steps, members), np.float32)
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (*inputs, params, history)]
    sizes = (ctypes.c_long(members), given.steps, given.batch_size, KINDS.index(given.loss), THREADS)

    def run() -> tuple[np.ndarray, np.ndarray]:
        params[:] = given.start[:, None]
        function(*pointers, *sizes)
        return params, history

    return Competitor(run, lambda result: (result[0].copy(), result[1].copy()))


@functools.cache
def _compiled(compiler: str, features: int) -> Any:
    source = Path(__file__).parent / "sgd_sweep.c"
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "sgd_sweep.so"
        flags = ["-O3", "-march=native", "-ffast-math", "-shared", "-fPIC", "-pthread", f"-DD={features}"]
        command = [compiler, *flags, str(source), "-o", str(library)]
        subprocess.run(command, check=True, capture_output=True, text=True)
        function = ctypes.CDLL(str(library)).sgd_sweep  # it stays loaded when the file is gone
    function.restype = None
    return function


def numba_rows(given: Problem) -> Competitor:
    """numba, as most would write it: threads over members, one member after another, its rows on the vector unit."""
    return _numba(given, "by_rows")


def numba_members(given: Problem) -> Competitor:
    """numba, laid out for the machine: threads over blocks of members, the members of a block on the vector unit."""
    return _numba(given, "by_members")


def _numba(given: Problem, layout: str) -> Competitor:
    if given.features != 2:
        raise measure.AbsentError("written for two features")
    kernels = importlib.import_module("_benchmark.sgd_numba")
    run_on = getattr(kernels, layout)(given.loss)
    inputs = [np.ascontiguousarray(array) for array in (given.rates, given.x[..., 0], given.x[..., 1])]
    members = len(given.rates)
    params, history = np.empty((3, members), np.float32), np.empty((given.steps, members), np.float32)

    def run() -> tuple[np.ndarray, np.ndarray]:
        params[:] = given.start[:, None]
        run_on(*inputs, given.y, given.weight, params, history)
        return params, history

    return Competitor(run, lambda result: (result[0].copy(), result[1].copy()))


def torch(given: Problem) -> Competitor:
    """The published loop: one run after another in PyTorch."""
    torch = importlib.import_module("torch")
    nn, utils = torch.nn, importlib.import_module("torch.utils.data")
    criterion = {"squared": nn.MSELoss, "huber": nn.HuberLoss, "absolute": nn.L1Loss}[given.loss]()
    factor = 0.5 if given.loss == "squared" else 1.0
    x, y = torch.tensor(np.asarray(given.rows.x)), torch.tensor(np.asarray(given.rows.y)).reshape(-1, 1)

    def one(rate: float) -> tuple[np.ndarray, list[float]]:
        net, history = nn.Linear(given.features, 1), []
        net.weight.data[:] = torch.tensor(given.start[:-1])
        net.bias.data.fill_(float(given.start[-1]))
        trainer = torch.optim.SGD(net.parameters(), lr=rate)
        for order in given.order.tolist():
            for features, target in utils.DataLoader(
                utils.TensorDataset(x, y), batch_size=given.batch_size, sampler=order
            ):
                loss = factor * criterion(net(features), target)
                trainer.zero_grad()
                loss.backward()
                trainer.step()
                history.append(loss.item())
        return np.append(net.weight.detach().numpy()[0], net.bias.item()), history

    def run() -> list[Any]:
        return [one(float(rate)) for rate in given.rates]

    def numbers(result: list[Any]) -> tuple[Any, Any]:
        params, histories = zip(*result, strict=True)
        return np.array(params).T, np.array(histories).T

    return Competitor(run, numbers)


def scikit(given: Problem) -> Competitor:
    """scikit-learn's SGDRegressor, one run after another: another algorithm, each row is a step of its own."""
    linear_model = importlib.import_module("sklearn.linear_model")
    x, y = np.asarray(given.rows.x), np.asarray(given.rows.y)

    def one(rate: float) -> np.ndarray:
        found = linear_model.SGDRegressor(
            alpha=0.0, learning_rate="constant", eta0=rate, max_iter=EPOCHS, tol=None, random_state=0
        ).fit(x, y)
        return np.append(found.coef_, found.intercept_)

    return Competitor(lambda: [one(float(rate)) for rate in given.rates], lambda result: (np.array(result).T, None))
