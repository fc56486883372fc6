from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_cluster import Invoke

from rendezvous_raft.cli import demo as demo_command
from rendezvous_raft.cli.demo_progress import DemoBar
from rendezvous_raft.cli.exits import ExitCode
from rendezvous_raft.devcluster.demo import DemoProgress, DemoReport, DemoSettings, RunReport
from rendezvous_raft.devcluster.geo_store import GeoStoreError
from rendezvous_raft.devcluster.post_notification import RunTraces
from rendezvous_raft.devcluster.post_traces import PostTrace, summarize

PNG = b"\x89PNG\r\n"
Perform = Callable[..., None]


def run_report(*, guarded: bool, consistent: bool, timed_out: bool = False) -> RunReport:
    traces = tuple(
        PostTrace(
            post_id=f"p{number}",
            write_started_at_s=100.0 + number,
            written_at_s=100.01 + number,
            notified_at_s=100.05 + number,
            released_at_s=100.21 + number,
            visible_at_s=100.2 + number,
            consistent=consistent,
            prevented=guarded,
            timed_out=timed_out,
        )
        for number in range(4)
    )
    return RunReport(summarize(traces, guarded=guarded), RunTraces(traces, ()))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[DemoSettings]:
    """What the command asked for; the demonstration succeeds at once."""
    monkeypatch.chdir(tmp_path)
    settings_seen: list[DemoSettings] = []

    async def perform(
        settings: DemoSettings, *, directory: Path, progress: DemoProgress
    ) -> DemoReport:
        assert directory.is_dir()
        settings_seen.append(settings)
        progress.phase("pretending", 1)
        progress.step()
        guarded = run_report(guarded=True, consistent=True)
        return DemoReport(
            settings,
            run_report(guarded=False, consistent=False),
            guarded if settings.with_rendezvous else None,
            "eu",
            (),
        )

    monkeypatch.setattr(demo_command, "run_demo", perform)
    return settings_seen


def fail_with(
    monkeypatch: pytest.MonkeyPatch, outcome: Callable[[DemoSettings], DemoReport]
) -> None:
    async def perform(settings: DemoSettings, **_: object) -> DemoReport:
        return outcome(settings)

    monkeypatch.setattr(demo_command, "run_demo", perform)


def test_a_good_demo_exits_0_with_table_plot_and_numbers(
    invoke: Invoke, asked: list[DemoSettings], tmp_path: Path
) -> None:
    outcome = invoke("demo --posts 4 --seed 9 --json out.json")
    assert outcome.exit_code == ExitCode.OK, outcome.output
    assert "inconsistent reads\t4 (100.0 %)\t0 (0.0 %)" in outcome.stdout
    assert "prevented inconsistencies\t0\t4" in outcome.stdout
    assert "latency added beyond it p50/mean/p99\t-\t10.0 / 10.0 / 10.0 ms" in outcome.stdout
    assert (tmp_path / "rendezvous-demo.png").read_bytes().startswith(PNG)
    numbers = json.loads((tmp_path / "out.json").read_text())
    assert numbers["ok"] is True
    assert numbers["settings"]["seed"] == 9
    assert numbers["versions"]["python"]
    assert numbers["runs"]["with"]["summary"]["prevented"] == 4
    post = numbers["runs"]["without"]["posts"][1]
    assert post["post_id"] == "p1"
    assert post["write_started_at_s"] == 1.0
    assert post["visible_at_s"] == 1.2


def test_defaults_are_the_documented_ones(invoke: Invoke, asked: list[DemoSettings]) -> None:
    invoke("demo")
    (settings,) = asked
    assert settings.regions == ("eu", "us", "ap")
    assert settings.latencies.as_table() == {"eu-us": 80, "ap-eu": 160, "ap-us": 140}
    assert (settings.posts, settings.rate_per_s, settings.datastore) == (1000, 200, "embedded")
    assert (settings.lag_median_ms, settings.lag_p99_ms) == (200, 500)


def test_distances_given_win_over_the_usual_ones(invoke: Invoke, asked: list[DemoSettings]) -> None:
    invoke("demo --regions eu,us,mars --rtt-ms us-eu=10,eu-mars=4000 --datastore redis")
    (settings,) = asked
    assert settings.latencies.rtt_ms("eu", "us") == 10
    assert settings.latencies.rtt_ms("eu", "mars") == 4000
    assert settings.latencies.rtt_ms("us", "mars") == 80
    assert settings.lag_p99_ms == settings.lag_median_ms


def test_only_the_anomaly(invoke: Invoke, asked: list[DemoSettings], tmp_path: Path) -> None:
    outcome = invoke("demo --no-rendezvous --plot only.png -o json")
    assert outcome.exit_code == ExitCode.OK
    shown = json.loads(outcome.stdout)
    assert shown["runs"]["with"] is None
    assert "posts" not in shown["runs"]["without"]  # the raw series are for --json FILE
    assert (tmp_path / "only.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    "faulty",
    [
        "--regions eu,us",
        "--regions eu,eu,us",
        "--rtt-ms eu-mars=1",
        "--rtt-ms eu-us=fast",
        "--posts 0",
        "--rate 0",
        "--lag-median-ms 100 --lag-p99-ms 50",
        "--datastore paper",
    ],
)
def test_faulty_settings_are_usage_errors(
    invoke: Invoke, asked: list[DemoSettings], faulty: str
) -> None:
    assert invoke(f"demo {faulty}").exit_code == ExitCode.USAGE
    assert asked == []


def test_time_outs_fail_the_demo(
    invoke: Invoke, asked: list[DemoSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(
        monkeypatch,
        lambda settings: DemoReport(
            settings,
            run_report(guarded=False, consistent=False),
            run_report(guarded=True, consistent=True, timed_out=True),
            "eu",
            (),
        ),
    )
    outcome = invoke("demo")
    assert outcome.exit_code == ExitCode.FAILED
    assert "failed: with Rendezvous: 4 waits timed out" in outcome.stderr


def test_a_demo_that_shows_no_anomaly_fails(
    invoke: Invoke, asked: list[DemoSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(
        monkeypatch,
        lambda settings: DemoReport(
            settings,
            run_report(guarded=False, consistent=True),
            run_report(guarded=True, consistent=True),
            "eu",
            (),
        ),
    )
    outcome = invoke("demo")
    assert outcome.exit_code == ExitCode.FAILED
    assert "nothing was shown" in outcome.stderr


def test_a_store_that_does_not_start_is_explained(
    invoke: Invoke, asked: list[DemoSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: DemoSettings) -> DemoReport:
        raise GeoStoreError("redis-server is not installed")

    fail_with(monkeypatch, refuse)
    outcome = invoke("demo --datastore redis")
    assert outcome.exit_code == ExitCode.FAILED
    assert outcome.stderr.startswith("error: redis-server is not installed")
    assert "--datastore embedded" in outcome.stderr


def test_the_bar_shows_phases_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with DemoBar(color=False) as bar:
        bar.phase("starting", 0)
        bar.phase("with Rendezvous", 2)
        bar.step()
        bar.step()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "with Rendezvous" in shown.err
    assert "2/2" in shown.err
