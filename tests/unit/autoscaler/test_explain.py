"""The command `autoscaler explain` asks a running autoscaler and says it in words."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from autoscaler.__main__ import main

DECISION = {
    "at": "2026-11-29T08:22:38.352+00:00", "action": "up", "reason": "DrainBacklog", "from": 1, "to": 4,
    "words": "because", "start": 3, "recall": [], "drain": [], "problem": None,
}  # fmt: skip
SAID: dict[str, Any] = {
    "config": {"file": "a.yaml", "problem": "minWorkers: too many"}, "mode": "act", "leading": True,
    "leader": None, "unseen": {"lost": "no API"},
    "pools": {
        name: {
            "wanted": 4, "ready": 1, "draining": 0, "inputProblem": problem,
            "terms": {"keep": 3.25, "cap": None},
            "inputs": [{"queue": name, "signal": "ready", "value": 30, "ageSeconds": 1.2}],
            "last": DECISION, "decisions": [DECISION, *[DECISION | {"problem": "no room"}] * 9],
        }
        for name, problem in (("fast", None), ("slow", "no fresh series"))
    },
}  # fmt: skip


@pytest.fixture
def url() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/explain" else 404)
            self.end_headers()
            self.wfile.write(json.dumps(SAID).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def told(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    main(["explain", *options])
    return capsys.readouterr().out


def test_it_tells_what_is_seen_the_terms_and_the_last_decisions(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = told(capsys, "--url", url)
    assert "mode act, leading\nthe new configuration is refused: minWorkers: too many\n" in text
    assert "lost: nothing is known of its workers: no API" in text
    assert "fast: 4 workers are wanted, 1 are ready, 0 drain\n  seen     fast ready 30 (1 s ago)\n" in text
    assert "  terms    keep 3.25\n  08:22:38 up 1 -> 4 DrainBacklog: because\n" in text
    assert text.count("(could not be done: no room)") == 2 * 5
    assert text.count("DrainBacklog: because\n") == 2  # a change that is the last decision is told once
    assert "  seen     no fresh series" in text


def test_it_tells_of_one_pool_alone_or_everything_as_json(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "slow" not in told(capsys, "--url", url, "--pool", "fast")
    assert json.loads(told(capsys, "--url", url, "--pool", "slow", "--json"))["pools"].keys() == {"slow"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--pool", "none"), "pool: 'none' is not known to URL; known are fast, slow"),
        (("--url", "localhost:8002"), "url: 'localhost:8002' must look like http://HOST:PORT"),
        (("--url", "http://127.0.0.1:1"), "url: no autoscaler answers at http://127.0.0.1:1: "),
    ],
)
def test_bad_input_ends_with_one_line_that_says_what_would_be_right(
    url: str, options: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["explain", "--url", url, *options])
    assert ended.value.code == 2
    assert words.replace("URL", url) in capsys.readouterr().err
