"""The package runs as a module."""

import subprocess
import sys

import graphssl


def test_the_package_runs_as_the_command():
    done = subprocess.run([sys.executable, "-m", "graphssl", "--version"], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, f"graphssl {graphssl.__version__}")
