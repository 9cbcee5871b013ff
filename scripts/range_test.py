"""Which learning rates are usable? Short runs at each of many rates from many seeds, with error bars and theory."""

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


def parser() -> common.Parser:
    """The command line."""
    made = problems.parser(__doc__, seeds=20)
    problems.add_loss(made, several=False)
    problems.add_sweep(made)
    made.add_argument("--batch-size", default="32", help="rows in a step")
    made.add_argument("--steps", type=int, default=30, help="of each run")
    made.add_argument("--share", type=float, default=0.9, help="of the seeds for which a rate must be usable")
    return made


def study(given: argparse.Namespace) -> None:
    """Test, save, draw, print."""
    if not 0 < given.share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {given.share}")
    posed, loss, size = problems.single(given)
    found = studies.range_test(
        posed.model,
        loss,
        posed.data,
        learning_rate=problems.learning_rates(given, posed, loss),
        batch_size=size,
        steps=given.steps,
        key=jax.random.key(given.seed),
        num_seeds=given.replicates,
        optimizer=problems.OPTIMIZERS[given.optimizer],
        **problems.options(given),
    )
    low, high = found.usable(given.share)
    quantities: dict[str, Any] = {
        **{f"{name} usable rate": getattr(found.rates, name) for name in ("lowest", "highest")},
        "steepest point": found.rates.steepest,
        "best rate": found.rates.best,
        "edge": found.rates.edge,
        "1/λmax": found.critical_learning_rate / 2,
        "2/λmax": found.critical_learning_rate,
        "mean-square edge": found.mean_square_edge,
    }
    # Of the order statistics, because an edge may be infinite.
    quantiles = {name: np.percentile(values, [5, 50, 95], method="nearest") for name, values in quantities.items()}
    common.save_json(
        given.out / "range_test.json",
        {
            "problem": posed.name,
            "optimizer": given.optimizer,
            "seed": given.seed,
            "usable": {"share": given.share, "low": low, "high": high},
            "quantiles": {name: dict(zip(("5", "50", "95"), row, strict=True)) for name, row in quantiles.items()},
            "learning_rate": found.learning_rate,
            "start_loss": found.start_loss,
            "final_loss": found.final_loss,
            "status": found.status,
            "num_steps": found.num_steps,
        },
    )
    with figure(given.out, "range_test", size=(6.2, 5.6)) as ax:
        plots.range_test(found, share=given.share, ax=ax)
    failed = (found.status != jaxreg.Status.OK).mean()
    print(
        f"{posed.name}, {given.optimizer}, {given.steps} steps: {found.status.size} members, "
        f"{100 * failed:.1f} % failed\n"
        f"usable for {100 * given.share:.0f} % of {given.replicates} seeds: {low:.4g} to {high:.4g}\n"
    )
    print(common.table(("", "5 %", "median", "95 %"), [[name, *row] for name, row in quantiles.items()]))


if __name__ == "__main__":
    sys.exit(problems.main(study, parser(), "range_test"))
