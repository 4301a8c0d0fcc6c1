"""What a load's log and the kernel's counts give as figures."""

import subprocess
import sys

import pytest

from tests.bench.load import BadAnswer, Load, Window, await_end, fill, parse
from tests.bench.runs import CLOSED, OPEN, SINGLE, Figures, Target

WINDOW = Window(began=1000, ended=1002, cpu=(0.4, 0.2, 0.3, 0.1))


def line(ended, took_ms, status=200):
    return f"{(ended - took_ms / 1000) * 1e6:.0f}\t{status}\t{took_ms * 1000:.0f}\n"


def figures(log):
    filled = Figures(system="one", answers="none", load=CLOSED, run=1)
    fill(filled, parse(log), WINDOW)
    return filled


def test_only_what_ends_within_the_window_counts():
    log = line(999.9, 7) + "".join(line(1000.5 + n / 100, 5) for n in range(100)) + line(1002, 7)
    filled = figures(log)
    assert (filled.requests, filled.errors, filled.throughput, filled.error) == (100, 0, 50, None)
    assert (filled.p50_ms, filled.p99_ms) == (5, 5)


def test_cpu_is_shared_out_among_the_requests():
    filled = figures(line(1001, 5) * 200)
    assert (filled.cpu_ms, filled.answering_cpu_ms) == (2, 1)
    assert (filled.broker_cpu_ms, filled.load_cpu_ms) == (1.5, 0.5)


def test_percentiles_are_those_of_good_answers():
    log = "".join(line(1001, ms) for ms in range(1, 101)) + line(1001, 5000, 503) * 100
    filled = figures(log)
    assert (filled.p50_ms, filled.p99_ms) == (50.5, 99.01)


def test_bad_answers_are_counted_and_told_by_their_status():
    filled = figures(line(1001, 5) * 6 + line(1001, 5, 503) * 3 + line(1001, 5, -1))
    assert (filled.requests, filled.errors, filled.throughput) == (10, 4, 3)
    assert filled.error == "3 times 503, 1 times no answer"


def test_a_line_whose_writer_was_ended_amid_it_does_not_count():
    filled = figures(line(1001, 5) * 3 + line(1001, 5)[:-8])
    assert (filled.requests, filled.errors) == (3, 0)


def test_cpu_of_nobody_is_not_told():
    filled = Figures(system="one", answers="none", load=CLOSED, run=1)
    fill(filled, parse(line(1001, 5)), WINDOW._replace(cpu=(0.4, None, 0.3, 0.1)))
    assert (filled.cpu_ms, filled.answering_cpu_ms) == (400, None)


def test_a_load_that_does_not_end_is_told_as_no_answer(monkeypatch):
    monkeypatch.setattr("tests.bench.load.PATIENCE", 0.01)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as tool:
        with pytest.raises(BadAnswer, match="no answer within"):
            await_end(tool)
        tool.kill()


def test_silence_is_an_error():
    filled = figures("")
    assert (filled.requests, filled.throughput, filled.p50_ms, filled.cpu_ms) == (0, 0, None, None)
    assert filled.error == "no answer within 2 s"


@pytest.mark.parametrize(
    ("load", "arguments"),
    [
        (CLOSED, {"--clients=32", "--duration=5500ms"}),
        (SINGLE, {"--clients=1", "--duration=5500ms"}),
        (OPEN, {"--clients=250", "--rate=1", "--rate-period=2ms", "--rps=2", "--requests=2750"}),
    ],
)
def test_a_load_has_its_shape(load, arguments, tmp_path, monkeypatch):
    monkeypatch.setattr("tests.bench.load.program", lambda name: f"/bin/{name}")
    target = Target(url="http://127.0.0.1:1/x", headers={"Prefer": "wait=10"}, body="{}")
    tool, *given = Load(load, 3).command(target, tmp_path, tmp_path / "log")
    assert tool == "/bin/h2load"
    assert arguments | {"--h1", "--header=Prefer: wait=10", f"--data={tmp_path / 'body'}"} <= set(given)
    assert given[-1] == target.url
    assert (tmp_path / "body").read_text() == "{}"
