"""`strace`, which ends programs at a system call and writes down the others."""

from __future__ import annotations

import shutil
import subprocess

import pytest


@pytest.fixture(scope="session")
def strace() -> str:
    """The program. Skips where it is missing, or where the kernel lets nobody be traced.

    CI has it installed and fails without it; a kernel that forbids tracing is not CI's to change,
    so that is a skip everywhere, with the kernel's words.
    """
    program = shutil.which("strace")
    if program is None:
        pytest.skip("strace is not installed")
    tried = subprocess.run(
        [program, "-f", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        if "Operation not permitted" not in tried.stderr:
            pytest.fail(f"strace does not work: {tried.stderr}", pytrace=False)
        pytest.skip(f"tracing is not permitted here: {tried.stderr.strip()}")
    return program
