"""Lets the tests of this folder import what ``run_fuzz.py``, a script, imports from beside it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
