"""A host application may fork: the child must not use the connections of its parent."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap

import pytest
from fake_node import FakeNode

PROGRAM = textwrap.dedent(
    """
    import os
    import sys

    from rendezvous_raft import Client

    client = Client(sys.argv[1], timeout=10)
    if sys.argv[2] == "used":
        client.register_request("parent")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            client.register_request("child")
            assert set(client._transports) >= {os.getpid()}
            client.close()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    client.register_request("parent-again")
    assert list(client._transports) == [os.getpid()]
    client.close()
    """
)


@pytest.mark.slow
@pytest.mark.parametrize("before", ["used", "fresh"])
async def test_the_child_of_a_fork_connects_anew(node: FakeNode, before: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, node.address, before,
        env={"GRPC_ENABLE_FORK_SUPPORT": "1", "GRPC_POLL_STRATEGY": "poll"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    ids = [sent.request_id for sent in node.received]
    assert ids == [*(["parent"] if before == "used" else []), "child", "parent-again"]
