"""The project's Makefile."""

import os
import subprocess

from .node import HERE
from .outcome import check

PROJECT = os.path.abspath(f"{HERE}/../..")


def make(*words, fails=False, **variables):
    """Runs make, and returns its output."""
    command = ["make", "--no-print-directory", *words, *(f"{name}={value}" for name, value in variables.items())]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=400)
    said = done.stdout + done.stderr
    check((done.returncode != 0) == fails, f"{' '.join(command)}: exit {done.returncode}: {said}")
    return said
