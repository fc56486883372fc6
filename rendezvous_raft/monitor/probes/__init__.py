"""Probes: how a monitor finds out that a branch is visible, one module per kind of datastore.

A probe's driver is an extra; its module is imported only when a probe of that kind is made.
"""
