"""Runs the simulations of the pages and writes what they show and draw; `--check` only compares.

In such a page, a block `python` with dice writes a load. A block `sh` has one command, whose output is in the
block `text` after it, and whose picture, if it draws one, is in docs/figures.
"""

import re
import shlex
import subprocess
import sys
import tempfile
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path

from autoscaler.__main__ import main as autoscaler

FOLDER = Path(__file__).parent
FIGURES = FOLDER / "figures"
PAGES = [FOLDER / f"{name}.md" for name in ("simulate", "tuning")]
PROGRAM = ".venv/bin/autoscaler"
LOAD = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = re.compile(
    r"(^```sh\n(\.venv/bin/autoscaler (?:simulate|recommend) --trace .*?)^```\n\n```text\n)(.*?)(^```$)",
    re.MULTILINE | re.DOTALL,
)


def current(page: Path) -> tuple[str, dict[str, bytes]]:
    """The page as it should be, and the pictures that its commands draw, by their names."""
    text = page.read_text()
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        for load in filter(lambda found: "random.seed" in found[1], LOAD.finditer(text)):
            subprocess.run([sys.executable, "-c", load[1]], check=True)
        text = RUN.sub(lambda found: f"{found[1]}{output(found[2])}{found[4]}", text)
        pictures = {path.name: path.read_bytes() for path in Path().glob("*.svg")}
    return text, pictures


def output(command: str) -> str:
    """What the command prints."""
    words = shlex.split(command.replace("\\\n", ""))
    assert words[0] == PROGRAM, command
    told = StringIO()
    with redirect_stdout(told):
        autoscaler(words[1:])
    return told.getvalue()


def main(check: bool) -> None:
    """Write, or compare."""
    for page in PAGES:
        text, pictures = current(page)
        for path, content in [
            (page, text.encode()),
            *((FIGURES / name, picture) for name, picture in pictures.items()),
        ]:
            if not check:
                path.write_bytes(content)
            elif not path.exists() or path.read_bytes() != content:
                sys.exit(f"{path.name} is out of date: run `make docs`")


if __name__ == "__main__":
    main("--check" in sys.argv)
