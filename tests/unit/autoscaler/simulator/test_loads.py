import io
import itertools
import statistics

import pytest

from autoscaler.simulator.loads import COMMON, Load, bursts, flash, long, mix, ramp, read_csv, wave, write_csv

HEADER = "arrival_seconds,service_seconds"


def written(tmp_path, text):
    path = tmp_path / "load.csv"
    path.write_text(text)
    return path


def test_a_file_is_read_in_any_order_of_its_rows(tmp_path):
    load = read_csv(written(tmp_path, f"{HEADER}\n5,2\n1.5,0.25\n"))
    assert load == Load("load", (1.5, 5.0), (0.25, 2.0))


def test_a_file_may_name_the_queue_of_each_task(tmp_path):
    load = read_csv(written(tmp_path, f"{HEADER},queue\n0,1,mail\n1,1,\n"))
    assert load.queues == ("mail", "default")


def test_what_is_written_is_read_again(tmp_path):
    for load in (Load("load", (0.0, 1.0), (2.0, 3.5)), Load("load", (0.0, 1.0), (2.0, 3.5), ("a", "b"))):
        file = io.StringIO()
        write_csv(load, file)
        assert read_csv(written(tmp_path, file.getvalue())) == load


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: arrival_seconds is missing"),
        ("arrival_seconds,service\n1,2\n", "line 1: service_seconds is missing"),
        (f"{HEADER}\n", "there are no tasks"),
        (f"{HEADER}\n1,2\n3\n", "line 3: service_seconds is None; it must be seconds, 0 or more"),
        (f"{HEADER}\n-1,2\n", "line 2: arrival_seconds is '-1'"),
        (f"{HEADER}\n1,nan\n", "line 2: service_seconds is 'nan'"),
    ],
)
def test_a_bad_file_is_told_by_line_and_field(tmp_path, text, words):
    with pytest.raises(ValueError, match=r"load\.csv") as error:
        read_csv(written(tmp_path, text))
    assert words in str(error.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", f"{HEADER}\n1,{'2' * 200_000}\n".encode()])
def test_a_file_that_is_no_csv_is_told_by_its_name(tmp_path, content):
    path = tmp_path / "load.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"load\.csv: must be CSV in UTF-8"):
        read_csv(path)


@pytest.mark.parametrize(
    ("arrivals", "services", "queues", "words"),
    [
        ((1.0, 0.0), (1.0, 1.0), (), "arrivals must ascend"),
        ((-1.0,), (1.0,), (), "must be finite seconds, 0 or more"),
        ((0.0,), (), (), "one arrival, one service"),
        ((0.0,), (1.0,), ("a", "b"), "one or no queue for each task"),
    ],
)
def test_a_load_that_makes_no_sense_is_refused(arrivals, services, queues, words):
    with pytest.raises(ValueError, match=words):
        Load("bad", arrivals, services, queues)


@pytest.mark.parametrize("make", [bursts, mix, long, wave, ramp, flash])
def test_the_same_seed_makes_the_same_load_and_another_one_another(make):
    assert make(1) == make(1) != make(2)


@pytest.mark.parametrize(
    ("make", "mean"), [(bursts, 6), (mix, 6.45), (long, 180), (wave, 10), (ramp, 6), (flash, 6)]
)
def test_tasks_take_as_long_as_their_load_says(make, mean):
    assert statistics.fmean(make(3).services) == pytest.approx(mean, rel=0.1)


def test_bursts_are_of_100_to_800_tasks_with_nothing_between_them():
    arrivals = bursts(5).arrivals
    groups, size = [], 1
    for before, after in itertools.pairwise(arrivals):
        if after - before > 60:
            groups.append(size)
            size = 0
        size += 1
    assert len(groups) > 5
    assert all(100 <= size <= 800 for size in groups)  # the last one has what is left


def test_a_flash_crowd_comes_at_minute_20():
    arrivals = flash(5).arrivals
    before = sum(1140 <= at < 1200 for at in arrivals)
    crowd = sum(1260 <= at < 1320 for at in arrivals)
    assert crowd > 8 * before


def test_all_common_loads_have_the_common_setting():
    for make, setting in COMMON.values():
        assert (setting.concurrency, setting.boot, setting.quantile) == (4, 20, 0.95)
        assert setting.slo == (60 if make in (bursts, long) else 30)
