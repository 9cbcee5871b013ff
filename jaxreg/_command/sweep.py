"""Sweep training over learning rates, losses, batch sizes, init scales and seeds."""

import argparse
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import curvature, studies
from jaxreg._command import output, problems
from jaxreg._command.arguments import Parser
from jaxreg._points import readable
from jaxreg.objective import empirical_risk
from jaxreg.results import Sweep
from jaxreg.status import Status
from jaxreg.sweeps import sweep
from jaxreg.training import train


def main(arguments: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """Sweep; the exit code."""
    return problems.main(study, parser(prog), "sweep", arguments)


def parser(prog: str | None = None) -> Parser:
    """The command line."""
    made = problems.parser(__doc__, seeds=20, prog=prog)
    problems.add_loss(made, several=True)
    problems.add_sweep(made)
    made.add_argument("--batch-size", default="32", help="rows in a step, with commas between")
    made.add_argument("--init-scale", default="1", help="factors of the start, as a range or with commas between")
    made.add_argument("--epochs", type=int, default=3, help="passes over the data")
    return made


def study(given: argparse.Namespace) -> None:
    """Sweep, save, draw, print."""
    posed = problems.problem(given)
    losses = problems.losses_named(given.loss)
    rates = problems.learning_rates(given, posed, losses[0])
    sizes = problems.counts("batch-size", given.batch_size, most=len(posed.data.y))
    scales = problems.numbers("init-scale", given.init_scale)
    (epochs,) = problems.counts("epochs", str(given.epochs), most=10**9)
    optimizer = problems.OPTIMIZERS[given.optimizer]

    def member(loss: Any, batch_size: int, init_scale: Any, learning_rate: Any, key: Any) -> dict[str, Any]:
        key_init, key_train = jax.random.split(key)
        start = jax.tree.map(lambda leaf: init_scale * leaf, posed.model.init(key_init))
        result = train(
            posed.model,
            loss,
            posed.data,
            optimizer=optimizer(learning_rate),
            epochs=epochs,
            batch_size=batch_size,
            key=key_train,
            params=start,
            validation=posed.data,
        )
        assert result.validation_loss is not None
        return {
            "start_loss": empirical_risk(posed.model, loss)(start, posed.data),
            "final_loss": result.validation_loss[-1],
            "params": result.params,
            "status": result.status,
            "num_steps": result.num_steps,
        }

    keys = jax.random.split(jax.random.key(given.seed), given.replicates)
    swept = sweep(
        member,
        {"init_scale": scales, "learning_rate": rates, "key": keys},
        static={"loss": losses, "batch_size": sizes},
        **problems.options(given),
    )
    rows = [_judge(given, posed, swept, place) for place in problems.combinations(losses, sizes, scales)]
    problems.save_arrays(given.out / "sweep.npz", swept)
    output.save_json(
        given.out / "sweep.json",
        {
            "problem": posed.name,
            "optimizer": given.optimizer,
            "epochs": epochs,
            "seed": given.seed,
            "combinations": rows,
        },
    )
    print(f"{posed.name}, {given.optimizer}, {epochs} epochs: {swept.values['status'].size} members\n")
    header = ("loss", "batch", "init ×", "best rate", "loss there", "edge", "2/λmax", "diverged")
    print(problems.table(header, rows))


def _judge(given: argparse.Namespace, posed: problems.Problem, swept: Sweep, place: tuple[int, ...]) -> dict[str, Any]:
    """The best rate and the edge of one combination, and its figure."""
    from jaxreg import plots
    from jaxreg._command.figures import figure

    values = jax.tree.map(lambda leaf: leaf[place], swept.values)  # (rates, seeds)
    loss, size, scale = (
        swept.axes[name][index] for name, index in zip(("loss", "batch_size", "init_scale"), place, strict=True)
    )
    failed = values["status"] != Status.OK
    final = np.where(failed | ~np.isfinite(values["final_loss"]), np.inf, values["final_loss"])
    start = np.median(values["start_loss"])
    rates = np.asarray(swept.axes["learning_rate"])
    middle = np.median(final, axis=1)
    found = jax.jit(studies.usable_rates)(rates, start, middle)
    member = np.unravel_index(np.argmin(final), final.shape)
    risk = empirical_risk(posed.model, loss)
    best = jax.tree.map(lambda leaf: jnp.asarray(leaf[member]), values["params"])
    critical = float(jax.jit(lambda params: curvature.critical_learning_rate(risk, params, posed.data))(best))
    name = readable(loss)
    with figure(given.out, _figure_name(name, size, scale)) as ax:
        edges = {"predicted_edge": critical} if np.isfinite(critical) else {}
        measured = {"measured_edge": float(found.edge)} if np.isfinite(found.edge) else {}
        plots.rate_sweep(rates, final.T, values["status"].T, start_loss=float(start), **edges, **measured, ax=ax)
        ax.set_title(f"{name}, batch size {size}, init × {scale:g}", fontsize="medium")
    return {
        "loss": name,
        "batch_size": size,
        "init_scale": float(scale),
        "best_rate": float(found.best),
        "loss_at_best": float(middle.min()),
        "edge": float(found.edge),
        "critical_learning_rate": critical,
        "share_failed": float(failed.mean()),
    }


def _figure_name(loss: str, size: int, scale: float) -> str:
    return re.sub(r"[^\w.]+", "_", f"sweep_{loss}_batch_{size}_init_{scale:g}")
