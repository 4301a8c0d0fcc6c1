from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.config import Autoscale
from autoscaler.model import Estimate
from autoscaler.policies.answers import towards
from autoscaler.simulator import faults
from autoscaler.simulator.contenders import CONTENDERS, Contender, contender
from autoscaler.simulator.engine import NeverEnds, phases, rank, simulate
from autoscaler.simulator.loads import Load
from autoscaler.simulator.setting import Setting

SETTING = Setting(slo=30, concurrency=1, boot=20, max_workers=5)


def load(*tasks: tuple[float, float], queues: tuple[str, ...] = ()) -> Load:
    return Load("by hand", tuple(at for at, _ in tasks), tuple(took for _, took in tasks), queues)


def scripted(course, victims="drain", grace=30.0, period=5.0, low=0) -> Contender:
    """Asks for what `course(now)` says."""

    def policy(memory, seen, scale, now) -> tuple[Estimate, None]:
        return towards(seen, course(now), "scripted", {}), None

    scale = Autoscale(
        min_workers=low,
        max_workers=50,
        down_window_seconds=0,
        cooldown_seconds=0,
        drain_timeout_seconds=600,
    )
    return Contender("scripted", policy, scale, period, victims, grace)


def always(number: int, **more) -> Contender:
    return scripted(lambda now: number, **more)


def test_one_slot_takes_one_task_after_the_other():
    run = simulate(load((0, 10), (1, 5), (2, 1)), always(1), SETTING)
    assert run.starts == (0, 10, 15)
    assert run.ends == (10, 15, 16)
    assert run.end == 16


def test_slots_of_one_worker_work_side_by_side():
    run = simulate(load((0, 10), (1, 10), (2, 10)), always(1), replace(SETTING, concurrency=2))
    assert run.starts == (0, 1, 10)


def test_a_slot_is_taken_by_each_task_for_longer_than_the_task_takes():
    run = simulate(load((0, 10), (1, 5)), always(1), replace(SETTING, overhead=0.5))
    assert run.starts == (0, 10.5)
    assert run.ends == (10.5, 16)


def test_a_new_worker_takes_its_first_task_when_it_has_booted():
    run = simulate(load((0, 1000), (1, 10)), always(2), SETTING)
    created = run.lives[1].created
    assert 0 < created <= 5
    assert run.starts[1] == created + 20 == run.lives[1].ready


def test_workers_may_boot_for_different_times_in_turns():
    run = simulate(load((0, 100)), always(4), replace(SETTING, boots=(3, 7)))
    assert [life.ready - life.created for life in run.lives[1:]] == pytest.approx([3, 7, 3])


def test_round_robin_gives_the_next_task_to_who_has_waited_longest():
    setting = replace(SETTING, concurrency=2, min_workers=2)
    run = simulate(load((0, 100), (0, 100), (1, 1), (2, 1)), always(2), setting)
    assert run.starts == (0, 0, 1, 2)
    # what a worker holds starts when its own task ends, which tells whose turn it was
    held = replace(SETTING, min_workers=3, prefetch=2)
    run = simulate(load((0, 10), (0, 20), (0, 30), (1, 1), (1, 1), (1, 1)), always(3), held)
    assert run.starts[3:] == (10, 20, 30)


def test_by_priority_the_older_worker_is_filled_first_and_the_newer_may_go():
    setting = replace(SETTING, concurrency=2, min_workers=2)
    down = scripted(lambda now: 1, low=1)
    packed = simulate(load((0, 100), (0, 100)), down, replace(setting, delivery="priority"))
    spread = simulate(load((0, 100), (0, 100)), down, setting)
    assert [life.removed for life in packed.lives][1] < 20
    assert [life.removed for life in spread.lives] == [100, 100]


def test_a_message_that_a_worker_holds_waits_there_though_another_is_idle():
    setting = replace(SETTING, min_workers=2, prefetch=2)
    tasks = load((0, 100), (0, 1), (0.5, 1), (2, 1))
    # the third is held by the first worker, the fourth goes to the second one
    assert simulate(tasks, always(2), setting).starts == (0, 0, 100, 2)
    assert simulate(tasks, always(2), replace(setting, prefetch=1)).starts == (0, 0, 1, 2)


def test_a_worker_that_drains_takes_no_more_and_goes_when_it_is_empty():
    setting = replace(SETTING, min_workers=2)
    run = simulate(load((0, 50), (0, 50), (10, 5), (11, 5)), scripted(lambda now: 1, low=1), setting)
    assert run.interrupted == 0
    assert run.starts[2:] == (50, 55)  # one after the other, by the one that stayed
    gone = min(life.removed for life in run.lives)
    assert 50 < gone <= 55  # at the next tick, long after that at which it was told


