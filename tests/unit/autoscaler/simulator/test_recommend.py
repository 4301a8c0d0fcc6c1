"""Settings are swept and compared, and the cheapest that keeps the promise is what the command gives."""

import asyncio
import json
import random
from bisect import bisect_right
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from autoscaler.__main__ import main
from autoscaler.config import WorkerSection
from autoscaler.past import Past
from autoscaler.simulator.contenders import contender
from autoscaler.simulator.engine import simulate
from autoscaler.simulator.loads import Load, load_of
from autoscaler.simulator.rebuild import rebuild
from autoscaler.simulator.recommend import candidates, cheapest, nearest, sweep, values
from autoscaler.simulator.setting import Setting
from tests.unit.autoscaler.fake_prometheus import FakePrometheus, serving
from tests.unit.autoscaler.played_past import course, remembers, tasks

SETTING = Setting(slo=30, concurrency=4, boot=20, max_workers=20)
WORKERS = ("--slo", "30", "--concurrency", "4", "--boot", "20")


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.csv"
    rows = "".join(f"{n / 4},{5 + n % 3}\n" for n in range(400))
    path.write_text("arrival_seconds,service_seconds\n" + rows)
    return path


@pytest.fixture
async def fake() -> AsyncIterator[FakePrometheus]:
    async with serving() as fake:
        yield fake


async def command(*options: str) -> None:
    await asyncio.to_thread(main, ["recommend", *WORKERS, *options])


LOAD = load_of("minute", [(n / 10, 5.0) for n in range(600)])


def test_a_dozen_settings_are_tried_of_both_policies_and_around_the_promise() -> None:
    scales = [one.scale for one in candidates(SETTING, 5.0)]
    assert len(scales) <= 12
    assert {scale.policy for scale in scales} == {"slo", "threshold"}
    promises = [scale.slo_seconds for scale in scales if scale.policy == "slo"]
    assert min(promises) < SETTING.slo < max(promises)
    assert SETTING.slo in promises
    targets = [scale.target_backlog_per_worker for scale in scales if scale.policy == "threshold"]
    assert (min(targets), max(targets)) == (4, 16)  # in half of the promise a slot ends three tasks


def test_on_the_frontier_less_lateness_costs_more() -> None:
    outcomes = sweep(LOAD, candidates(SETTING, 5.0), SETTING)
    costs = [one.cost for one in outcomes if one.on_frontier]
    assert all(hours < more and late > less for (hours, late), (more, less) in pairwise(costs))
    others = [one.cost for one in outcomes if not one.on_frontier]
    assert all(any(hours <= more and late <= less for hours, late in costs) for more, less in others)


def test_the_cheapest_that_keeps_the_promise_is_taken() -> None:
    outcomes = sweep(LOAD, candidates(SETTING, 5.0), SETTING)
    best = cheapest(outcomes)
    assert best is not None
    assert best.row["late_percent"] <= 5  # type: ignore[operator]
    assert all(one.cost >= best.cost for one in outcomes if one.keeps)


def test_if_none_keeps_it_the_nearest_says_what_could_be_kept() -> None:
    hard = Setting(slo=2, concurrency=1, boot=60)
    outcomes = sweep(LOAD, candidates(hard, 5.0), hard)
    assert cheapest(outcomes) is None
    assert nearest(outcomes).kept_seconds == min(one.kept_seconds for one in outcomes) > 2


@pytest.mark.parametrize("name", ["default", "12", "0x1f", "on", "null", "2026-11-29"])
def test_the_lines_of_values_are_what_was_simulated(name: str) -> None:
    for one in candidates(SETTING, 5.0):
        found = msgspec.yaml.decode(values(one.scale, name, ["a b", "q"], 4))
        pool = msgspec.convert(found["worker"], WorkerSection).pools[name]
        assert (pool.autoscale, pool.queues, pool.concurrency) == (one.scale, ("a b", "q"), 4)


