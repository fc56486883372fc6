"""The command line: `rendezvous`, short `rvz`. Each command loads only what it needs."""
