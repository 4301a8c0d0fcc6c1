"""What the kit requires is above the versions with known holes."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements():
    """Every requirement of the kit and of its extras."""
    extras = (part for extra in PROJECT["optional-dependencies"].values() for part in extra)
    return [Requirement(text) for text in [*PROJECT["dependencies"], *extras]]


@pytest.mark.behaviour("S13", "S21")
@pytest.mark.parametrize(
    ("package", "holed"), [("tornado", "6.5.6"), ("celery", "5.6.3"), ("kombu", "5.6.2"), ("flower", "2.1.0")]
)
def test_no_version_with_a_known_hole_is_accepted(package, holed):
    asked = [requirement for requirement in requirements() if requirement.name == package]
    assert asked
    assert not [str(requirement) for requirement in asked if holed in requirement.specifier]


@pytest.mark.behaviour("S26")
def test_images_are_built_from_pinned_dependencies():
    assert "PIP_CONSTRAINT=/source/constraints.txt" in (ROOT / "Dockerfile").read_text()
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all("==" in line for line in lines if line and not line.startswith("#"))
