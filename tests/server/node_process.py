"""A node as a process of its own, on free loopback ports."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import sys
from rendezvous_raft.config import load_node_config
from rendezvous_raft.server.build import run_node

def announce(notice):
    print(notice.to_line(), flush=True)

sys.exit(run_node(load_node_config(), on_ready=announce))
"""


def start_process(program: str = PROGRAM, **settings: str) -> subprocess.Popen[str]:
    environment = {
        **{name: text for name, text in os.environ.items() if not name.startswith("RENDEZVOUS_")},
        "RENDEZVOUS_GRPC_ADDRESS": "127.0.0.1:0",
        "RENDEZVOUS_HTTP_ADDRESS": "127.0.0.1:0",
        **settings,
    }
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
