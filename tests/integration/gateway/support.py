"""A gateway as a process, and workers that know nothing of the kit."""

import json
import sys
import urllib.error
import urllib.request
from types import SimpleNamespace

from local.http import answers


class Gateway:
    """A process of `python -m gateway`, and requests to it."""

    def __init__(self, run, environ, number):
        self._run, self.name = run, f"gateway-test-{number}"
        self.port = run.ports.spare()
        own = {"CELERYKIT_GATEWAY_HOST": "127.0.0.1", "CELERYKIT_GATEWAY_PORT": str(self.port)}
        run.processes.start(self.name, [sys.executable, "-m", "gateway"], environ | own)
        run.processes.wait_ready(self.name, lambda: answers(f"{self.url}/readyz"), 30)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def process(self):
        return self._run.processes.find(self.name)

    def request(self, method, path, body=None, **headers):
        """Send one request, underscores of header names being dashes; status, headers, JSON."""
        request = urllib.request.Request(self.url + path, method=method)
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            answer = urllib.request.urlopen(request, timeout=60)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            text = answer.read()
            is_json = "json" in answer.headers["Content-Type"]
            return SimpleNamespace(
                status=answer.status,
                headers=answer.headers,
                json=json.loads(text) if is_json else text.decode(),
            )

    def delete(self, path, **headers):
        return self.request("DELETE", path, **headers)

    def get(self, path, **headers):
        return self.request("GET", path, **headers)

    def post(self, task, args=(), **headers):
        return self.request("POST", f"/v1/tasks/{task}", {"args": args}, **headers)
