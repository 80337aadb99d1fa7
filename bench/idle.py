"""`idle`: a sync with nothing to do, on nodes with 1,000 and with 100,000 records.

Bodies of HTTP in both directions are counted. The comparison is what the plain hub's client needs to learn that there
is nothing: it asks, unsigned, by a timestamp that skips what commits late.
"""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Final

from bench.backlogs import QUICK_LINK, enrolled, fill
from bench.figures import Figure
from bench.ingest import plain_hub
from bench.places import database_url, hold, running_hub
from hwc_node import membership, sync
from hwc_node.engine import begin_write

SIZES: Final = (1_000, 100_000)
TIMES: Final = 5


def run(folder: Path) -> list[Figure]:
    found: list[Figure] = []
    with running_hub(folder) as hub, database_url(hub) as url:
        with plain_hub(url, folder) as port:
            plain_bytes = float(_plain_idle_bytes(port))
        for number, size in enumerate(SIZES, 200):
            store, person = enrolled(hub, folder, f"HWC{number:06d}")
            fill(store, person, number, size)
            with begin_write(store.engine) as connection:
                membership.put(connection, membership.link_values(QUICK_LINK))
            hold(sync.run(store).pending_changes == 0, "the node still has something to send")
            sync.run(store)  # learns of its own changes, and the last acknowledgements
            done = [sync.run(store) for _ in range(TIMES)]
            bodies = max(one.bytes_up + one.bytes_down for one in done)
            found.append(Figure("idle", f"requests at {size:,} records", max(one.requests for one in done), "requests"))
            found.append(
                Figure("idle", f"both bodies at {size:,} records", bodies, "bytes", plain_bytes, "plain hub, unsigned")
            )
            store.close()
    return found


def _plain_idle_bytes(port: int) -> int:
    """Bytes of the bodies and of the address that carries the question."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    address = "/documents?facility=HWC000001&after=1700000000000"
    connection.request("GET", address)
    answer = connection.getresponse().read()
    connection.close()
    hold(json.loads(answer) == [], "the plain hub has something")
    return len(answer) + len(address)
