"""Opens the link to the hub, and loads what speaks HTTP only then.

Its 7 MB would else stand beside what unlocking a database takes, the most that any command of a node needs.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

from hwc_node import lean
from hwc_node.config import NodeConfig

if TYPE_CHECKING:
    from hwc_node.sync.hub_http import HubClient

NEEDLESS: Final = ("rich", "pygments")  # httpx has a command of its own that draws with them: 3 MB


def open_hub(config: NodeConfig, url: str, timeout_s: float | None = None) -> AbstractContextManager[HubClient]:
    """As `hub_http.open_hub`."""
    with lean.without(*NEEDLESS):
        from hwc_node.sync import hub_http

    return hub_http.open_hub(config, url, timeout_s)


def hub_address(config: NodeConfig, url: str) -> str:
    """As `hub_http.hub_address`."""
    with lean.without(*NEEDLESS):
        from hwc_node.sync import hub_http

    return hub_http.hub_address(config, url)
