"""Stories of many commands: their programs start at once."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def quick_commands(warm_programs: None) -> None:
    """See `tests.warm`."""
