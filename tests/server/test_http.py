"""The HTTP surface."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest
from front_end import FrontEnd, failure_of

from rendezvous_raft import errors
from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb


@pytest.fixture
async def http(front: FrontEnd) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(front.http_url) as session:
        yield session


async def get(http: aiohttp.ClientSession, path: str) -> tuple[int, str]:
    async with http.get(path) as response:
        return response.status, await response.text()


async def test_health(front: FrontEnd, http: aiohttp.ClientSession) -> None:
    assert await get(http, "/livez") == (200, "[+]loop ok\n[+]engine ok\nok\n")
    assert (await get(http, "/readyz"))[0] == 200
    front.node.cluster_status = replace(
        front.node.cluster_status, leader=None, halted="unknown command v3"
    )
    status, text = await get(http, "/readyz")
    assert status == 503
    assert "[-]raft no leader\n" in text
    assert "[-]halted unknown command v3\n" in text
    assert (await get(http, "/readyz?exclude=raft&exclude=halted"))[0] == 200
    assert (await get(http, "/livez"))[0] == 200
    assert "term 3 leader None revision 41" in (await get(http, "/readyz?verbose"))[1]


async def test_statusz(front: FrontEnd, http: aiohttp.ClientSession) -> None:
    status, text = await get(http, "/statusz")
    page = json.loads(text)
    assert status == 200
    assert {
        "name": "n1",
        "region": "eu",
        "pid": os.getpid(),
        "role": "follower",
        "term": 3,
        "revision": 41,
        "leader": "n2",
        "cluster_id": "rendezvous",
        "commit_index": 50,
        "applied_index": 50,
        "durability": "disk",
        "draining": False,
        "halted": None,
    }.items() <= page.items()
    assert {"version", "python", "uptime_s", "config"} <= page.keys()
    assert page["counts"]["branches_open_by_region"] == {"eu": 2, "us": 1}
    assert page["limits"]["id_bytes_max"] == 128
    assert page["limits"]["waiters_max"] == front.node.limits.waiters_max
    assert [member["role"] for member in page["members"]] == ["follower", "leader"]
    assert page["commands"] == {"version": 1, "known_to_all": 1}
    assert page["groups"] == [
        {"service": "post", "region": "eu", "group": "g", "members": 2},
    ]
    assert page["subscribers"] == [{"service": "post", "region": "eu", "count": 1}]


async def test_a_node_without_a_leader_says_null(
    front: FrontEnd, http: aiohttp.ClientSession
) -> None:
    front.node.cluster_status = replace(front.node.cluster_status, leader=None)
    assert json.loads((await get(http, "/statusz"))[1])["leader"] is None


async def test_a_request(front: FrontEnd, http: aiohttp.ClientSession) -> None:
    """An id may have slashes; the answer is what this node has, without asking others."""
    status, text = await get(http, "/requests/a/b:c@d")
    assert status == 200
    assert json.loads(text)["request_id"] == "a/b:c@d"
    (call,) = front.node.calls
    assert call.options["freshness"].consistency.value == "local"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.RequestNotFound("unknown"), 404),
        (errors.RequestExpired("gone"), 410),
        (errors.NotReady("starting"), 503),
        (errors.DeadlineExceeded("late", definite=True), 504),
        (errors.InternalError("oops"), 500),
    ],
)
async def test_a_request_that_cannot_be_shown(
    front: FrontEnd, http: aiohttp.ClientSession, error: errors.RendezvousError, expected: int
) -> None:
    front.node.answers["describe"] = error
    status, text = await get(http, "/requests/r")
    assert status == expected
    assert json.loads(text)["code"] == error.code


async def test_an_id_from_a_url_is_checked(front: FrontEnd, http: aiohttp.ClientSession) -> None:
    status, text = await get(http, "/requests/%3Cscript%3E")
    assert status == 400
    assert json.loads(text)["details"] == {"field": "request_id"}
    assert front.node.calls == []


async def test_metrics(front: FrontEnd, http: aiohttp.ClientSession) -> None:
    async with http.get("/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain")
        text = await response.text()
    assert 'rendezvous_branches_open{region="eu"} 2.0\n' in text
    assert "rendezvous_raft_has_leader 1.0\n" in text


async def test_the_index_links_to_the_rest(http: aiohttp.ClientSession) -> None:
    async with http.get("/") as response:
        text = await response.text()
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    for path in ("/livez", "/readyz", "/statusz", "/metrics"):
        assert f'href="{path}' in text
    assert (await get(http, "/nowhere"))[0] == 404


async def test_nothing_can_be_changed_here(http: aiohttp.ClientSession) -> None:
    for path in ("/", "/statusz", "/requests/r", "/metrics"):
        async with http.post(path) as response:
            assert response.status == 405


async def test_calls_are_counted_by_method_and_status(
    front: FrontEnd, http: aiohttp.ClientSession
) -> None:
    front.node.answers["register_request"] = errors.RequestExpired("gone")
    for _ in range(2):
        await front.stub.CheckRequest(pb.CheckRequestRequest(request_id="r"))
    await failure_of(front.stub.RegisterRequest(pb.RegisterRequestRequest(request_id="r")))
    _, text = await get(http, "/metrics")
    service = 'grpc_service="rendezvous.v1.MetadataService"'
    for method, code, count in (
        ("CheckRequest", "OK", 2),
        ("RegisterRequest", "FAILED_PRECONDITION", 1),
    ):
        labels = f'grpc_code="{code}",grpc_method="{method}",{service}'
        assert f"rendezvous_grpc_server_handled_total{{{labels}}} {count}.0\n" in text
        labels = f'grpc_method="{method}",{service}'
        assert f"rendezvous_grpc_server_started_total{{{labels}}} {count}.0\n" in text
        assert f"rendezvous_grpc_server_handling_seconds_count{{{labels}}} {count}.0\n" in text
