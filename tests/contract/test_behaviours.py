"""What the chart promises is proven by tests or refused with a reason."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_promise_has_a_test_or_a_reason_and_the_page_says_so():
    check = subprocess.run(
        [sys.executable, ROOT / "docs" / "behaviours.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 0, check.stderr
