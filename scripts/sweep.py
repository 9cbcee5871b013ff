"""Sweep training over its settings, as `jaxreg sweep` does."""

import sys

from jaxreg._command import sweep

if __name__ == "__main__":
    sys.exit(sweep.main())
