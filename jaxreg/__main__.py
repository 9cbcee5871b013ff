"""``python -m jaxreg`` is ``jaxreg``."""

import sys

from jaxreg._command import main

if __name__ == "__main__":
    sys.exit(main())
