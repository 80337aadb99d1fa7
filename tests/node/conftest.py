"""The commands that these tests run beside themselves start at once."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def quick_commands(warm_programs: None) -> None:
    """See `tests.warm`."""
