"""Context propagation: X1, X2 and X4 of docs/monitor-rules.txt."""

from __future__ import annotations

import asyncio
import string
import threading
from contextvars import copy_context

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rendezvous_raft.context import (
    CONTEXT_HEADER,
    RendezvousContext,
    current_context,
    current_session,
    fold_revision,
    use_context,
)
from rendezvous_raft.errors import InvalidArgument, LimitExceeded
from rendezvous_raft.limits import CONTEXT_BYTES_MAX

ids = st.text(string.ascii_letters + string.digits + "_.:/@-", min_size=1, max_size=40)
zones = st.none() | st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30).filter(
    lambda text: len(text.encode()) <= 128
)
contexts = st.builds(
    RendezvousContext,
    request_id=ids,
    zone=zones,
    min_revision=st.integers(0, 2**63 - 1),
    unacknowledged=st.lists(ids, max_size=16, unique=True).map(tuple),
)


@given(contexts)
@example(RendezvousContext("r" * 128, "", 2**63 - 1, tuple("b" * 60 + str(n) for n in range(16))))
@example(RendezvousContext("r", "ü;=,%&", 0, ("a/b:c@d",)))
def test_text_form_round_trips(context: RendezvousContext) -> None:
    text = context.encode()
    assert text.isascii()
    assert len(text) <= CONTEXT_BYTES_MAX
    assert RendezvousContext.decode(text) == context
    assert RendezvousContext.decode(text.encode()) == context
    assert RendezvousContext.from_headers(context.to_headers()) == context


def test_text_form_is_the_documented_one() -> None:
    context = RendezvousContext("r1", "a;b", 12, ("post-1", "post-2"))
    assert context.encode() == "1;r=r1;z=a%3Bb;v=12;q=post-1,post-2"


def test_absent_and_empty_zone_differ() -> None:
    absent = RendezvousContext.decode("1;r=r1;v=3")
    empty = RendezvousContext.decode("1;r=r1;z=;v=3")
    assert absent == RendezvousContext("r1", None, 3)
    assert empty == RendezvousContext("r1", "", 3)
    assert absent != empty


def test_unknown_fields_are_ignored() -> None:
    assert RendezvousContext.decode("1;future=x;r=r1;n=;q=") == RendezvousContext("r1")


fragments = st.lists(
    st.sampled_from(
        ["1", "2", "r=", "r=a", "r=%FF", "z=", "z=%00", "v=", "v=-1", "v=9", "v=²", "q=", "q=a",
         "q=,a", "q=%", ";", "=", "%", "\x00", "ü", "\ud800", "r=r1", "v=99999999999999999999"]
    ),
    max_size=8,
).map(";".join)  # fmt: skip


@given(
    st.one_of(st.text(), st.binary(), fragments, st.integers(), st.floats(), st.lists(st.none()))
)
@example("1;r=a;v=" + "9" * 5_000)
@example("1;r=a;v=" + "9" * 2_000)
@example("1;r=a;r=b")
@example(bytearray(b"1;r=a\xff"))
def test_decoding_never_raises_on_foreign_input(value: object) -> None:
    reasons: list[str] = []
    context = RendezvousContext.decode(value, on_dropped=reasons.append)
    if context is None:
        assert len(reasons) == 1
        assert reasons[0] in {"too_long", "version", "malformed"}
    else:
        assert not reasons
        assert RendezvousContext.decode(context.encode()) == context


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "malformed"),
        ("1", "malformed"),
        ("1;r=", "malformed"),
        ("1;r=a b", "malformed"),
        ("1;r=a;v=x", "malformed"),
        ("1;r=a;v=-1", "malformed"),
        ("1;r=a;z=%00", "malformed"),
        ("1;r=a;z=%FF", "malformed"),
        ("1;r=a;r=b", "malformed"),
        ("1;r=a;q=" + ",".join("abcdefghijklmnopq"), "malformed"),
        ("2;r=a", "version"),
        ("x;r=a", "malformed"),
        ("1;r=a;n=" + "x" * 2_048, "too_long"),
        (b"1;r=\xff", "malformed"),
        (7, "malformed"),
    ],
)
def test_what_is_dropped_says_why(text: object, reason: str) -> None:
    reasons: list[str] = []
    assert RendezvousContext.decode(text, on_dropped=reasons.append) is None
    assert reasons == [reason]


