"""The header `Prefer`."""

import time

import pytest

from gateway.prefer import Preferences, parse


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], Preferences()),
        (["wait=10"], Preferences(wait=10)),
        (['WAIT = "10"'], Preferences(wait=10)),
        (["respond-async"], Preferences(respond_async=True)),
        (["respond-async, wait=5"], Preferences(True, 5)),
        (["respond-async", "wait=5"], Preferences(True, 5)),
        (["Respond-Async; x=1 , wait=5; y"], Preferences(True, 5)),
        (["wait=1, wait=2"], Preferences(wait=1)),
        (["wait=90"], Preferences(wait=55)),
        (["wait=0"], Preferences(wait=0)),
        (["wait"], Preferences()),
        (["wait=-1"], Preferences()),
        (["wait=1.5"], Preferences()),
        (["wait=soon"], Preferences()),
        (["wait=²"], Preferences()),
        (["handling=strict, return=minimal"], Preferences()),
        (['x="a, wait=5", respond-async'], Preferences(respond_async=True)),
        (['x="wait=5'], Preferences()),
        ([",,;=,"], Preferences()),
    ],
)
def test_what_is_malformed_or_unknown_is_ignored_and_the_first_counts(headers, expected):
    assert parse(headers, longest=55) == expected


@pytest.mark.parametrize(
    "hostile", ['"' * 16000, '"\\' * 8000, "wait=" + "9" * 16000, "wait=" + " " * 16000 + "1"]
)
def test_a_hostile_header_costs_little(hostile):
    began = time.perf_counter()
    parse([hostile], longest=55)
    assert time.perf_counter() - began < 0.1
