"""Concurrent writes on one stream, with a stream that is played by hand."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft.client import _pipeline
from rendezvous_raft.client._pipeline import Pipeline
from rendezvous_raft.errors import (
    BranchNotFound,
    DeadlineExceeded,
    Disconnected,
    Overloaded,
    PermissionDenied,
    Unavailable,
)


class Stream:
    """What grpc.aio gives for an Execute call, as far as the pipeline uses it."""

    def __init__(self) -> None:
        self.batches: list[pb.ExecuteRequest] = []
        self.responses: asyncio.Queue[pb.ExecuteResponse | BaseException | None] = asyncio.Queue()
        self.half_closed = False
        self.cancelled = False
        self.can_write = asyncio.Event()
        self.can_write.set()

    async def write(self, batch: pb.ExecuteRequest) -> None:
        copy = pb.ExecuteRequest()
        copy.CopyFrom(batch)
        self.batches.append(copy)
        await self.can_write.wait()

    async def done_writing(self) -> None:
        self.half_closed = True

    def cancel(self) -> bool:
        self.cancelled = True
        return True

    async def __aiter__(self) -> AsyncIterator[pb.ExecuteResponse]:
        while True:
            response = await self.responses.get()
            if response is None:
                return
            if isinstance(response, BaseException):
                raise response
            yield response

    def answer(self, *sequences: int, failure: pb.Failure | None = None) -> None:
        results = [
            pb.ExecuteResult(sequence=n, failure=failure)
            if failure
            else pb.ExecuteResult(sequence=n, close_branch=pb.CloseBranchResponse(revision=n))
            for n in sequences
        ]
        self.responses.put_nowait(pb.ExecuteResponse(results=results))

    def sizes(self) -> list[int]:
        return [len(batch.items) for batch in self.batches]


class Rig:
    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.pipeline = Pipeline(self._open)

    def _open(self, timeout_s: float) -> Any:
        self.streams.append(Stream())
        return self.streams[-1]

    @property
    def stream(self) -> Stream:
        return self.streams[-1]

    def start(self, count: int = 1, *, timeout_s: float = 30.0) -> list[asyncio.Task[Any]]:
        request = pb.CloseBranchRequest(close=pb.CloseSpec(branch_id="b"))
        return [
            asyncio.create_task(self.pipeline.execute("close_branch", request, timeout_s=timeout_s))
            for _ in range(count)
        ]


async def turns(count: int = 10) -> None:
    """Lets every ready task run; nothing here waits for time."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    await rig.pipeline.close()
    assert not rig.pipeline._streams
    assert all(stream.cancelled for stream in rig.streams)


async def test_a_write_is_sent_at_once_when_nothing_is_out(rig: Rig) -> None:
    (write,) = rig.start()
    await turns()
    assert rig.stream.sizes() == [1]
    rig.stream.answer(1)
    assert (await write).close_branch.revision == 1


async def test_writes_of_one_turn_share_a_batch(rig: Rig) -> None:
    writes = rig.start(50)
    await turns()
    assert rig.stream.sizes() == [50]
    rig.stream.answer(*range(50, 0, -1))
    assert [(await write).sequence for write in writes] == list(range(1, 51))


async def test_writes_gather_while_batches_are_out(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pipeline, "BATCHES_OUT_MAX", 4)
    monkeypatch.setattr(_pipeline, "BATCHES_UNPACED_MAX", 5)
    tasks = []
    for _ in range(_pipeline.BATCHES_OUT_MAX + 3):
        tasks += rig.start(2)
        await turns()
    out = _pipeline.BATCHES_OUT_MAX
    assert rig.stream.sizes() == [2] * out
    rig.stream.answer(1)  # half of the first batch is no reason yet
    await turns()
    assert rig.stream.sizes() == [2] * out
    rig.stream.answer(2)
    await turns()
    assert rig.stream.sizes() == [2] * out + [6]
    rig.stream.answer(*range(3, 2 * out + 7))
    await asyncio.gather(*tasks)


async def test_writes_gather_in_the_pause_after_a_batch_when_several_are_out(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = asyncio.Event()
    monkeypatch.setattr(_pipeline, "_pause", over.wait)
    unpaced = _pipeline.BATCHES_UNPACED_MAX
    writes = []
    for _ in range(unpaced + 3):
        writes += rig.start(1)
        await turns()
    assert rig.stream.sizes() == [1] * unpaced
    over.set()
    await turns()
    assert rig.stream.sizes() == [1] * unpaced + [3]
    rig.stream.answer(*range(1, unpaced + 4))
    await asyncio.gather(*writes)


async def test_batches_are_bounded_in_writes_and_bytes(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pipeline, "BATCH_WRITES_MAX", 3)
    writes = rig.start(7)
    await turns()
    assert rig.stream.sizes() == [3, 3, 1]
    monkeypatch.setattr(_pipeline, "BATCH_WRITES_MAX", 100)
    monkeypatch.setattr(_pipeline, "BATCH_BYTES_MAX", 1)
    writes += rig.start(1)
    await turns()
    assert rig.stream.sizes() == [3, 3, 1, 1]  # a larger single write travels alone
    rig.stream.answer(*range(1, 9))
    await asyncio.gather(*writes)


async def test_each_write_has_its_own_failure(rig: Rig) -> None:
    good, bad = rig.start(2)
    await turns()
    rig.stream.answer(2, failure=pb.Failure(code="branch_not_found", message="x", definite=True))
    rig.stream.answer(1)
    assert (await good).sequence == 1
    with pytest.raises(BranchNotFound):
        await bad


@pytest.mark.parametrize("status", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, None])
async def test_a_broken_stream_leaves_its_writes_in_doubt(
    rig: Rig, status: grpc.StatusCode | None
) -> None:
    sent = rig.start(2)
    await turns()
    rig.stream.can_write.clear()  # the next batch does not leave
    leaving = rig.start(1)
    await turns()
    waiting = rig.start(3)
    await turns()
    end = None if status is None else grpc.aio.AioRpcError(status, None, None, "gone")
    rig.stream.responses.put_nowait(end)
    for write in sent + leaving:
        with pytest.raises(Disconnected):
            await write
    for write in waiting:
        with pytest.raises(Unavailable, match="not sent"):
            await write
    (again,) = rig.start()
    await turns()
    assert len(rig.streams) == 2
    assert rig.stream.sizes() == [1]
    rig.stream.answer(7)
    await again


