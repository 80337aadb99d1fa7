"""Hypothesis profiles, and the one rule about shared data: where ``../shared`` is absent its tests are not collected.

Each run draws fresh examples, in CI too (Hypothesis would draw the same ones there each time), and a failing one is
printed as a line that replays it. ``HYPOTHESIS_PROFILE=soak``, which ``make soak`` sets, looks fifty times longer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from bench import places
from tests import warm
from tests.costs import make_cheap

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"

_FRESH = settings(
    derandomize=False,
    print_blob=True,
    deadline=None,  # two cores do other work beside: a slow moment is no failure
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("quick", _FRESH, max_examples=60)
settings.register_profile("soak", _FRESH, max_examples=3_000, deadline=timedelta(seconds=10))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

collect_ignore = [] if SHARED.is_dir() else ["shared"]


@pytest.fixture(scope="session", autouse=True)
def cheap_passphrases() -> Iterator[None]:
    """What a new one costs in this process."""
    with pytest.MonkeyPatch.context() as patch:
        make_cheap(patch.setattr)
        yield


@pytest.fixture(scope="session")
def warm_folder() -> Iterator[Path]:
    """Where programs are that start at once (`tests.warm`)."""
    with warm.programs() as folder:
        yield folder


@pytest.fixture(scope="module")
def warm_programs(warm_folder: Path) -> Iterator[None]:
    """The commands of this module's places start at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "BIN", warm_folder)
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was counted in the browser is printed where everybody sees it, also when workers ran the tests."""
    told = [
        str(value)
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == "keystrokes"
    ]
    if told:
        terminalreporter.section("entry by keyboard")
        terminalreporter.line("\n".join(sorted(set(told))))
