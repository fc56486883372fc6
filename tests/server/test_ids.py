"""Ids that the front end chooses are the same for every attempt (semantics G2)."""

from __future__ import annotations

import grpc
import pytest
from front_end import FrontEnd, failure_of

from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft.server.ids import DerivedIds

KEY = (("rendezvous-idempotency-key", "order-7"),)
BRANCH = pb.BranchSpec(service="post")
REGISTER = pb.RegisterBranchRequest(branch=BRANCH)


async def test_without_a_key_ids_are_new(front: FrontEnd) -> None:
    # semantics: G2.4
    first = await front.stub.RegisterBranch(REGISTER)
    second = await front.stub.RegisterBranch(REGISTER)
    ids = {first.request_id, first.branch_id, second.request_id, second.branch_id}
    assert len(ids) == 4
    assert all("chosen" in chosen for chosen in ids)


async def test_with_a_key_every_attempt_carries_the_same_ids(front: FrontEnd) -> None:
    # semantics: G2.3
    first = await front.stub.RegisterBranch(REGISTER, metadata=KEY)
    second = await front.stub.RegisterBranch(REGISTER, metadata=KEY)
    assert first == second
    assert front.node.ids.count == 0
    one, two = front.node.arguments("register_branches")
    assert one == two


async def test_derived_ids_never_change(front: FrontEnd) -> None:
    """A retry may reach a node of a newer release: these values are part of the protocol."""
    # semantics: G2.3
    response = await front.stub.RegisterBranch(REGISTER, metadata=KEY)
    assert response.request_id == "r-81e19f04cfe9aee117189414766b7a81"
    assert response.branch_id == "b-4424a81ce68665c74efbe6def5c8fcfb"


async def test_branches_of_one_call_get_different_ids(front: FrontEnd) -> None:
    # semantics: G2.3
    request = pb.RegisterBranchesRequest(branches=[BRANCH] * 20)
    response = await front.stub.RegisterBranches(request, metadata=KEY)
    assert len({response.request_id, *response.branch_ids}) == 21


async def test_methods_and_keys_do_not_share_ids(front: FrontEnd) -> None:
    # semantics: G2.3
    other = (("rendezvous-idempotency-key", "order-8"),)
    ids = {
        (await front.stub.RegisterRequest(pb.RegisterRequestRequest(), metadata=KEY)).request_id,
        (await front.stub.RegisterBranch(REGISTER, metadata=KEY)).request_id,
        (await front.stub.RegisterBranch(REGISTER, metadata=other)).request_id,
    }
    assert len(ids) == 3


async def test_given_ids_win_over_the_key(front: FrontEnd) -> None:
    # semantics: G2.3
    request = pb.RegisterBranchRequest(
        request_id="r", branch=pb.BranchSpec(service="post", branch_id="b")
    )
    response = await front.stub.RegisterBranch(request, metadata=KEY)
    assert (response.request_id, response.branch_id) == ("r", "b")


@pytest.mark.parametrize("key", ["", "a b", "k" * 129])
async def test_a_key_is_checked_like_an_id(front: FrontEnd, key: str) -> None:
    # semantics: G1, G2.3
    metadata = (("rendezvous-idempotency-key", key),)
    error = await failure_of(front.stub.RegisterBranch(REGISTER, metadata=metadata))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    trailing = dict(error.trailing_metadata())
    assert trailing["rendezvous-detail-field"] == "rendezvous-idempotency-key"
    assert front.node.calls == []


async def test_items_of_a_stream_get_ids_by_their_sequence(front: FrontEnd) -> None:
    """A stream that is repeated after it broke carries the same sequences."""
    # semantics: G2.3, W7
    items = [pb.ExecuteItem(sequence=i, register_branch=REGISTER) for i in (1, 2)]
    seen = []
    for _ in range(2):
        call = front.stub.Execute(metadata=KEY)
        await call.write(pb.ExecuteRequest(items=items))
        await call.done_writing()
        results = [result async for response in call for result in response.results]
        seen.append({result.sequence: result.register_branch.branch_id for result in results})
    assert seen[0] == seen[1]
    assert len(set(seen[0].values())) == 2


def test_derived_ids_are_ids() -> None:
    ids = DerivedIds(key="k" * 128, place="RegisterBranches 18446744073709551615")
    assert len(ids.branch_id(999)) == len(ids.request_id()) == 34
