"""Linters that others write: what they find is mended, or has its reason in a file."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import yaml

from tests.chart.cases import CASES
from tests.chart.render import GIVEN, Objects
from tests.cluster import build

ROOT = Path(__file__).parents[2]
WAIVERS: Mapping[str, Mapping[str, str]] = yaml.safe_load(
    (Path(__file__).parent / "kube-score.yaml").read_text()
)
ANY = "any"
OPTIONAL = ("container-seccomp-profile", "container-ports-check")
GOOD = 10

pytestmark = pytest.mark.timeout(600)  # the first test compiles the linter


class Finding(NamedTuple):
    """What kube-score does not like."""

    check: str
    name: str
    says: str

    @property
    def waiver(self) -> tuple[str, str]:
        """Where its waiver stands, if it has one."""
        return self.check, self.name if self.name in WAIVERS.get(self.check, {}) else ANY


@pytest.fixture(scope="session")
def kube_score() -> Path:
    """The linter; compiled now if it is not yet, which takes a minute."""
    if not build.is_current("kube-score"):
        subprocess.run([sys.executable, "-m", "tests.cluster", "path", "kube-score"], cwd=ROOT, check=True)
    return build.path("kube-score")


@cache
def findings(program: Path, text: str) -> frozenset[Finding]:
    """All that it finds in these objects."""
    optional = [f"--enable-optional-test={name}" for name in OPTIONAL]
    done = subprocess.run(
        [program, "score", "--output-format=json", *optional, "-"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return frozenset(_found(msgspec.json.decode(done.stdout)))


def _found(scored: list[dict[str, Any]]) -> Iterator[Finding]:
    for object_ in scored:
        for check in object_["checks"]:
            if check["grade"] < GOOD and not check["skipped"]:
                said = ", ".join(f"{c['path']} {c['summary']}".strip() for c in check["comments"] or ())
                yield Finding(check["check"]["id"], object_["object_meta"]["name"], said)


def found(program: Path, objects: Objects) -> frozenset[Finding]:
    return findings(program, yaml.dump_all(objects))


@pytest.mark.behaviour("C43", "S28")
@pytest.mark.parametrize("case", CASES)
def test_what_kube_score_finds_is_waived_with_a_reason(helm, kube_score, case):
    unwaived = {
        finding
        for finding in found(kube_score, helm.render(GIVEN, CASES[case]))
        if finding.waiver[1] not in WAIVERS.get(finding.check, {})
    }
    assert unwaived == set()


@pytest.mark.behaviour("C43", "S28")
def test_each_waiver_is_needed(helm, kube_score):
    needed = {
        finding.waiver for case in CASES for finding in found(kube_score, helm.render(GIVEN, CASES[case]))
    }
    assert needed >= {(check, name) for check, names in WAIVERS.items() for name in names}


@pytest.mark.behaviour("C43", "S28")
def test_kube_score_finds_what_is_wrong(helm, kube_score):
    objects = deepcopy(helm.render(GIVEN))
    gateway = objects.container("kit-gateway/gateway")
    gateway["image"] = gateway["image"].partition(":")[0] + ":latest"
    assert "container-image-tag" in {finding.check for finding in found(kube_score, objects)}
