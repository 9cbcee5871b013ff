"""Where does training diverge? Learning rate × batch size × init scale × loss × seed, with the edges of theory."""

import argparse
import sys
from typing import Any

import _common as common
import jax
import numpy as np

import jaxreg
from jaxreg import plots, studies
from jaxreg._command import problems
from jaxreg._command.figures import figure
from jaxreg._points import readable


def parser() -> common.Parser:
    """The command line."""
    made = problems.parser(__doc__, seeds=10)
    problems.add_loss(made, several=True)
    problems.add_sweep(made)
    made.add_argument("--batch-size", default="8,32,1000", help="rows in a step, with commas between")
    made.add_argument("--init-scale", default="1,10000", help="factors of the start, as a range or with commas between")
    made.add_argument("--steps", type=int, default=200, help="of each run, filled up to whole epochs")
    made.set_defaults(loss="squared,huber")
    return made


def study(given: argparse.Namespace) -> None:
    """Sweep, save, draw, print."""
    posed = problems.problem(given)
    losses = problems.losses_named(given.loss)
    sizes = problems.counts("batch-size", given.batch_size, most=len(posed.data.y))
    scales = problems.numbers("init-scale", given.init_scale)
    atlas = studies.divergence_atlas(
        posed.model,
        losses,
        posed.data,
        learning_rate=problems.learning_rates(given, posed, losses[0]),
        batch_size=sizes,
        steps=given.steps,
        key=jax.random.key(given.seed),
        num_seeds=given.replicates,
        init_scale=scales,
        optimizer=problems.OPTIMIZERS[given.optimizer],
        **problems.options(given),
    )
    rows = [_judge(atlas, place) for place in problems.combinations(losses, sizes, scales)]
    problems.save_arrays(given.out / "divergence_atlas.npz", atlas.sweep)
    common.save_json(
        given.out / "divergence_atlas.json",
        {"problem": posed.name, "optimizer": given.optimizer, "seed": given.seed, "combinations": rows},
    )
    with figure(given.out, "divergence_atlas", size=(7.5, 2.2 + 0.3 * len(rows))) as ax:
        plots.divergence_atlas(atlas, ax=ax)
    print(f"{posed.name}, {given.optimizer}: {atlas.sweep.values.status.size} members\n")
    header = ("loss", "batch", "init ×", "2/λmax", "mean-square edge", "edge", "first failure", "at step", "failed")
    print(problems.table(header, rows))


def _judge(atlas: studies.Atlas, place: tuple[int, ...]) -> dict[str, Any]:
    """Edges of one combination: of theory, and measured over the seeds."""
    loss, size, scale = place
    runs = jax.tree.map(lambda leaf: leaf[place], atlas.sweep.values)  # (rates, seeds)
    rates = np.asarray(atlas.sweep.axes["learning_rate"])
    median = np.median(runs.final_loss, axis=1)
    failed = runs.status != jaxreg.Status.OK
    first = np.argmax(failed.any(axis=1))
    return {
        "loss": readable(atlas.sweep.axes["loss"][loss]),
        "batch_size": atlas.sweep.axes["batch_size"][size],
        "init_scale": float(atlas.sweep.axes["init_scale"][scale]),
        "critical_learning_rate": float(atlas.critical_learning_rate[loss]),
        "mean_square_edge": float(atlas.mean_square_edge[loss, size]),
        "edge": float(jax.jit(studies.usable_rates)(rates, np.median(runs.start_loss), median).edge),
        "first_rate_to_fail": float(rates[first]) if failed.any() else float("inf"),
        "its_step_of_failure": int(runs.num_steps[first][failed[first]].min()) if failed.any() else "–",
        "share_failed": float(failed.mean()),
    }


if __name__ == "__main__":
    sys.exit(problems.main(study, parser(), "divergence_atlas"))
