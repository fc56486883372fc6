"""Ids that the state numbers (semantics 5.4): never issued twice, the same for a retry."""

from __future__ import annotations

from core_builders import FOREVER_MS, R1, Log, branch

from rendezvous_raft.core import snapshot
from rendezvous_raft.core.commands import NewBranch, RegisterNumbered
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.core.results import Applied, BranchesRegistered, Reason, Rejected
from rendezvous_raft.limits import StateLimits
from rendezvous_raft.types import BranchId, CommandId, RequestId, Service

POST = NewBranch(BranchId(""), Service("post"))


def numbered(
    log: Log, *branches: NewBranch, request_id: str = "", prefix: str = "rv_n1", key: bytes = b""
) -> Applied:
    command_id = CommandId(key) if key else log.command_id()
    return log.apply(RegisterNumbered(command_id, RequestId(request_id), prefix, branches, 1))


def test_requests_are_numbered_per_prefix() -> None:
    # semantics: 5.4
    log = Log()
    issued = [numbered(log, prefix=p).result.request_id for p in ("rv_n1", "rv_n2", "rv_n1", "n1")]
    assert issued == ["rv_n1_0", "rv_n2_0", "rv_n1_1", "n1_0"]


def test_branches_are_numbered_in_their_request() -> None:
    # semantics: 5.4
    log = Log()
    first = numbered(log, POST, POST, request_id=R1).result
    second = numbered(log, POST, request_id=R1, prefix="rv_n2").result
    other = numbered(log, POST, request_id="r2").result
    assert first.branch_ids == ("rv_n1_0:r1", "rv_n1_1:r1")
    assert second.branch_ids == ("rv_n2_2:r1",)
    assert other.branch_ids == ("rv_n1_0:r2",)


def test_a_new_request_gets_its_branches_with_its_id() -> None:
    # semantics: 5.4
    own = NewBranch(BranchId("mine"), Service("post"))
    result = numbered(Log(), own, POST).result
    assert result == BranchesRegistered(
        RequestId("rv_n1_0"),
        (BranchId("mine:rv_n1_0"), BranchId("rv_n1_0:rv_n1_0")),
        already_existed=False,
    )


def test_what_clients_have_chosen_is_stepped_over() -> None:
    # semantics: 5.4
    log = Log()
    numbered(log, request_id="rv_n1_0")
    own = NewBranch(BranchId("rv_n1_2"), Service("post"))
    assert numbered(log).result.request_id == "rv_n1_1"
    assert numbered(log, POST, own, request_id=R1).result.branch_ids[0] == "rv_n1_0:r1"
    assert numbered(log, POST, request_id=R1).result.branch_ids == ("rv_n1_3:r1",)


def test_a_retry_gets_the_ids_of_the_first_attempt() -> None:
    # semantics: 5.4
    log = Log()
    first, again = (numbered(log, POST, key=b"attempt") for _ in range(2))
    assert first.result == again.result
    assert not again.events
    assert numbered(log, POST).result.request_id == "rv_n1_1"


def test_numbers_survive_a_snapshot_and_the_end_of_their_requests() -> None:
    # semantics: 5.4
    log = Log()
    numbered(log, POST)
    log.expire()
    log.expire(settled_ttl_ms=FOREVER_MS, open_ttl_ms=FOREVER_MS, tombstone_ttl_ms=0)
    machine = snapshot.load(snapshot.rows(log.machine.state))
    assert "rv_n1_0" not in machine.state.requests
    assert "rv_n1_0" not in machine.state.tombstones
    command = RegisterNumbered(CommandId(b"next"), RequestId(""), "rv_n1", (), 1)
    assert machine.apply(command).result.request_id == "rv_n1_1"


def test_a_rejected_registration_uses_up_no_number() -> None:
    # semantics: 5.4
    machine = StateMachine(StateLimits(requests_open_max=1))
    commands = [
        RegisterNumbered(CommandId(bytes([n])), RequestId(""), "rv_n1", (), 1) for n in range(2)
    ]
    machine.apply(commands[0])
    before = snapshot.digest(machine.state)
    assert machine.apply(commands[1]).result == Rejected(Reason.LIMIT, "requests_open_max")
    assert snapshot.digest(machine.state) == before
    assert machine.state.numbers == {"rv_n1": 1}


def test_an_expired_request_takes_no_branches() -> None:
    # semantics: 5.4
    log = Log()
    log.add(branch("b1", "eu"))
    log.expire()
    assert numbered(log, POST, request_id=R1).result == Rejected(Reason.REQUEST_EXPIRED, R1)
