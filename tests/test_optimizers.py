"""Every optimiser that runs in a plain optax loop makes the same steps in ``train``."""

import inspect
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxreg
from jaxreg import losses
from jaxreg.data import Dataset

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (12, 2))
ROWS = Dataset(X, X @ jnp.array([2.0, -3.4]) + 1)
START = {"w": jnp.array([0.5, -0.5]), "b": jnp.array([0.1])}
SGD = optax.sgd(0.1)
# It needs the gradient of each row.
LEFT_OUT = {"dpsgd"}


def line(params: Any, x: Any) -> Any:
    return x @ params["w"] + params["b"]


FEW = {
    "MultiSteps": optax.MultiSteps(SGD, 2),
    "sam": optax.contrib.sam(SGD, optax.sgd(0.02), sync_period=2),
    "sam at once": optax.contrib.sam(SGD, optax.sgd(0.02), opaque_mode=True, reset_state=False),
    "sophia": optax.contrib.sophia(0.05),
    "hutchinson_estimator_diag_hessian": optax.contrib.hutchinson_estimator_diag_hessian(),
    "lookahead": optax.lookahead(SGD, 2, 0.5),
    "noisy_sgd": optax.noisy_sgd(0.05, key=KEY),
    "plateau": optax.chain(SGD, optax.contrib.reduce_on_plateau(patience=2)),
    "inject": optax.inject_hyperparams(optax.sgd)(learning_rate=optax.linear_schedule(0.1, 0.01, 9)),
}


def by_name(module: Any) -> dict[str, Any]:
    """All optimisers of a module that need no more than a learning rate."""
    found = {}
    for name, make in vars(module).items():
        if name.startswith("_") or name in LEFT_OUT | FEW.keys() or not inspect.isfunction(make):
            continue
        taken = inspect.signature(make).parameters
        needed = [one.name for one in taken.values() if one.default is one.empty]
        if "learning_rate" in taken and set(needed) <= {"learning_rate"}:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                made = make(*[0.05] * len(needed))
            if isinstance(made, optax.GradientTransformation):
                found[name] = made
    return found


def loop(name: str, optimizer: Any) -> Any:
    params = optax.LookaheadParams.init_synced(START) if name == "lookahead" else START
    memory = optimizer.init(params)
    for first in (0, 4, 8):
        x, y = X[first : first + 4], ROWS.y[first : first + 4]

        def value_fn(params: Any, x: Any = x, y: Any = y, **_: Any) -> Any:
            return losses.squared(line(params, x), y).mean()

        value, grad = jax.value_and_grad(value_fn)(getattr(params, "fast", params))
        extras: dict[str, Any] = {"value": value, "grad": grad, "value_fn": value_fn}
        if name in ("sophia", "hutchinson_estimator_diag_hessian"):
            extras = {"obj_fn": value_fn}
        elif name == "sam at once":
            extras = {"grad_fn": lambda params, _, value_fn=value_fn: jax.grad(value_fn)(params)}
        elif name == "sam" or not isinstance(optimizer, optax.GradientTransformationExtraArgs):
            extras = {}
        updates, memory = optimizer.update(grad, memory, params, **extras)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize("which", ["few", "optax", "contrib"])
def test_train_makes_the_steps_of_a_plain_loop(which: str) -> None:
    optimizers = FEW if which == "few" else by_name(optax if which == "optax" else optax.contrib)
    assert len(optimizers) >= len(FEW)

    def trained(name: str, optimizer: Any) -> Any:
        params = optax.LookaheadParams.init_synced(START) if name == "lookahead" else START
        result = jaxreg.train(
            line, losses.squared, ROWS, optimizer=optimizer, epochs=1, batch_size=4, key=KEY, params=params,
            order="sequential",
        )  # fmt: skip
        return result.params

    found, truth = jax.jit(
        lambda: [{name: run(name, one) for name, one in optimizers.items()} for run in (trained, loop)]
    )()
    for name in optimizers:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), found[name], truth[name])
