"""Clusters of child processes on one machine, with emulated distance between their regions."""
