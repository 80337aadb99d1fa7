"""Opens the link to the hub, and loads what speaks HTTP only then.

Its 7 MB would else stand beside what unlocking a database takes, the most that any command of a node needs.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from hwc_node.config import NodeConfig

if TYPE_CHECKING:
    from hwc_node.sync.hub_http import HubClient


def open_hub(config: NodeConfig, url: str, timeout_s: float | None = None) -> AbstractContextManager[HubClient]:
    """As `hub_http.open_hub`."""
    from hwc_node.sync import hub_http

    return hub_http.open_hub(config, url, timeout_s)


def hub_address(config: NodeConfig, url: str) -> str:
    """As `hub_http.hub_address`."""
    from hwc_node.sync import hub_http

    return hub_http.hub_address(config, url)
