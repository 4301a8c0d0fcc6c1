"""Workers as processes: started once, adopted, and ended only when they are drained and empty."""

import asyncio
import os
import signal
import socket

import msgspec
import psutil
import pytest

from autoscaler.actuators import ActuationError
from autoscaler.model import Fleet
from tests.integration.autoscaler.conftest import POOL, Place, started, tick, told, until


async def test_a_started_worker_has_its_port_its_name_and_its_queues(place: Place) -> None:
    actuator = place.actuator()
    (worker,) = (await started(actuator, 1)).workers
    record = place.records()[worker.name]
    assert record["state"] == "running"
    assert record["started"] == pytest.approx(psutil.Process(record["pid"]).create_time(), abs=1.5)
    environment = place.environment(worker.name)
    assert environment["CELERYKIT_POOL"] == "default"
    assert environment["CELERYKIT_QUEUES"] == "default,slow"
    assert environment["CELERYKIT_WORKER_NAME"].startswith(f"{worker.name}@")
    assert environment["CELERYKIT_WORKER_PORT"] == str(record["port"])
    assert environment["CELERYKIT_WORKER_HOST"] == "127.0.0.1"
    assert environment["CELERYKIT_WORKER_CONCURRENCY"] == "3"
    assert environment["CELERYKIT_WORKER_POOL_TYPE"] == "threads"
    assert place.targets() == [{"targets": [f"127.0.0.1:{record['port']}"], "labels": {"pool": "default"}}]
    assert os.getsid(record["pid"]) == record["pid"]


async def test_a_worker_counts_from_the_moment_it_is_started(place: Place) -> None:
    actuator = place.actuator()
    await tick(actuator, told(start=2))
    fleet = await tick(actuator)
    assert len(fleet.serving) == 2
    assert len({record["port"] for record in place.records().values()}) == 2


async def test_a_worker_tells_how_many_tasks_it_runs_at_once(place: Place) -> None:
    fleet = await started(place.actuator(), 1)
    assert [worker.slots for worker in fleet.workers] == [2]


async def test_a_drained_worker_is_ended_only_when_it_is_empty(place: Place) -> None:
    actuator = place.actuator()
    one, other = (await started(actuator, 2)).workers
    await place.post(one.name, "/busy", "1")
    await tick(actuator, told(drain=(one.name,)))
    for _ in range(5):
        fleet = await tick(actuator)
    assert [worker.name for worker in fleet.draining] == [one.name]
    assert place.ended() == {}
    await place.post(one.name, "/busy", "0")
    await until(actuator, lambda fleet: len(fleet.workers) == 1)
    await until(actuator, lambda _: not place.records().get(one.name))
    assert place.ended() == {one.name: "empty"}
    removed = place.records("removed")[one.name]
    assert (removed["ended"], removed["exitCode"]) == ("stopped", 0)
    assert [worker.name for worker in (await tick(actuator)).serving] == [other.name]
    assert len(place.targets()[0]["targets"]) == 1


async def test_the_first_answer_that_says_empty_does_not_end_a_worker(place: Place) -> None:
    actuator = place.actuator()
    (worker,) = (await started(actuator, 1)).workers
    await tick(actuator, told(drain=(worker.name,)))
    assert place.records()[worker.name]["state"] == "draining"
    await tick(actuator)
    assert place.records()[worker.name]["state"] == "stopping"


async def test_a_task_that_shows_between_two_answers_keeps_the_worker(place: Place) -> None:
    actuator = place.actuator()
    (worker,) = (await started(actuator, 1)).workers
    await tick(actuator, told(drain=(worker.name,)))
    await actuator.fleets()
    await place.post(worker.name, "/busy", "1")
    await actuator.act("default", POOL, told())
    assert place.records()[worker.name]["state"] == "draining"
    assert place.ended() == {}