async def test_of_a_file_it_prints_the_frontier_and_the_lines_to_paste(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await command("--trace", str(trace), "--pool", "mail", "--max", "30")
    out, err = capsys.readouterr()
    assert err == ""  # nobody watches
    page, _, lines = out.partition("\nworker:\n")
    assert "400 tasks in 0.0277 h, of 6 s" in page
    assert "95 % of all tasks start within 30 s at the least cost with " in page
    pool = msgspec.convert(msgspec.yaml.decode("worker:\n" + lines)["worker"], WorkerSection).pools["mail"]
    assert (pool.queues, pool.autoscale.max_workers) == (("default",), 30)


async def test_json_has_every_setting_and_the_values(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await command("--trace", str(trace), "--json")
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    names = [one["setting"] for one in said["settings"]]
    assert said["recommended"] in names
    assert len(names) > sum(one["frontier"] for one in said["settings"]) > 0
    assert said["values"]["worker"]["pools"]["default"]["autoscale"]["maxWorkers"] == 60


async def test_a_promise_that_nobody_keeps_is_said_with_what_could_be_kept(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await command("--trace", str(trace), "--slo", "0.5", "--max", "2")
    out = capsys.readouterr().out
    assert "none of them keeps the promise. 95 % of all tasks start within " in out
    assert "% within 0.5 s, with " in out


def observed(load: Load) -> Past:
    """What would be seen of a load that is worked at; ends are seen a moment late."""
    run = simulate(load, contender("slo", SETTING), SETTING)
    starts, ends = sorted(run.starts), sorted(run.ends)
    times = [5.0 * number for number in range(int(run.end / 5) + 5)]
    arrived = [bisect_right(load.arrivals, at) for at in times]
    started, ended = ([bisect_right(those, at) for at in times] for those in (starts, ends))
    return Past(
        times,
        [one - other for one, other in zip(arrived, started, strict=True)],
        [one - other for one, other in zip(started, ended, strict=True)],
        [bisect_right(ends, at - 3) for at in times],
        frozenset({"broker"}),
    )


def test_what_is_said_of_a_load_that_was_seen_is_what_is_said_of_the_load_itself() -> None:
    dice = random.Random("a load")
    arrivals = sorted(dice.uniform(0, 3600) for _ in range(4000))
    load = load_of("hour", [(at, dice.expovariate(1 / (4 if at < 1800 else 9))) for at in arrivals])
    seen = rebuild({("/", "q"): observed(load)}, {}, 0).load
    assert len(seen.arrivals) == len(load.arrivals)
    assert seen.work == pytest.approx(load.work, rel=0.05)
    contenders = candidates(SETTING, 6.5)
    ours, theirs = ({one.name: one.cost for one in sweep(one, contenders, SETTING)} for one in (seen, load))
    for name, (hours, late) in theirs.items():
        assert ours[name][0] == pytest.approx(hours, rel=0.15)  # as two draws of one load differ
        assert ours[name][1] == pytest.approx(late, abs=3)


def day(random: random.Random) -> tuple[list[int], list[int]]:
    """Half an hour of about a task a second, of 4 s; four are at work, and all that arrived ends next."""
    ended = [0]
    for _ in range(360):
        ended.append(ended[-1] + random.randint(0, 10))
    return [4] * len(ended), ended


async def test_of_a_prometheus_it_rebuilds_the_load_and_says_of_what(
    fake: FakePrometheus, capsys: pytest.CaptureFixture[str]
) -> None:
    taken, ended = day(random.Random("a day"))
    past = course([0] * len(taken), taken, queue="mail", ended=ended)
    took = tasks({"2.5": 0, "5": 900, "10": 1000, "+Inf": 1000}, 4000.0, "mail")
    fake.others = remembers(past, ["mail"], took)
    await command("--prometheus", fake.url, "--queue", "mail", "--hours", "0.5", "--json")
    said = json.loads(capsys.readouterr().out)
    assert said["tasks"] == pytest.approx(ended[-1], abs=12)
    assert said["service_seconds"] == pytest.approx(4, rel=0.05)
    assert "by the workers' histogram; the workers tell what ended" in said["load"][0]
    assert said["values"]["worker"]["pools"]["default"]["queues"] == ["mail"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "prometheus, trace: must be one of them"),
        (
            ["--prometheus", "localhost", "--queue", "q"],
            "prometheus: 'localhost' must look like http://HOST:PORT",
        ),
        (["--prometheus", "http://127.0.0.1:1", "--queue", "q"], "prometheus: Prometheus does not answer"),
        (["--prometheus", "URL"], "queue: is required with --prometheus"),
        (
            ["--prometheus", "URL", "--queue", "q"],
            "queue: 'q' is not known to URL; known on virtual host '/'",
        ),
        (
            ["--prometheus", "URL", "--queue", "default"],
            "hours: no task arrived within 24; look further back",
        ),
        (
            ["--prometheus", "URL", "--queue", "q", "--hours", "0"],
            "hours: 0 must be above 0, and at most 744",
        ),
        (["--prometheus", "URL", "--queue", "q", "--label", "job"], "label: 'job' must look like NAME=VALUE"),
        (["--trace", "nowhere.csv"], "nowhere.csv: No such file or directory"),
        (["--trace", "nowhere.csv", "--queue", "q"], "queue: is for --prometheus"),
        (["--trace", "nowhere.csv", "--quantile", "1"], "quantile: 1 must be below 1"),
        (["--trace", "nowhere.csv", "--max", "20000"], "max_workers: 20000 must be 10000 or less"),
        (["--trace", "nowhere.csv", "--pool", "A"], "pool: 'A' must be up to 40 small letters"),
        (
            ["--trace", "nowhere.csv", "--min", "9", "--max", "3"],
            "min_workers: 9 must be 0 to max_workers (3)",
        ),
    ],
)
async def test_bad_input_ends_with_one_line_that_says_what_would_be_right(
    fake: FakePrometheus, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    fake.others = remembers(course([0, 0], [0, 0]))
    with pytest.raises(SystemExit) as end:
        await command(*(option.replace("URL", fake.url) for option in options))
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert words.replace("URL", fake.url) in error
    assert error.count("\n") == 1


async def test_progress_is_shown_to_who_watches(
    trace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    await command("--trace", str(trace))
    assert "1 of 11: slo 15 s" in capsys.readouterr().err
