"""The chart as its last version was, from this repository's history."""

import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import yaml

from tests.chart.render import CHART

ROOT = CHART.parents[1]
PLACE = CHART.relative_to(ROOT)


def version(text: str) -> str:
    """The version that a Chart.yaml says."""
    return str(yaml.safe_load(text)["version"])


def previous(folder: Path) -> Path:
    """Unpack the newest chart of another version than this one's. Raises LookupError without its history."""
    now = version((CHART / "Chart.yaml").read_text())
    try:
        for commit in _git("rev-list", "HEAD", "--", str(PLACE)).decode().split():
            if version(_git("show", f"{commit}:{PLACE}/Chart.yaml").decode()) != now:
                with tarfile.open(fileobj=BytesIO(_git("archive", commit, str(PLACE)))) as archive:
                    archive.extractall(folder, filter="data")
                return folder / PLACE
    except (OSError, subprocess.CalledProcessError) as error:
        raise LookupError("the history of this repository is not here") from error
    raise LookupError("no other version of the chart is in this history, which may be a shallow clone's")


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True).stdout
