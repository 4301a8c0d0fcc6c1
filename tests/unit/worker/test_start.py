"""A worker that is told to stop while it starts."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.integration.support import SERVICES


def test_a_stop_that_comes_before_celery_listens_is_not_missed():
    settings = {
        "CELERYKIT_BROKER_URL": "amqp://u:p@127.0.0.1:1/v",
        "CELERYKIT_DATABASE_URL": "mysql://u:p@127.0.0.1:1/d",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "worker"],
        env=os.environ | settings | {"PYTHONPATH": str(SERVICES)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        line = Path(f"/proc/{process.pid}/cmdline")
        end = time.monotonic() + 60
        while b"celery" not in line.read_bytes():
            assert time.monotonic() < end
        process.send_signal(signal.SIGTERM)
        # by itself: what the signal ends, as it would any process but a container's first, has -15
        assert process.wait(60) == 0
