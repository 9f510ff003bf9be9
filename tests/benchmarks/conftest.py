"""Benchmarks are files that are run, not a package: what they share is found beside them, as it is by a file that is run."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
