"""A child that looks like a node from outside: serves /readyz, obeys or ignores SIGTERM.

Usage: pretend_node.py HTTP_ADDRESS [MODE]; modes: ready, deaf (ignores SIGTERM), slow (ready at the
third question), dies (prints and exits with 3).
"""

from __future__ import annotations

import signal
import socket
import sys


def main() -> None:
    address, mode = sys.argv[1], (sys.argv[2] if len(sys.argv) > 2 else "ready")
    sys.stderr.write(f"pretending in mode {mode}\n")
    if mode == "dies":
        sys.stderr.write("cannot open the log: disk on fire\n")
        sys.exit(3)
    if mode == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    host, _, port = address.rpartition(":")
    with socket.create_server((host, int(port))) as server:
        questions = 0
        while True:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                questions += 1
                ready = mode != "slow" or questions >= 3
                status = "200 OK" if ready else "503 Service Unavailable"
                body = "[+]raft ok\n" if ready else "[-]raft no leader\n"
                head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n"
                connection.sendall((head + body).encode())


if __name__ == "__main__":
    main()
