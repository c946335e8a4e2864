"""`python -m fleetpose` does what `fleetpose` does."""

import sys

from fleetpose.cli import main

if __name__ == "__main__":
    sys.exit(main())
