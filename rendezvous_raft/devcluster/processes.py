"""One node as a child process: started, watched, stopped, and its exit status always collected.

The child gets a session of its own, so that a Ctrl-C at the terminal reaches the parent alone and
the parent stops the children in order. Should the parent be killed, the child dies with it: it is
told the parent's process id and asks the kernel for a signal at that death (`cli/server.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from rendezvous_raft.devcluster.readiness import fetch_readiness

POLL_INTERVAL_S = 0.05
"""Pause between two looks at a node that is starting."""
LOG_TAIL_LINES = 20
LOG_TAIL_BYTES = 16 * 1024


def _environment_of_children() -> dict[str, str]:
    # A node takes RENDEZVOUS_* for settings that win over its file; those of the caller are meant
    # for the caller's own commands.
    return {name: text for name, text in os.environ.items() if not name.startswith("RENDEZVOUS_")}


class NodeFailed(Exception):
    """A node ended or did not become ready. The text has its last log lines."""

    def __init__(self, message: str, *, log_tail: str) -> None:
        super().__init__(f"{message}\n{log_tail}" if log_tail else message)
        self.log_tail = log_tail


def describe_exit(returncode: int) -> str:
    """An exit status in words: `exit status 3`, `killed by SIGKILL`."""
    if returncode >= 0:
        return f"exit status {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"


class NodeProcess:
    """A child process that serves `/readyz`. Belongs to one event loop.

    Args:
        name: For messages.
        command: Program and arguments.
        http_address: Where it will serve HTTP, host:port.
        log_path: File that its output is appended to.
    """

    def __init__(
        self, *, name: str, command: Sequence[str], http_address: str, log_path: Path
    ) -> None:
        self.name = name
        self._command = tuple(command)
        self._http_address = http_address
        self._log_path = log_path
        self._process: asyncio.subprocess.Process | None = None
        self._log_start = 0

    @property
    def pid(self) -> int:
        """Process id of the child started last; 0 before the first start."""
        return self._process.pid if self._process else 0

    @property
    def returncode(self) -> int | None:
        """Exit status of the child started last, negative for a signal; None while it runs."""
        return self._process.returncode if self._process else None

    @property
    def running(self) -> bool:
        """Whether the child was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Starts the child. Its output goes to the log file, which only the owner may read.

        Raises:
            RuntimeError: It is running already.
            OSError: The program or the log file cannot be opened.
        """
        if self.running:
            raise RuntimeError(f"node {self.name} is running already")
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        log_fd = os.open(self._log_path, flags, 0o600)
        try:
            self._log_start = os.fstat(log_fd).st_size
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env=_environment_of_children(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log_fd,
                stderr=log_fd,
                start_new_session=True,
            )
        finally:
            os.close(log_fd)

    async def wait_until_ready(self, deadline_s: float) -> None:
        """Returns once `/readyz` says yes.

        Args:
            deadline_s: A point of `time.monotonic()`.

        Raises:
            NodeFailed: The child ended, or the deadline passed.
        """
        reason = "it was not asked"
        while time.monotonic() < deadline_s:
            if not self.running:
                raise self._failure(f"node {self.name} ended while it started ({self._ending()})")
            ready, reason = await fetch_readiness(self._http_address)
            if ready:
                return
            await asyncio.sleep(POLL_INTERVAL_S)
        raise self._failure(f"node {self.name} did not become ready in time: {reason}")

    async def wait_exit(self) -> int:
        """Waits until the child ends and returns its status, negative for a signal."""
        if self._process is None:
            raise RuntimeError(f"node {self.name} was never started")
        return await self._process.wait()

    async def stop(self, *, grace_s: float = 10.0) -> int | None:
        """Asks the child to end (SIGTERM), insists after `grace_s` (SIGKILL), gives its status.

        Harmless for a child that has ended or was never started (then None). A cancelled stop
        still kills the child.
        """
        if self._process is None:
            return None
        try:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(self._process.wait(), grace_s)
        finally:
            self._signal(signal.SIGKILL)
        return await self._process.wait()

    def kill(self) -> None:
        """Ends the child at once (SIGKILL), as a crash would. Harmless when it has ended."""
        self._signal(signal.SIGKILL)

    def log_tail(self) -> str:
        """The last lines that the child started last wrote."""
        with contextlib.suppress(FileNotFoundError), self._log_path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - LOG_TAIL_BYTES))
            lines = log.read().decode("utf-8", errors="replace").splitlines()
            return "\n".join(f"  | {line}" for line in lines[-LOG_TAIL_LINES:])
        return ""

    def _signal(self, number: signal.Signals) -> None:
        if self.running and self._process is not None:
            with contextlib.suppress(ProcessLookupError):  # it ended this very moment
                self._process.send_signal(number)

    def _ending(self) -> str:
        return "never started" if self.returncode is None else describe_exit(self.returncode)

    def _failure(self, message: str) -> NodeFailed:
        return NodeFailed(f"{message}; log: {self._log_path}", log_tail=self.log_tail())
