"""``python -m gradnas`` is ``gradnas``."""

import sys

from gradnas.cli import main

if __name__ == "__main__":
    sys.exit(main())
