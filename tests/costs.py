"""What a passphrase or password costs in tests, which make hundreds: what stands beside a hash is taken as it is.

What new ones really cost is held in `tests.node.test_keystore` and `tests.hub.test_passwords`.
"""

from __future__ import annotations

from typing import Final

import pytest

from hub_server.sign_in import passwords
from hub_server.sign_in.passwords import Cost
from hwc_node import keystore

CHEAP: Final = Cost(memory_kib=64, iterations=1, lanes=1)


def make_cheap(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(keystore, "NEW_MEMORY_KIB", CHEAP.memory_kib)
    patch.setattr(keystore, "NEW_ITERATIONS", CHEAP.iterations)
    patch.setattr(passwords, "NEW_COST", CHEAP)
