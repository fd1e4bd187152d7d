"""``python -m discoro``."""

import sys

from discoro.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
