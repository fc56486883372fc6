"""Group commit: what becomes one entry, and what is known of it when it fails (F15, F16)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import pytest
from batching_bench import Bench, failed

from rendezvous_raft import errors
from rendezvous_raft.limits import COMMAND_BYTES_MAX
from rendezvous_raft.testing.virtual_time import advance, in_virtual_time, now_s, settle


@in_virtual_time
async def test_the_commands_of_a_turn_are_one_entry_in_order() -> None:
    bench = Bench()
    calls = [bench.propose(bytes([i])) for i in range(5)]
    await settle()
    assert bench.taken == [[bytes([i]) for i in range(5)]]
    bench.apply(bench.batches[0])
    assert [(await call).revision for call in calls] == [1, 2, 3, 4, 5]
    assert len(bench.commits) == 0


@in_virtual_time
async def test_a_command_leaves_in_the_turn_in_which_it_came() -> None:
    bench = Bench()
    call = bench.propose()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert bench.taken == [[b"x"]]
    assert now_s() == 1_000
    call.cancel()


@in_virtual_time
async def test_an_entry_has_bounds() -> None:
    # semantics: L3
    bench = Bench(entry_commands_max=3, entries_unpaced_max=9, entries_in_flight_max=9)
    calls = [bench.propose(bytes([i])) for i in range(7)]
    await settle()
    assert [len(commands) for commands in bench.taken] == [3, 3, 1]
    for call in calls:
        call.cancel()


@in_virtual_time
async def test_an_entry_has_a_size_and_a_large_command_travels_alone() -> None:
    # semantics: L3
    bench = Bench(entry_bytes_max=10, entries_unpaced_max=9, entries_in_flight_max=9)
    sizes = (4, 6, 1, 30, 5, 5, 1)
    calls = [bench.propose(bytes(size)) for size in sizes]
    await settle()
    taken = [[len(command) for command in commands] for commands in bench.taken]
    assert taken == [[4, 6], [1], [30], [5, 5], [1]]
    for call in calls:
        call.cancel()


@in_virtual_time
async def test_few_entries_are_out_and_the_next_one_grows_meanwhile() -> None:
    bench = Bench(entries_unpaced_max=2, entries_in_flight_max=2)
    calls = []
    for number in range(6):
        calls.append(await bench.on_its_way(bytes([number])))
    assert bench.taken == [[b"\0"], [b"\1"]]
    await advance(1)
    assert len(bench.taken) == 2
    bench.apply(bench.batches[0])
    await settle()
    assert bench.taken[2:] == [[b"\2", b"\3", b"\4", b"\5"]]
    for batch in bench.batches[1:]:
        bench.apply(batch)
    assert [(await call).revision for call in calls] == [1, 2, 3, 4, 5, 6]


@in_virtual_time
async def test_across_regions_more_entries_follow_each_after_a_pause() -> None:
    bench = Bench(entries_unpaced_max=1, entries_in_flight_max=3)
    calls = [await bench.on_its_way(bytes([number])) for number in range(2)]
    assert bench.taken == [[b"\0"]]
    await advance(0.01)
    assert bench.taken == [[b"\0"], [b"\1"]]
    calls += [await bench.on_its_way(b"\2")]
    await advance(0.01)
    calls += [await bench.on_its_way(b"\3")]
    await advance(1)
    assert bench.taken == [[b"\0"], [b"\1"], [b"\2"]]
    bench.commits.fail_all(errors.Draining("end"), errors.OutcomeUnknown("end"))
    for call in calls:
        await failed(call)


@in_virtual_time
async def test_a_command_that_is_too_large_is_refused() -> None:
    # semantics: L3, G6
    bench = Bench()
    error = await failed(bench.propose(bytes(COMMAND_BYTES_MAX + 1)))
    assert isinstance(error, errors.LimitExceeded)
    assert error.details == {"limit": "command_bytes_max", "value": str(COMMAND_BYTES_MAX + 1)}
    call = await bench.on_its_way(bytes(COMMAND_BYTES_MAX))
    bench.apply(bench.batches[0])
    await call


@in_virtual_time
async def test_proposals_are_bounded() -> None:
    # semantics: L3, G6
    bench = Bench(proposals_in_flight_max=2, entries_unpaced_max=1, entries_in_flight_max=1)
    calls = [await bench.on_its_way() for _ in range(2)]
    assert len(bench.commits) == 2
    error = await failed(bench.propose())
    assert isinstance(error, errors.Overloaded)
    assert error.definite
    bench.apply(bench.batches[0])
    await advance(0.01)
    bench.apply(bench.batches[1])
    for call in calls:
        await call


@in_virtual_time
async def test_callers_who_are_all_back_at_once_wait_for_nothing() -> None:
    bench = Bench()
    calls = [bench.propose(bytes([number])) for number in range(8)]
    await settle()
    for _ in range(3):
        bench.apply(bench.batches[-1])
        calls += [bench.propose(bytes([number])) for number in range(8)]
        await settle()
    assert [len(commands) for commands in bench.taken] == [8, 8, 8, 8]
    assert now_s() == 1_000
    for call in calls:
        call.cancel()


@in_virtual_time
async def test_callers_who_come_back_one_by_one_travel_together() -> None:
    bench = Bench()
    calls = [bench.propose(bytes([number])) for number in range(8)]
    await settle()
    bench.apply(bench.batches[0])
    for number in range(8):
        calls.append(await bench.on_its_way(bytes([number])))
        await advance(0.0005)
    assert [len(commands) for commands in bench.taken] == [8]
    await advance(0.01)
    assert [len(commands) for commands in bench.taken] == [8, 8]
    for call in calls:
        call.cancel()


@in_virtual_time
async def test_a_single_caller_never_waits() -> None:
    bench = Bench()
    for number in range(5):
        call = await bench.on_its_way(bytes([number]))
        bench.apply(bench.batches[-1])
        await call
    assert [len(commands) for commands in bench.taken] == [1] * 5
    assert now_s() == 1_000


@in_virtual_time
async def test_what_was_never_sent_fails_definitely_with_a_reason() -> None:
    # semantics: G6
    bench = Bench()
    bench.taking = False
    error = await failed(bench.propose(seconds=3))
    assert isinstance(error, errors.NoLeader)
    assert error.definite
    bench.commits.explain_waiting(lambda: errors.ReadOnly("full"))
    assert isinstance(await failed(bench.propose(seconds=3)), errors.ReadOnly)
    assert now_s() == pytest.approx(1_006, abs=0.3)
    assert len(bench.commits) == 0


@in_virtual_time
async def test_what_was_sent_fails_indefinitely() -> None:
    # semantics: G6
    bench = Bench()
    error = await failed(bench.propose(seconds=3))
    assert isinstance(error, errors.ProposalTimeout)
    assert not error.definite
    assert error.retryable
    assert now_s() == pytest.approx(1_003, abs=0.2)


@in_virtual_time
async def test_what_waits_behind_a_full_window_fails_definitely() -> None:
    # semantics: G6
    bench = Bench(entries_unpaced_max=1, entries_in_flight_max=1)
    sent = await bench.on_its_way(seconds=30)
    assert (await failed(bench.propose(seconds=3))).definite
    bench.apply(bench.batches[0])
    await sent
    assert len(bench.taken) == 1


@in_virtual_time
async def test_a_batch_that_nobody_waits_for_gives_its_place_away() -> None:
    bench = Bench(entries_unpaced_max=1, entries_in_flight_max=1)
    await failed(bench.propose(b"lost", seconds=3))
    call = await bench.on_its_way(b"next")
    assert bench.taken == [[b"lost"], [b"next"]]
    bench.apply(bench.batches[0])  # late, and nobody's any more
    assert not call.done()
    bench.apply(bench.batches[1])
    await call


@in_virtual_time
async def test_it_is_sent_when_somebody_can_take_it() -> None:
    bench = Bench()
    bench.taking = False
    calls = [await bench.on_its_way(b"a"), await bench.on_its_way(b"b")]
    await advance(2)
    bench.taking = True
    bench.commits.wake()
    await settle()
    assert bench.taken == [[b"a", b"b"]]
    bench.apply(bench.batches[0])
    await asyncio.gather(*calls)


@in_virtual_time
async def test_a_cancel_before_the_sending_leaves_nothing() -> None:
    # semantics: G7
    bench = Bench()
    bench.taking = False
    gone, stays = await bench.on_its_way(b"gone"), await bench.on_its_way(b"stays")
    gone.cancel()
    await settle()
    bench.taking = True
    bench.commits.wake()
    await settle()
    assert bench.taken == [[b"stays"]]
    bench.apply(bench.batches[0])
    assert (await stays).revision == 1


@in_virtual_time
async def test_if_all_cancelled_nothing_is_sent() -> None:
    # semantics: G7
    bench = Bench()
    bench.taking = False
    calls = [await bench.on_its_way() for _ in range(3)]
    for call in calls:
        call.cancel()
    bench.taking = True
    bench.commits.wake()
    await advance(1)
    assert bench.taken == []
    assert len(bench.commits) == 0
    assert bench.commits._timer is None


@in_virtual_time
async def test_a_cancel_after_the_sending_disturbs_no_other_one() -> None:
    bench = Bench()
    gone, stays = bench.propose(b"gone"), bench.propose(b"stays")
    await settle()
    gone.cancel()
    await settle()
    bench.apply(bench.batches[0])
    assert (await stays).revision == 2


@in_virtual_time
async def test_the_end_is_definite_for_what_waits_and_unknown_for_the_rest() -> None:
    # semantics: G6
    bench = Bench(entries_unpaced_max=1, entries_in_flight_max=1)
    sent, waiting = await bench.on_its_way(), await bench.on_its_way()
    bench.commits.fail_all(errors.Draining("end"), errors.OutcomeUnknown("end"))
    assert type(await failed(sent)) is errors.OutcomeUnknown
    assert type(await failed(waiting)) is errors.Draining
    assert len(bench.commits) == 0
    assert bench.commits._timer is None


@in_virtual_time
async def test_nothing_is_left_to_do_when_all_is_answered() -> None:
    bench = Bench()
    call = await bench.on_its_way()
    bench.apply(bench.batches[0])
    await call
    await advance(1)
    assert bench.commits._timer is None
    assert bench.commits._pace is None


@in_virtual_time
async def test_what_concerns_no_batch_changes_nothing() -> None:
    bench = Bench()
    bench.commits.applied(99, [])
    bench.commits.returned(99)
    bench.commits.resend()
    bench.commits.wake()
    await settle()
    assert bench.taken == []
    assert len(bench.commits) == 0


def test_a_test_in_virtual_time_is_run() -> None:
    """The decorator runs the coroutine; otherwise nothing above would prove anything."""
    ran: list[int] = []

    @in_virtual_time
    async def check() -> None:
        ran.append(1)

    coroutine: Coroutine[object, object, None] | None = check()
    assert coroutine is None
    assert ran == [1]
