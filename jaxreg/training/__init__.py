"""Minibatch training with any optax optimiser: ``train``, and how many epochs it took."""

from jaxreg.training._train import Training, epochs_to, train

__all__ = ["Training", "epochs_to", "train"]
