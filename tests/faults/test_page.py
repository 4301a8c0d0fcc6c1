"""docs/reliability.md has a row for every fault test, and no other."""

from local.run import ROOT
from tests.faults.rows import SECTIONS, declared, modules


def rows_of_the_page():
    lines = (ROOT / "docs" / "reliability.md").read_text().splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    return [(fault, expected) for fault, expected, _ in cells if fault not in ("fault", "---")]


def test_every_fault_test_has_its_row_and_every_row_its_test():
    assert rows_of_the_page() == [(row.fault, row.expected) for row in declared()]


def test_no_file_of_fault_tests_is_left_out():
    assert modules() == set(SECTIONS)
