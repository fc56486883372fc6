"""Sessions of `words23` clients: the context that they hand back holds the revision (5.1).

The values of its map are int32, so a revision takes two of them, 31 bits each.
"""

from __future__ import annotations

from rendezvous_raft._proto.compat import words23_pb2 as pb
from rendezvous_raft.node.calls import Freshness
from rendezvous_raft.types import Consistency, Revision

HIGH_KEY = "rendezvous-revision-high"
LOW_KEY = "rendezvous-revision-low"
_BITS = 31
_LOW_MASK = (1 << _BITS) - 1


def context_of(revision: Revision) -> pb.RequestContext:
    """What a client hands back to see at least this revision."""
    versions = {HIGH_KEY: revision >> _BITS, LOW_KEY: revision & _LOW_MASK}
    return pb.RequestContext(versions=versions)


def freshness_of(context: pb.RequestContext) -> Freshness:
    """A session read for a client with a context; without one it sees every acknowledged write."""
    high, low = context.versions.get(HIGH_KEY), context.versions.get(LOW_KEY)
    if high is None or low is None or high < 0 or low < 0:
        return Freshness(Consistency.LINEARIZABLE)
    revision = Revision(high << _BITS | low)
    # Revision 0 is before the first write: a session with it would ask nobody for anything.
    return Freshness(Consistency.SESSION if revision else Consistency.LINEARIZABLE, revision)
