"""The monitor: watches a datastore in one region and closes branches once they are visible.

An ordinary client of the metadata service. Start with `DESIGN.md` and `monitor.py`.
"""
