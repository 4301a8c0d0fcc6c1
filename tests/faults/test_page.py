"""docs/reliability.md has a row for every fault test, and no other, and names no test that is not there."""

from local.run import ROOT
from tests.faults.catalogue import CATALOGUE, unknown
from tests.faults.report import coverage
from tests.faults.rows import SECTIONS, declared, modules

PAGE = (ROOT / "docs" / "reliability.md").read_text()


def rows_of_the_page():
    lines = PAGE.removesuffix(coverage()).splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    return [(fault, expected) for fault, expected, _ in cells if fault not in ("fault", "---")]


def test_every_fault_test_has_its_row_and_every_row_its_test():
    assert rows_of_the_page() == [(row.fault, row.expected) for row in declared()]


def test_the_page_ends_with_what_is_covered():
    assert PAGE.endswith(coverage())


def test_every_known_fault_has_a_test_or_a_reason_for_none():
    assert [entry.fault for entry in CATALOGUE if not (entry.tests or entry.reason)] == []


def test_every_test_that_is_named_is_there():
    assert unknown() == []


def test_every_fault_test_covers_a_known_fault():
    covered = {test for entry in CATALOGUE for test in entry.tests}
    assert [row.test for row in declared() if row.test not in covered] == []


def test_no_file_of_fault_tests_is_left_out():
    assert modules() == set(SECTIONS)
