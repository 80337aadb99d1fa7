"""What a small laptop's memory is kept free of: packages that libraries take along wherever they are there."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Final

NEEDLESS: Final = ("rich", "pygments")
SERVING: Final = """
import json, sys
from pathlib import Path
from hwc_node import lean
from hwc_node.config import NodeConfig
from hwc_node.sync import connecting
with lean.without("rich"):
    import hwc_node.cli.serving
address = connecting.hub_address(NodeConfig(home=Path("nowhere")), "https://hub.example.org/")
loaded = sorted({name.partition(".")[0] for name in sys.modules})
import pygments
print(json.dumps({"address": address, "loaded": loaded, "found again": pygments.__name__}))
"""


def test_what_serves_and_speaks_with_the_hub_leaves_out_what_only_draws() -> None:
    ran = subprocess.run([sys.executable, "-c", SERVING], capture_output=True, text=True, check=True)
    told = json.loads(ran.stdout)
    assert told["address"].startswith("https://hub.example.org")
    assert {"httpx", "structlog"} <= set(told["loaded"])
    assert not set(NEEDLESS) & set(told["loaded"])
    assert told["found again"] == "pygments"
