"""The exchange with the hub over HTTP: `run` is a whole sync, `exchange` one request and its answer.

``link`` is the way there, ``connecting`` opens it, ``hub_http`` carries bytes on it and knows `httpx`, ``one_exchange``
brings the outbox, the protocol and the inbox together, ``course`` repeats it. Nothing is trusted for coming from an
address: a login page with status 200 is told apart by its first bytes, everything else by signatures. Errors and logs
carry no patient's data.
"""

from __future__ import annotations

from hwc_node.answer import ExchangeResult
from hwc_node.standing import Plan, plan
from hwc_node.sync.connecting import hub_address, open_hub
from hwc_node.sync.course import Progress, SyncResult, one_at_a_time, run
from hwc_node.sync.link import Body, HubOutOfReach, RefusedByHub, retry_after_s
from hwc_node.sync.one_exchange import Carrier, exchange, wall_ms

__all__ = [
    "Body",
    "Carrier",
    "ExchangeResult",
    "HubOutOfReach",
    "Plan",
    "Progress",
    "RefusedByHub",
    "SyncResult",
    "exchange",
    "hub_address",
    "one_at_a_time",
    "open_hub",
    "plan",
    "retry_after_s",
    "run",
    "wall_ms",
]
