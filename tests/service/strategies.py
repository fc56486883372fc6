"""What the rules choose from: few names, so that they meet each other."""

from __future__ import annotations

from hypothesis import strategies as st
from lives import NODES
from model import Branch, Scope

REQUESTS = ("r1", "r2")
BRANCHES = tuple(f"b{number}" for number in range(1, 13))
SERVICES = ("post", "media", "feed")
REGIONS = tuple(NODES.values())
TAGS = ("", "t", "u")
ZONES = ("", "a", "b")

some = st.integers(0, 999)
"""One of what there is; the machine takes it modulo their number."""
requests = st.sampled_from(REQUESTS)
names = st.sampled_from(BRANCHES)
services = st.sampled_from(SERVICES)
regions = st.sampled_from(REGIONS)
parents = st.sampled_from(["", "", "", *BRANCHES[:4]])
shapes = st.tuples(
    st.just(""),
    services,
    st.sampled_from([("eu", "us"), ("eu",), ("us",), ("ap", "eu", "us"), ()]),
    st.sampled_from(TAGS),
    st.sampled_from(ZONES),
    parents,
    st.sampled_from([True, True, True, False]),
).map(Branch._make)
somewhere = st.sampled_from(["", *REGIONS])
named = services.map(lambda service: (service,))
scopes = st.one_of(
    somewhere.map(lambda region: Scope((), region)),
    st.tuples(named, somewhere).map(lambda parts: Scope(*parts)),
    st.tuples(named, somewhere).map(lambda parts: Scope(*parts, dependants=True)),
    st.tuples(named, somewhere, st.sampled_from(["t", "u"])).map(lambda parts: Scope(*parts)),
    somewhere.map(lambda region: Scope(SERVICES[:2], region)),
)
mutual_scopes = st.one_of(
    st.tuples(st.just(()), somewhere, st.just(""), st.sampled_from(ZONES)).map(
        lambda parts: Scope(*parts)
    ),
    st.tuples(services, somewhere).map(lambda parts: Scope((), parts[1], waiter=parts[0])),
    st.tuples(services, services).map(lambda parts: Scope((parts[0],), waiter=parts[1])),
)
places = st.sampled_from([*REGIONS, *REGIONS, "", "*"])
patience = st.sampled_from([0.0, 0.0, 0.0, 1.0, 3.0])
timeouts = st.sampled_from([30.0, 1.0, 5.0, 0.0])
how_fresh = st.sampled_from(["", "", "session", "future", "local"])
