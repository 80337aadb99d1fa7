"""What a passphrase or password costs in tests, which make hundreds: what stands beside a hash is taken as it is.

What new ones really cost is held in `tests.node.test_keystore` and `tests.hub.test_passwords`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hub_server.sign_in import passwords
from hub_server.sign_in.passwords import Cost
from hwc_node import keystore

CHEAP: Final = Cost(memory_kib=64, iterations=1, lanes=1)


def make_cheap(put: Callable[[object, str, object], None]) -> None:
    """put: as `setattr`."""
    put(keystore, "NEW_MEMORY_KIB", CHEAP.memory_kib)
    put(keystore, "NEW_ITERATIONS", CHEAP.iterations)
    put(passwords, "NEW_COST", CHEAP)
