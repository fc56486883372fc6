"""Engines: adapters of the `Replicator` port. Only `server/build.py` constructs them."""
