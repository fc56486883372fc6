"""What is remembered for a while goes oldest first, and finding the oldest costs nothing."""

from __future__ import annotations

from collections import OrderedDict

from rendezvous_raft.core import snapshot
from rendezvous_raft.core.commands import RegisterRequest
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.limits import StateLimits
from rendezvous_raft.types import CommandId, RequestId


def test_the_oldest_answers_go_first() -> None:
    machine = StateMachine(StateLimits(command_results_max=3))
    for number in range(5):
        command_id = CommandId(bytes([number]))
        machine.apply(RegisterRequest(command_id, RequestId(f"r{number}"), 1))
    assert list(machine.state.results) == [bytes([2]), bytes([3]), bytes([4])]


def test_what_evicts_its_oldest_is_no_plain_dict() -> None:
    """A `dict` that is emptied from the front keeps the places, and looks at each of them again.

    With 65,536 answers kept, that was ten times the work of the command itself.
    """
    state = StateMachine().state
    loaded = snapshot.load(snapshot.rows(state)).state
    for one in (state, loaded):
        assert type(one.results) is OrderedDict
        assert type(one.tombstones) is OrderedDict
