"""What the node knows of itself: its keys and certificate, its hub, its clock, its link. One small table of values.

Each value is msgpack under a stable name. Keys are read once and then held in `Membership`; what changes with every
save or exchange (`LAST_HLC`, `NONCE`, `LINK`, …) is read and written inside of the transaction that needs it. This
file refuses to know how an enrolment goes, and what an exchange does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from sync_protocol import keys
from sync_protocol.change import FacilityCode, NodeId
from sync_protocol.errors import NeedsPerson
from sync_protocol.keys import Certificate, EnvironmentId, HubKeys, Identity, Recipient, Verifier
from sync_protocol.segment import Link

NODE: Final = "node"
NODE_NAME: Final = "node_name"
SIGNING_SEED: Final = "signing_seed"
SEALING_SEEDS: Final = "sealing_seeds"
CERTIFICATE: Final = "certificate"
HUB_KEYS: Final = "hub_keys"
ROOT_FINGERPRINT: Final = "root_fingerprint"
HUB_URL: Final = "hub_url"
FACILITY_NAME: Final = "facility_name"
ENROLLED_MS: Final = "enrolled_ms"
LOCAL_CA: Final = "local_ca"  # [certificate, key] of this centre's own authority, DER (local_ca)
ENROLLING: Final = "enrolling"  # [code, address, sealed request] of an enrolment by files, until its answer is here

LAST_HLC: Final = "last_hlc"  # of this node's newest save
HUB_TIME_MS: Final = "hub_time_ms"  # the hub's signed time, as last told
CLOCK_ERROR_MS: Final = "clock_error_ms"  # this device's clock less the hub's, when it was told
NONCE: Final = "nonce"
EPOCH: Final = "epoch"
FEED_POSITION: Final = "feed_position"  # the head of the hub's feed, as last told
AHEAD: Final = "ahead"  # a new device's mark of how far it came; empty once it follows its feed
HUB_GRANT: Final = "hub_grant"  # id of the newest grant of the hub's making
LINK: Final = "link"  # [segment_bytes, bytes_per_s]
HELLO_ALONE: Final = "hello_alone"  # something was sent whose answer was not read whole
HIDDEN_LATELY: Final = "hidden_lately"  # [since ms, how many records news has hidden or erased since]
LAST_ATTEMPT_MS: Final = "last_attempt_ms"
LAST_SUCCESS_MS: Final = "last_success_ms"
LAST_BACKUP_MS: Final = "last_backup_ms"
LAST_ERROR: Final = "last_error"  # a code; empty after a success


@dataclass(frozen=True, slots=True)
class Membership:
    """An enrolled node: who it is, and whose hub it belongs to. hub_url: as the enrolment code carried it."""

    node: NodeId
    facility: FacilityCode
    facility_name: str
    node_name: str
    environment: EnvironmentId
    identity: Identity = field(repr=False)
    recipient: Recipient = field(repr=False)
    certificate: bytes = field(repr=False)
    hub_keys: HubKeys = field(repr=False)
    hub_url: str
    root_fingerprint: bytes
    enrolled_ms: int
    hub_verifier: Verifier = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hub_verifier", Verifier(self.hub_keys.signing_key))

    @property
    def hub(self) -> NodeId:
        """The hub's own node id: the author of what it writes, the sender of its pages."""
        return NodeId(self.hub_keys.hub)


def get(connection: Connection, key: str, default: Any = None) -> Any:
    """One value, or the default where nothing was put."""
    raw = connection.exec_driver_sql("SELECT value FROM setting WHERE key = ?", (key,)).scalar()
    return default if raw is None else msgspec.msgpack.decode(raw)


def get_all(connection: Connection) -> dict[str, Any]:
    """Every value, some twenty."""
    return {
        str(key): msgspec.msgpack.decode(raw)
        for key, raw in connection.exec_driver_sql("SELECT key, value FROM setting")
    }


def put(connection: Connection, values: Mapping[str, Any]) -> None:
    """Set these values; the others stay."""
    connection.exec_driver_sql(
        "INSERT INTO setting (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        [(key, msgspec.msgpack.encode(value)) for key, value in values.items()],
    )


def link_of(values: Mapping[str, Any]) -> Link:
    """What the node believes of its link; of a link that it has never used, the beginner's values."""
    found = values.get(LINK)
    return Link(int(found[0]), float(found[1])) if found else Link()


def link_values(link: Link) -> dict[str, Any]:
    return {LINK: [link.segment_bytes, link.bytes_per_s]}


def membership_of(values: Mapping[str, Any]) -> Membership:
    """The membership that these values make. Raises NeedsPerson (``E_NOT_ENROLLED``) before enrolment is through."""
    if not values.get(CERTIFICATE):
        raise NeedsPerson(
            "This node is not enrolled at a hub yet.",
            code="E_NOT_ENROLLED",
            next_step="Ask the hub's operator for a code and run: hwc enrol CODE",
        )
    certificate = keys.read_document(values[CERTIFICATE], Certificate)[0]
    return Membership(
        NodeId(values[NODE]),
        FacilityCode(certificate.facility),
        values[FACILITY_NAME],
        values[NODE_NAME],
        EnvironmentId(certificate.environment),
        Identity(values[SIGNING_SEED]),
        Recipient.from_seeds(values[SEALING_SEEDS]),
        values[CERTIFICATE],
        keys.verify_hub_keys(values[HUB_KEYS], values[ROOT_FINGERPRINT]),
        values[HUB_URL],
        values[ROOT_FINGERPRINT],
        values[ENROLLED_MS],
    )
