"""Asks a node's HTTP surface whether it is ready, without needing an HTTP library."""

from __future__ import annotations

import asyncio
import contextlib

ANSWER_BYTES_MAX = 64 * 1024
"""Bytes read of an answer; a longer one is cut."""


async def fetch_readiness(http_address: str, *, timeout_s: float = 1.0) -> tuple[bool, str]:
    """Whether `/readyz` answers 200, and the text that it (or the failure) gave.

    Never raises for a node that is down, slow or talks nonsense: that is an answer, too.
    """
    try:
        async with asyncio.timeout(timeout_s):
            status, text = await _get(http_address, "/readyz")
    except TimeoutError:
        return False, f"no answer within {timeout_s:g} s"
    except (OSError, ValueError) as error:
        return False, str(error)
    return status == 200, text


async def _get(address: str, path: str) -> tuple[int, str]:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        question = f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        writer.write(question.encode("ascii"))
        await writer.drain()
        answer = await _read_up_to(reader, ANSWER_BYTES_MAX)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    head, _, body = answer.decode("utf-8", errors="replace").partition("\r\n\r\n")
    words = head.split(maxsplit=2)
    if len(words) < 2 or not words[1].isdigit():
        raise ValueError(f"no HTTP answer: {head[:80]!r}")
    return int(words[1]), body.strip()


async def _read_up_to(reader: asyncio.StreamReader, size_max: int) -> bytes:
    chunks = bytearray()
    while len(chunks) < size_max:
        chunk = await reader.read(size_max - len(chunks))
        if not chunk:
            break
        chunks += chunk
    return bytes(chunks)
