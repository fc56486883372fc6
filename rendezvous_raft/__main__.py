"""`python -m rendezvous_raft` is the command line."""

from __future__ import annotations

from rendezvous_raft.cli.app import main

if __name__ == "__main__":
    main()
