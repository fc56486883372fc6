"""A redis-server as a child process on loopback, for demonstrations and tests."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from rendezvous_raft.devcluster.geo_store import GeoStoreError
from rendezvous_raft.devcluster.layout import LOOPBACK, free_ports

PROGRAM = "redis-server"
READY_TIMEOUT_S = 10.0
POLL_INTERVAL_S = 0.02
STOP_GRACE_S = 10.0
PORT_ATTEMPTS_MAX = 5
ANSWER_TIMEOUT_S = 5.0
LOG_TAIL_BYTES = 2_048


def find_program() -> str:
    """Where redis-server is.

    Raises:
        GeoStoreError: it is not installed.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise GeoStoreError(f"{PROGRAM} is not installed; install the package {PROGRAM}")
    return program


def connect(port: int) -> redis.asyncio.Redis:
    """A client of a local server that connects on first use and does not retry by itself."""
    return redis.asyncio.Redis(
        host=LOOPBACK,
        port=port,
        socket_timeout=ANSWER_TIMEOUT_S,
        socket_connect_timeout=ANSWER_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )


class RedisServer:
    """One redis-server, in memory only, with its log in `directory`. Belongs to one event loop."""

    def __init__(self, directory: Path, *, options: Sequence[str] = ()) -> None:
        self._directory = directory
        self._options = tuple(options)
        self._process: asyncio.subprocess.Process | None = None
        self.port = 0
        """Known after `start`; stays the same after a restart."""

    @property
    def url(self) -> str:
        """For clients."""
        return f"redis://{LOOPBACK}:{self.port}"

    async def start(self) -> None:
        """Starts it and returns once it answers; a second start keeps the port.

        Raises:
            GeoStoreError: it did not start; the text has the end of its log.
        """
        if self.port:
            await self._start_once(self.port)
            return
        for attempt in range(1, PORT_ATTEMPTS_MAX + 1):
            try:
                await self._start_once(free_ports(1)[0])
            except GeoStoreError as error:
                self.port = 0
                if "in use" not in str(error) or attempt == PORT_ATTEMPTS_MAX:
                    raise
            else:
                return

    async def stop(self) -> None:
        """Ends the process: SIGTERM, and SIGKILL if it is not gone in time. Twice is harmless."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            # A paused process would take the signal only once it goes on.
            process.send_signal(signal.SIGCONT)
            process.terminate()
        try:
            async with asyncio.timeout(STOP_GRACE_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def kill(self) -> None:
        """Kills it at once, as a crash would; `start` brings it back, empty."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    def pause(self) -> None:
        """Freezes the process: connections stay open and nothing answers."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets a frozen process go on."""
        self._running().send_signal(signal.SIGCONT)

    async def wait_info(self, section: str, name: str, value: str) -> None:
        """Blocks until `INFO section` says that `name` is `value`.

        Raises:
            GeoStoreError: it did not within the time for a start.
        """
        client = connect(self.port)
        try:
            await self._poll(client, section, name, value)
        finally:
            await client.aclose()

    async def _poll(self, client: redis.asyncio.Redis, section: str, name: str, value: str) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        last = "no answer"
        while time.monotonic() < deadline:
            if self._process is None or self._process.returncode is not None:
                raise GeoStoreError(f"{PROGRAM} ended while it started:\n{self._log_tail()}")
            try:
                facts = await client.info(section)
            except (RedisError, OSError) as error:
                last = str(error)
            else:
                last = str(facts.get(name))
                if last == value:
                    return
            await asyncio.sleep(POLL_INTERVAL_S)
        raise GeoStoreError(f"{PROGRAM}: {name} is {last}, not {value}:\n{self._log_tail()}")

    async def _start_once(self, port: int) -> None:
        self._log_path.unlink(missing_ok=True)
        command = [find_program(), *self._arguments(port)]
        tie = shutil.which("setpriv")
        if tie is not None:  # Linux: the server dies with this process, however that dies
            command = [tie, "--pdeathsig", "KILL", "--", *command]
        self._process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which stops it in order
        )
        self.port = port
        try:
            # The process id: another server may have taken the port in the meantime.
            await self.wait_info("server", "process_id", str(self._process.pid))
        except BaseException:
            await self.stop()
            raise

    def _arguments(self, port: int) -> list[str]:
        options = [
            *("--port", str(port), "--bind", LOOPBACK, "--dir", str(self._directory)),
            *("--logfile", str(self._log_path), "--save", "", "--appendonly", "no"),
            *("--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"),
            *("--repl-ping-replica-period", "1", "--repl-backlog-size", "64mb"),
            *("--client-output-buffer-limit", "replica 0 0 0"),
        ]
        return [*options, *self._options]

    @property
    def _log_path(self) -> Path:
        return self._directory / "redis.log"

    def _log_tail(self) -> str:
        try:
            with self._log_path.open("rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(0, log.tell() - LOG_TAIL_BYTES))
                return log.read().decode(errors="replace")
        except FileNotFoundError:
            return "(no log)"

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise GeoStoreError(f"{PROGRAM} does not run")
        return self._process
