"""Raft by PySyncObj, over a log, links and rules of our own that keep Raft's promises."""
