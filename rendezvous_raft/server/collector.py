"""Python's garbage collector, kept from stopping a node.

A full collection looks at every object there is. The state of 100,000 requests costs it 0.2 s on a
quiet machine, that of two million four: time enough to depose a leader, each time that the state
has grown by a quarter. But the state is in no cycles, and neither is what a call leaves behind
(`test_core_cycles.py`, `test_collector.py`): counting references frees all of it, and a collection
finds next to nothing.

So whatever a collection leaves is *frozen*: no later one looks at it. Each has to do with what came
since the last one, however large the state is. What is given up: something that is frozen, and
becomes garbage in a cycle later, stays until the process ends.
"""

from __future__ import annotations

import gc

OBJECTS_BETWEEN = 50_000
"""So many more objects than before make a collection due, which takes some 20 ms then; Python's 700
would have every command looked at by itself."""
_YOUNG = 0


def keep_collections_short() -> None:
    """Sets the collector of this process, once, before it serves. Collects what there is so far."""
    gc.set_threshold(OBJECTS_BETWEEN)
    gc.collect()
    gc.freeze()
    if _freeze_what_is_left not in gc.callbacks:
        gc.callbacks.append(_freeze_what_is_left)


def _freeze_what_is_left(phase: str, info: dict[str, int]) -> None:
    """After a collection of the young, which is one of all: everything else is frozen.

    But for one in eleven, which Python makes one of an older generation; what it leaves is frozen
    after the next. Where the collector works in increments of its own (Python 3.14), automatic
    collections are never of the young alone, and this does nothing.
    """
    if phase == "stop" and info["generation"] == _YOUNG:
        gc.freeze()