def test_an_empty_worker_goes_at_the_tick_after_that_at_which_it_is_told_to_drain():
    setting = replace(SETTING, min_workers=2)
    run = simulate(load((0, 100)), scripted(lambda now: 1, low=1), setting)
    told = run.wanted[1][0]
    assert min(life.removed for life in run.lives) == told + 5


def test_a_worker_that_boots_is_told_to_drain_when_it_has():
    course = scripted(lambda now: 2 if now < 5 else 1, low=1)
    run = simulate(load((0, 100), (1, 100)), course, replace(SETTING, concurrency=2))
    booted = run.lives[1]
    assert booted.created < 5
    assert booted.ready + 5 <= booted.removed < booted.ready + 10


def test_a_draining_worker_that_is_wanted_again_is_recalled_and_none_boots():
    setting = replace(SETTING, min_workers=2)
    course = scripted(lambda now: 1 if now < 20 else 2, low=1)
    run = simulate(load((0, 50), (0, 50), (30, 5), (31, 5)), course, setting)
    assert len(run.lives) == 2
    assert run.starts[2:] == (50, 50)


def test_a_replicaset_kills_what_runs_longer_than_the_grace_and_the_task_runs_again():
    setting = replace(SETTING, min_workers=2)
    course = scripted(lambda now: 1, victims="replicaset", grace=30, low=1)
    run = simulate(load((0, 100), (0, 100)), course, setting)
    assert run.interrupted == 1
    assert sorted(run.attempts) == [1, 2]
    assert sorted(run.starts) == [0, 100]
    gone = min(life.removed for life in run.lives)
    assert 30 < gone <= 35


def test_a_replicaset_lets_a_task_end_within_the_grace():
    setting = replace(SETTING, min_workers=2)
    course = scripted(lambda now: 1, victims="replicaset", grace=200, low=1)
    run = simulate(load((0, 100), (0, 100), (0, 1)), course, setting)
    assert run.interrupted == 0
    assert [life.removed for life in run.lives].count(100) == 1


def test_a_replicaset_takes_a_worker_that_boots_before_one_that_serves():
    course = scripted(lambda now: 2 if now < 5 else 1, victims="replicaset", low=1)
    run = simulate(
        load(
            (0, 100),
        ),
        course,
        SETTING,
    )
    assert run.interrupted == 0
    assert run.lives[1].removed < 20


def test_a_crash_interrupts_tasks_which_run_again_and_the_worker_comes_back():
    run = simulate(load((0, 50)), always(1), replace(SETTING, faults=(faults.Crash(10),)))
    assert run.interrupted == 1
    assert run.attempts == (2,)
    assert run.starts == (30,)  # after the boot of the one that took its place


def test_what_begins_while_all_is_slow_takes_so_many_times_as_long():
    slow = replace(SETTING, faults=(faults.Slow(5, 15, 3),))
    run = simulate(load((0, 4), (6, 4), (20, 4)), always(1), slow)
    assert run.ends == (4, 18, 24)


def test_each_queue_has_its_own_prefetch_as_consumers_of_quorum_queues_do():
    tasks = load((0, 10), (0, 10), (0, 10), queues=("a", "b", "b"))
    run = simulate(tasks, always(1), SETTING)
    assert run.starts == (0, 10, 20)


def test_an_outage_of_prometheus_makes_our_policy_hold():
    tasks = load(*((60 + n / 10, 5) for n in range(100)))
    dark = replace(SETTING, faults=(faults.Outage(30, 400),))
    run = simulate(tasks, contender("threshold", dark), dark)
    assert all(when > 400 for when, _ in run.wanted[1:])


def test_samples_that_no_longer_come_make_our_policy_hold():
    tasks = load(*((60 + n / 10, 5) for n in range(100)))
    dark = replace(SETTING, faults=(faults.Stale(30, 400),))
    run = simulate(tasks, contender("threshold", dark), dark)
    assert all(when > 400 for when, _ in run.wanted[1:])


def test_an_autoscaler_that_begins_anew_watches_a_whole_window_before_it_takes_workers_away():
    tasks = load(*((n / 10, 5) for n in range(100)), (2000, 1))
    plain = simulate(tasks, contender("threshold", SETTING), SETTING)
    down = next(
        when for (when, n), (_, before) in zip(plain.wanted[1:], plain.wanted, strict=False) if n < before
    )
    forgetful = replace(SETTING, faults=(faults.Restart(down - 10),))
    again = simulate(tasks, contender("threshold", forgetful), forgetful)
    later = next(
        when for (when, n), (_, before) in zip(again.wanted[1:], again.wanted, strict=False) if n < before
    )
    assert later >= down - 10 + 60