async def test_a_worker_that_does_not_answer_is_never_ended(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoscaler.actuators.workers.ANSWER_SECONDS", 0.3)
    actuator = place.actuator()
    (worker,) = (await started(actuator, 1)).workers
    os.kill(place.records()[worker.name]["pid"], signal.SIGSTOP)
    with pytest.raises(ActuationError, match=f"{worker.name} does not answer to /drain"):
        await tick(actuator, told(drain=(worker.name,)))
    with pytest.raises(ActuationError):
        await tick(actuator)
    os.kill(place.records()[worker.name]["pid"], signal.SIGCONT)
    assert place.records()[worker.name]["state"] == "draining"
    await until(actuator, lambda _: place.ended() == {worker.name: "empty"})


async def test_a_wrong_token_drains_nobody(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    actuator = place.actuator()
    (worker,) = (await started(actuator, 1)).workers
    actuator._workers._token = "wrong"
    for decision in (told(drain=(worker.name,)), told(), told()):
        with pytest.raises(ActuationError):
            await tick(actuator, decision)
    assert "answers HTTP 401 to /drain" in caplog.text
    assert place.records()[worker.name]["state"] == "draining"
    assert place.ended() == {}


async def test_a_recalled_worker_consumes_again(place: Place) -> None:
    actuator = place.actuator()
    (worker,) = (await started(actuator, 1)).workers
    await place.post(worker.name, "/busy", "1")
    await tick(actuator, told(drain=(worker.name,)))
    await until(actuator, lambda fleet: fleet.ready == 0)
    await tick(actuator, told(recall=(worker.name,)))
    fleet = await until(actuator, lambda fleet: fleet.ready == 1)
    assert fleet.draining == ()


async def test_a_recall_that_did_not_arrive_is_told_again(place: Place) -> None:
    actuator = place.actuator()
    (worker,) = (await started(actuator, 1)).workers
    await place.post(worker.name, "/drain")
    await until(actuator, lambda fleet: fleet.ready == 1)


async def test_a_restarted_autoscaler_adopts_running_and_draining_workers(place: Place) -> None:
    actuator = place.actuator()
    first, second = (await started(actuator, 2)).workers
    await place.post(first.name, "/busy", "1")
    await tick(actuator, told(drain=(first.name,)))
    place.close()
    actuator = place.actuator()
    fleet = await tick(actuator)
    assert [worker.name for worker in fleet.serving] == [second.name]
    assert [worker.name for worker in fleet.draining] == [first.name]
    await place.post(first.name, "/busy", "0")
    await until(actuator, lambda _: place.ended() == {first.name: "empty"})


async def test_a_worker_told_to_end_is_ended_though_the_autoscaler_died_before_the_signal(
    place: Place,
) -> None:
    actuator = place.actuator()
    (worker,) = (await started(actuator, 1)).workers
    place.close()
    path = place.directory / f"{worker.name}.json"
    path.write_bytes(msgspec.json.encode(place.records()[worker.name] | {"state": "stopping"}))
    actuator = place.actuator()
    assert await tick(actuator) == Fleet()
    await until(actuator, lambda _: place.records() == {})
    assert place.ended() == {worker.name: "empty"}


async def test_a_pid_that_another_process_got_is_not_ours(place: Place) -> None:
    actuator = place.actuator()
    (worker,) = (await started(actuator, 1)).workers
    place.close()
    path = place.directory / f"{worker.name}.json"
    record = place.records()[worker.name]
    path.write_bytes(msgspec.json.encode(record | {"started": record["started"] - 60}))
    actuator = place.actuator()
    assert await tick(actuator) == Fleet()
    assert place.records("removed")[worker.name]["ended"] == "crashed"
    assert psutil.Process(record["pid"]).is_running()
    os.kill(record["pid"], signal.SIGKILL)


async def test_a_clock_that_was_set_between_two_autoscalers_loses_no_worker(place: Place) -> None:
    actuator = place.actuator()
    (worker,) = (await started(actuator, 1)).workers
    place.close()
    path = place.directory / f"{worker.name}.json"
    record = place.records()[worker.name]
    hour = {"started": record["started"] - 3600, "booted": record["booted"] - 3600}
    path.write_bytes(msgspec.json.encode(record | hour))
    fleet = await tick(place.actuator())
    assert [adopted.name for adopted in fleet.workers] == [worker.name]
    path.write_bytes(msgspec.json.encode(record))


async def test_a_killed_worker_is_noted_as_crashed(place: Place) -> None:
    actuator = place.actuator()
    (worker,) = (await started(actuator, 1)).workers
    os.kill(place.records()[worker.name]["pid"], signal.SIGKILL)
    await until(actuator, lambda fleet: fleet == Fleet())
    removed = place.records("removed")[worker.name]
    assert (removed["ended"], removed["exitCode"]) == ("crashed", -signal.SIGKILL)
    assert place.targets() == []


async def test_workers_that_end_at_once_are_not_started_in_a_hot_loop(place: Place) -> None:
    actuator = place.actuator(command=("false",))
    await tick(actuator, told(start=1))
    deadline = asyncio.get_running_loop().time() + 10
    while not place.records("removed"):
        await actuator.fleets()
        await asyncio.sleep(0.02)
        assert asyncio.get_running_loop().time() < deadline
    with pytest.raises(ActuationError, match=r"1 workers? ended before .* the next start is in \d+ s"):
        await tick(actuator, told(start=1))
    assert place.records() == {}


async def test_a_program_that_cannot_be_started_is_an_error_that_names_it(place: Place) -> None:
    actuator = place.actuator(command=("/no/such/program",))
    with pytest.raises(ActuationError, match="cannot start /no/such/program"):
        await tick(actuator, told(start=1))
    assert place.records() == {}


async def test_a_taken_port_is_passed_over_and_too_few_are_an_error(place: Place) -> None:
    first = place.config.ports.first
    with socket.create_server(("127.0.0.1", first)):
        actuator = place.actuator()
        with pytest.raises(ActuationError, match=f"no free port from {first} to {first + 5}"):
            await tick(actuator, told(start=6))
    assert sorted(record["port"] for record in place.records().values()) == list(range(first + 1, first + 6))


@pytest.mark.behaviour("F14")
async def test_two_autoscalers_do_not_share_a_directory(place: Place) -> None:
    place.actuator()
    with pytest.raises(ActuationError, match="another autoscaler"):
        place.actuator()


async def test_what_is_no_record_is_left_alone(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.actuator()
    place.close()
    stray = place.directory / "stray.json"
    stray.write_text("{")
    assert await tick(place.actuator()) == Fleet()
    assert stray.exists()
    assert "stray.json is no record" in caplog.text
    stray.unlink()


async def test_the_log_of_a_worker_is_a_file_of_its_own(place: Place) -> None:
    actuator = place.actuator(command=("sh", "-c", "echo out; echo err >&2; exec sleep 60"))
    await tick(actuator, told(start=1))
    await until(actuator, lambda fleet: place.log(fleet.workers[0].name) == "out\nerr\n")