async def test_a_refusal_of_the_stream_reaches_the_writes_as_it_is(rig: Rig) -> None:
    (write,) = rig.start()
    await turns()
    status = grpc.StatusCode.PERMISSION_DENIED
    rig.stream.responses.put_nowait(grpc.aio.AioRpcError(status, None, None, "no"))
    with pytest.raises(PermissionDenied) as caught:
        await write
    assert caught.value.definite is False  # it may have been done before the stream ended


async def test_a_cancelled_write_leaves_nothing_behind(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pipeline, "BATCHES_OUT_MAX", 1)
    (sent,) = rig.start()
    await turns()
    waiting, following = rig.start(2)
    await turns()
    waiting.cancel()
    await turns()
    assert len(rig.pipeline._waiting) == 1
    sent.cancel()  # the only batch that is out ends with it
    await turns()
    assert rig.stream.sizes() == [1, 1]
    assert rig.stream.batches[1].items[0].sequence == 3
    rig.stream.answer(1, 3)  # an answer nobody waits for is ignored
    assert (await following).sequence == 3
    assert rig.pipeline._writes == 0


async def test_a_failure_that_a_cancelled_caller_does_not_see_is_not_logged(rig: Rig) -> None:
    """An application that ends cancels its tasks and closes the client in one turn."""
    logged: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
    (write,) = rig.start()
    await turns()
    assert rig.pipeline._stream is not None
    (sent,) = rig.pipeline._stream.out.values()
    sent.result.add_done_callback(lambda _, task=write: task.cancel())
    rig.stream.responses.put_nowait(None)
    await turns()
    assert write.cancelled()
    assert sent.result.done()
    assert not sent.result.cancelled()
    del write, sent  # and with it the failure
    gc.collect()
    assert logged == []


async def test_a_write_without_an_answer_ends_with_its_deadline(rig: Rig) -> None:
    (write,) = rig.start(timeout_s=0.01)
    with pytest.raises(DeadlineExceeded) as caught:
        await write
    assert caught.value.definite is False
    assert rig.stream.batches[0].HasField("timeout")


async def test_a_write_that_never_left_was_not_done(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pipeline, "BATCHES_OUT_MAX", 0)
    (write,) = rig.start(timeout_s=0.01)
    with pytest.raises(DeadlineExceeded) as caught:
        await write
    assert caught.value.definite is True
    assert rig.stream.sizes() == []


@pytest.mark.parametrize("result_first", [True, False])
async def test_a_result_that_comes_as_the_time_ends_is_the_result(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, result_first: bool
) -> None:
    """It was said of such a write that it certainly had not been done."""
    (write,) = rig.start(timeout_s=30.0)
    await turns()
    loop = asyncio.get_running_loop()
    late = loop.time() + 60.0
    monkeypatch.setattr(loop, "time", lambda: late)
    if result_first:  # the loop is told of it before the timer
        rig.stream.answer(1)
    else:  # the timer comes before what reads the stream
        loop.call_soon(rig.stream.answer, 1)
    assert (await write).close_branch.revision == 1
    assert rig.pipeline._writes == 0
    assert rig.pipeline._stream is not None
    assert rig.pipeline._stream.batches_out == 0


async def test_writes_are_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pipeline, "WRITES_MAX", 2)
    first = rig.start(2)
    await turns()
    (third,) = rig.start()
    with pytest.raises(Overloaded):
        await third
    assert rig.stream.sizes() == [2]
    rig.stream.answer(1, 2)
    await asyncio.gather(*first)


async def test_an_old_stream_runs_dry_beside_its_successor(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (old,) = rig.start()
    await turns()
    assert rig.pipeline._stream is not None
    rig.pipeline._stream.retire_at = 0.0
    (new,) = rig.start()
    await turns()
    first, second = rig.streams
    assert first.half_closed
    assert not first.cancelled
    assert (first.sizes(), second.sizes()) == ([1], [1])
    second.answer(2)
    assert (await new).sequence == 2
    first.answer(1)
    assert (await old).sequence == 1
    first.responses.put_nowait(None)
    await turns()
    assert first.cancelled
    (newer,) = rig.start()
    await turns()
    second.answer(3)
    await newer
    assert len(rig.streams) == 2


async def test_closing_fails_what_is_out() -> None:
    rig = Rig()
    (write,) = rig.start()
    await turns()
    await rig.pipeline.close()
    with pytest.raises(Disconnected, match="closed"):
        await write


async def test_closing_before_anything_ran_fails_what_waits() -> None:
    rig = Rig()
    (write,) = rig.start()
    await asyncio.sleep(0)
    await rig.pipeline.close()
    with pytest.raises(Unavailable, match="closed"):
        await write
    assert rig.stream.cancelled
