"""Both Helms, and the chart as they render it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.chart.render import GIVEN, Helm, Objects
from tests.cluster import build

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def programs() -> dict[str, Path]:
    """Helm 3 and Helm 4; compiled now if they are not yet, which takes minutes."""
    if not all(build.is_current(name) for name in build.HELMS):
        subprocess.run([sys.executable, "-m", "tests.cluster", "helm"], cwd=ROOT, check=True, timeout=1800)
    return {name: build.path(name) for name in build.HELMS}


@pytest.fixture(scope="session")
def helm(programs: dict[str, Path]) -> Helm:
    """The Helm that most have."""
    return Helm(programs["helm3"])


@pytest.fixture(params=build.HELMS)
def each_helm(programs: dict[str, Path], request: pytest.FixtureRequest) -> Helm:
    """One Helm, then the other."""
    return Helm(programs[request.param])


@pytest.fixture
def kit(helm: Helm) -> Objects:
    """The chart with its defaults, every secret given."""
    return helm.render(GIVEN)
