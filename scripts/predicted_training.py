"""How far does the Hessian at the start foresee training? Loss curves predicted before the run, beside the run."""

import argparse
import sys

import _common as common
import jax
import numpy as np

import jaxreg
from jaxreg import plots, studies
from jaxreg._command import problems
from jaxreg._command.figures import figure


def parser() -> common.Parser:
    """The command line."""
    made = problems.parser(__doc__, seeds=50)
    problems.add_loss(made, several=False)
    made.add_argument("--batch-size", default="32", help="rows in a step")
    made.add_argument("--epochs", type=int, default=12, help="passes over the data")
    made.add_argument("--sampling", choices=("reshuffled", "independent"), default="reshuffled", help="of minibatches")
    made.set_defaults(learning_rate="0.01,0.03,0.1,1.5")
    return made


def study(given: argparse.Namespace) -> None:
    """Predict, run, save, draw, print."""
    posed, loss, size = problems.single(given)
    (epochs,) = problems.counts("epochs", str(given.epochs), most=10**9)
    found = studies.predicted_training(
        posed.model,
        loss,
        posed.data,
        learning_rate=problems.learning_rates(given, posed, loss),
        batch_size=size,
        epochs=epochs,
        key=jax.random.key(given.seed),
        num_seeds=given.replicates,
        sampling=given.sampling,
    )
    predicted = found.descent if found.expected is None else found.expected
    mean, foreseen = found.measured.mean(axis=0), predicted.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        misses = np.abs(mean / foreseen - 1).max(axis=1)
    failed = (found.status != jaxreg.Status.OK).mean(axis=0)
    common.save_json(
        given.out / "predicted_training.json",
        {
            "problem": posed.name,
            "seed": given.seed,
            "sampling": given.sampling,
            "learning_rate": found.learning_rate,
            "mean_measured": mean,
            "mean_expected": foreseen,
            "mean_descent": found.descent.mean(axis=0),
            "largest_relative_miss": misses,
            "share_failed": failed,
        },
    )
    with figure(given.out, "predicted_training") as ax:
        plots.predicted_training(found, ax=ax)
    print(f"{posed.name}: loss over all rows, mean of {given.replicates} seeds, {epochs} epochs\n")
    header = ("rate", "at the end", "expected", "without noise", "largest miss", "failed")
    rows = [
        [f"{rate:.4g}", end, wanted, still, f"{100 * miss:.2g} %", f"{100 * lost:.0f} %"]
        for rate, end, wanted, still, miss, lost in zip(
            found.learning_rate,
            mean[:, -1],
            foreseen[:, -1],
            found.descent[..., -1].mean(axis=0),
            misses,
            failed,
            strict=True,
        )
    ]
    print(common.table(header, rows))


if __name__ == "__main__":
    sys.exit(problems.main(study, parser(), "predicted_training"))
