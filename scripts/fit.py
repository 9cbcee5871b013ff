"""Fit a curve to columns of a file, as `jaxreg fit` does."""

import sys

from jaxreg._command import fit

if __name__ == "__main__":
    sys.exit(fit.main())
