"""A worker in all but the tasks: `POST /busy` makes it so; it writes down whether it was busy when ended."""

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType

name = os.environ["CELERYKIT_WORKER_NAME"].partition("@")[0]
state = {"ready": True, "draining": False, "active": 0, "reserved": 0, "slots": 2, "worker": name}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer(200 if state["ready"] else 503)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/busy":
            state["active"] = int(body)
        elif self.headers["Authorization"] != f"Bearer {os.environ['CELERYKIT_DRAIN_TOKEN']}":
            return self.answer(401)
        else:
            state["draining"] = self.path == "/drain"
            state["ready"] = not state["draining"]
        return self.answer(200)

    def answer(self, code: int) -> None:
        body = json.dumps(state).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def end(*_: int | FrameType | None) -> None:
    Path(os.environ["FAKE_ENDS"], name).write_text("busy" if state["active"] else "empty")
    sys.stdout.write("ended\n")
    sys.stdout.flush()
    os._exit(0)


signal.signal(signal.SIGTERM, end)
environment = {key: value for key, value in os.environ.items() if key.startswith("CELERYKIT_")}
Path(os.environ["FAKE_ENDS"], f"{name}.env").write_text(json.dumps(environment))
port = int(os.environ["CELERYKIT_WORKER_PORT"])
ThreadingHTTPServer((os.environ["CELERYKIT_WORKER_HOST"], port), Handler).serve_forever()