def test_a_sample_is_seen_after_its_delay_and_not_before():
    tasks = load(*((60.0, 5) for _ in range(50)))
    soon = simulate(tasks, contender("threshold", SETTING), SETTING)
    late = replace(SETTING, metric_delay=40)
    assert simulate(tasks, contender("threshold", late), late).wanted[1][0] >= soon.wanted[1][0] + 35


def test_what_the_broker_counted_is_what_it_says_until_it_counts_again():
    tasks = load(*((60.0, 5) for _ in range(50)))
    counting = replace(SETTING, statistics=40)
    one = contender("threshold", counting)
    counted = phases(one, counting).statistics
    while counted <= 60:
        counted += 40
    seen, _ = simulate(tasks, one, counting).wanted[1]
    assert counted <= seen <= counted + SETTING.scrape + SETTING.tick


def test_the_seed_alone_draws_the_phases_each_within_its_period():
    counting = replace(SETTING, statistics=5)
    for seed in range(20):
        drawn = phases(always(1), replace(counting, seed=seed))
        assert max(drawn.scrape, drawn.tick, drawn.statistics) < 5
        assert phases(always(1), replace(counting, seed=seed, boot=1)) == drawn


def test_a_replicaset_takes_who_is_not_ready_then_who_is_so_for_the_shortest_time_then_by_chance():
    workers = {"boots": (-1, 0.9), "new": (1, 0.8), "old": (300, 0.1), "as old": (500, 0.05)}
    assert sorted(workers, key=lambda name: rank(*workers[name])) == ["boots", "new", "as old", "old"]


def test_a_policy_that_leaves_tasks_alone_for_ever_is_told_of():
    with pytest.raises(NeverEnds, match="scripted: 1 tasks have no worker"):
        simulate(load((0, 1)), always(0, period=3600), replace(SETTING, min_workers=0, scrape=3600))


def test_the_same_seed_gives_the_same_run_and_another_one_another():
    tasks = load(*((n / 5, 8) for n in range(200)))
    runs = [
        simulate(tasks, contender("hpa", setting), setting)
        for setting in (SETTING, SETTING, replace(SETTING, seed=1))
    ]
    assert runs[0] == runs[1] != runs[2]


TASKS = st.lists(st.tuples(st.floats(0, 500), st.floats(0, 100)), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(
    tasks=TASKS,
    name=st.sampled_from(sorted(CONTENDERS)),
    delivery=st.sampled_from(["round-robin", "priority"]),
    prefetch=st.integers(1, 3),
    crashes=st.lists(st.floats(0, 300), max_size=3),
)
def test_every_task_ends_once_and_every_second_of_a_worker_is_counted(
    tasks, name, delivery, prefetch, crashes
):
    setting = replace(
        SETTING,
        concurrency=2,
        delivery=delivery,
        prefetch=prefetch,
        faults=tuple(faults.Crash(when) for when in crashes),
    )
    tasks = load(*sorted(tasks))
    run = simulate(tasks, contender(name, setting), setting)
    for arrival, service, start, end in zip(
        tasks.arrivals, tasks.services, run.starts, run.ends, strict=True
    ):
        assert start >= arrival
        assert end == start + service
    assert sum(run.attempts) == len(tasks.arrivals) + run.interrupted
    assert run.end == max(run.ends)
    assert all(life.created <= life.removed <= run.end for life in run.lives)
    assert all(wanted <= setting.max_workers for _, wanted in run.wanted)
    busy = sum(life.removed - min(life.ready, life.removed) for life in run.lives) * setting.concurrency
    assert busy >= tasks.work * (1 - 1e-9) - 1e-9  # less than the clock can tell is lost in it


def test_waits_of_one_slot_are_those_of_queueing_theory():
    import random

    dice = random.Random(7)
    at, tasks = 0.0, []
    for _ in range(20_000):
        at += dice.expovariate(0.5)
        tasks.append((at, dice.expovariate(1.0)))
    run = simulate(load(*tasks), always(1), SETTING)
    waits = [start - arrival for start, (arrival, _) in zip(run.starts, tasks, strict=True)]
    assert sum(waits) / len(waits) == pytest.approx(1.0, rel=0.15)  # M/M/1: rho / (mu - lambda)
