"""What is sent again, and what certainly came to nothing (F15; semantics G2, G6)."""

from __future__ import annotations

from batching_bench import Bench, failed

from rendezvous_raft.testing.virtual_time import advance, in_virtual_time, settle


@in_virtual_time
async def test_a_returned_batch_is_unsent_again_and_first_in_the_queue() -> None:
    """F15: a refusal is definite."""
    bench = Bench(entries_unpaced_max=1, entries_in_flight_max=1)
    first = await bench.on_its_way(b"a", seconds=3)
    second = await bench.on_its_way(b"b", seconds=3)
    bench.taking = False
    bench.commits.returned(bench.batches[0].sequence)
    bench.taking = True
    bench.commits.wake()
    await settle()
    assert bench.taken == [[b"a"], [b"a", b"b"]]
    bench.taking = False
    bench.commits.returned(bench.batches[1].sequence)
    for call in (first, second):
        assert (await failed(call)).definite


@in_virtual_time
async def test_a_returned_batch_that_was_sent_twice_stays_unknown() -> None:
    """The other sending may be in somebody's log."""
    # semantics: G6
    bench = Bench()
    call = await bench.on_its_way(seconds=3)
    bench.commits.resend()
    assert bench.taken == [[b"x"], [b"x"]]
    bench.taking = False
    bench.commits.returned(bench.batches[0].sequence)
    assert not (await failed(call)).definite


@in_virtual_time
async def test_each_sending_must_be_returned() -> None:
    # semantics: G6
    bench = Bench()
    call = await bench.on_its_way(seconds=3)
    bench.commits.resend()
    first = bench.batches[0]
    assert first.proposals[0].sendings == 2
    bench.commits.returned(first.sequence)
    await settle()
    bench.commits.wake()
    await settle()
    again = bench.batches[-1]
    assert again is not first
    bench.taking = False
    bench.commits.returned(again.sequence)
    error = await failed(call)
    # The new batch was refused, but the first sending of the old one never was.
    assert not error.definite


@in_virtual_time
async def test_the_first_of_two_sendings_answers() -> None:
    # semantics: G2, 5.3
    bench = Bench()
    call = await bench.on_its_way()
    bench.commits.resend()
    (batch, again) = bench.batches
    assert batch is again
    bench.apply(batch)
    assert (await call).revision == 1
    bench.apply(batch)


@in_virtual_time
async def test_a_resend_keeps_its_sequence_and_stops_where_nothing_is_taken() -> None:
    bench = Bench(entries_unpaced_max=9, entries_in_flight_max=9)
    calls = [await bench.on_its_way(bytes([number]), seconds=3) for number in range(3)]
    bench.commits.resend()
    assert [batch.sequence for batch in bench.batches] == [1, 2, 3, 1, 2, 3]
    bench.taking = False
    bench.commits.resend()
    assert all(batch.proposals[0].sendings == 2 for batch in bench.batches)
    for call in calls:
        assert not (await failed(call)).definite


@in_virtual_time
async def test_what_had_no_room_is_sent_again_when_there_is_some() -> None:
    """A new leader takes a window of what is on its way, and the rest when that is through."""
    # semantics: G2, 5.3
    bench = Bench(entries_unpaced_max=9, entries_in_flight_max=9)
    calls = [await bench.on_its_way(bytes([number])) for number in range(5)]
    bench.room = 2
    bench.commits.resend()
    new = bench.propose(b"new")
    await settle()
    assert [batch.sequence for batch in bench.batches[5:]] == [1, 2]
    bench.room = None
    bench.commits.wake()
    await settle()
    assert [batch.sequence for batch in bench.batches[5:]] == [1, 2, 3, 4, 5, 6]
    assert bench.taken[-1] == [b"new"]
    for batch in bench.batches[5:]:
        bench.apply(batch)
    assert [(await call).revision for call in (*calls, new)] == [1, 2, 3, 4, 5, 6]


@in_virtual_time
async def test_room_that_nobody_tells_of_is_found_by_and_by() -> None:
    # semantics: G2, 5.3
    bench = Bench(entries_unpaced_max=9, entries_in_flight_max=9)
    for number in range(3):
        await bench.on_its_way(bytes([number]))
    bench.room = 1
    bench.commits.resend()
    bench.room = None
    await advance(0.2)
    assert [batch.sequence for batch in bench.batches[3:]] == [1, 2, 3]
    bench.apply(bench.batches[0])
    bench.room = 0
    bench.commits.resend()
    bench.apply(bench.batches[1])
    bench.room = None
    await advance(0.2)
    assert [batch.sequence for batch in bench.batches[6:]] == [3], "the others were answered"