def test_no_value_is_no_context_and_not_a_dropped_one() -> None:
    reasons: list[str] = []
    assert RendezvousContext.decode(None, on_dropped=reasons.append) is None
    assert RendezvousContext.from_headers({"other": "1"}, on_dropped=reasons.append) is None
    assert reasons == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Rendezvous-Context": "1;r=r1"},
        {"RENDEZVOUS_CONTEXT": b"1;r=r1"},
        [("a", "b"), (CONTEXT_HEADER, "1;r=r1")],
    ],
)
def test_headers_are_found_in_any_case(headers: object) -> None:
    found = RendezvousContext.from_headers(headers)  # type: ignore[arg-type]
    assert found == RendezvousContext("r1")


@pytest.mark.parametrize(
    "fields",
    [
        {"request_id": ""},
        {"request_id": "a b"},
        {"request_id": "a\n"},
        {"request_id": "r", "zone": "x\ny"},
        {"request_id": "r", "zone": "\ud800"},
        {"request_id": "r", "zone": "ü" * 65},
        {"request_id": "r", "min_revision": -1},
        {"request_id": "r", "unacknowledged": ("",)},
    ],
)
def test_a_context_that_could_not_travel_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        RendezvousContext(**fields)  # type: ignore[arg-type]


def test_encoding_refuses_to_leave_branches_out() -> None:
    """A branch that is left out could hide a write from its reader."""
    seventeen = RendezvousContext("r", unacknowledged=tuple(f"b{n}" for n in range(17)))
    with pytest.raises(LimitExceeded, match="context_branches_max"):
        seventeen.encode()
    long_ids = RendezvousContext("r", unacknowledged=tuple(f"{n:0128}" for n in range(16)))
    with pytest.raises(LimitExceeded, match="context_bytes_max"):
        long_ids.to_headers()


@given(st.lists(st.integers(0, 2**70)))
def test_folding_keeps_the_highest_revision(revisions: list[int]) -> None:
    with use_context(RendezvousContext("r", min_revision=5)):
        for revision in revisions:
            fold_revision(revision)
        context = current_context()
        assert context is not None
        assert context.min_revision == min(max([5, *revisions]), 2**63 - 1)


def test_outside_of_a_request_there_is_nothing() -> None:
    assert current_context() is None
    assert current_session() is None
    fold_revision(3)
    assert current_context() is None


def test_blocks_nest_and_can_be_empty() -> None:
    with use_context(RendezvousContext("outer")):
        with use_context(RendezvousContext("inner")):
            assert current_context() == RendezvousContext("inner")
        with use_context(None):
            assert current_context() is None
        assert current_context() == RendezvousContext("outer")
    assert current_context() is None


async def test_tasks_of_a_request_share_what_they_learn() -> None:
    """The parent sends the notification, so it must know what its child registered."""

    async def child() -> None:
        session = current_session()
        assert session is not None
        session.begin(["b1"])
        session.fold(9)

    with use_context(RendezvousContext("r")):
        await asyncio.create_task(child())
        assert current_context() == RendezvousContext("r", None, 9, ("b1",))


def test_threads_of_a_request_share_what_they_learn() -> None:
    with use_context(RendezvousContext("r")):
        context = copy_context()
        thread = threading.Thread(target=context.run, args=(fold_revision, 4))
        thread.start()
        thread.join()
        assert current_context() == RendezvousContext("r", min_revision=4)


def test_acknowledged_branches_are_covered_by_the_revision() -> None:
    with use_context(RendezvousContext("r", unacknowledged=("a",))) as session:
        assert session is not None
        session.begin(["a", "b"])
        assert session.unacknowledged == ("a", "b")
        session.acknowledge(["a"], revision=8)
        assert session.context == RendezvousContext("r", None, 8, ("b",))


def test_a_branch_is_on_its_way_until_the_last_call_that_registers_it_has_failed() -> None:
    # semantics: R1.1
    with use_context(RendezvousContext("r", unacknowledged=("sent",))) as session:
        assert session is not None
        session.begin(["b", "sent"])
        session.begin(["b"])
        session.withdraw(["b", "sent"])
        assert session.unacknowledged == ("sent", "b")
        session.withdraw(["b"])
        assert session.unacknowledged == ("sent",)
        session.withdraw(["b"])
        assert session.unacknowledged == ("sent",)


def test_branches_on_their_way_are_bounded() -> None:
    with use_context(RendezvousContext("r")) as session:
        assert session is not None
        session.begin(str(n) for n in range(10_000))
        with pytest.raises(LimitExceeded):
            session.begin(["one-more"])
        session.begin(["0"])  # no new one
        assert len(session.unacknowledged) == 10_000
