"""The hub's rows, no behaviour. The schema itself is made by the migrations; a test holds the two together.

    records     facilities, feeds and patients; who is subscribed; referrals and conflicts; nodes and what they bring
    staff       people and how they sign in; what doctors have begun or said they do; the audit
    counts      what is counted by day and place

Every table that grows has ``facility`` first in its key, so that where one machine is outgrown the same schema can be
distributed by facility without a change of code. In the clear stand only opaque ids, facility, kind, specialty,
urgency, sizes and times; a change's content is in ``item.payload``, encrypted under its patient's key.
Times are milliseconds since 1970 UTC; ids are 16 bytes unless said otherwise.
"""

from __future__ import annotations

from hub_server.tables.counts import (
    FacilityDay,
    PlaceDay,
    PlaceDue,
)
from hub_server.tables.records import (
    Arrival,
    Conflicted,
    EnrolmentCode,
    Facility,
    Feed,
    GrantKey,
    HandedNonce,
    HeldErasure,
    Hospital,
    Item,
    LinkedPatient,
    Node,
    OwnSubscriber,
    Patient,
    Quarantine,
    Referral,
    Setting,
    Subscription,
    SubscriptionDue,
    SubscriptionRequest,
)
from hub_server.tables.staff import (
    Audit,
    ClaimLock,
    Credential,
    Draft,
    Duty,
    DutyContact,
    Glass,
    PendingSignIn,
    Person,
    SignInSession,
    SignInTry,
)

__all__ = [
    "Arrival",
    "Audit",
    "ClaimLock",
    "Conflicted",
    "Credential",
    "Draft",
    "Duty",
    "DutyContact",
    "EnrolmentCode",
    "Facility",
    "FacilityDay",
    "Feed",
    "Glass",
    "GrantKey",
    "HandedNonce",
    "HeldErasure",
    "Hospital",
    "Item",
    "LinkedPatient",
    "Node",
    "OwnSubscriber",
    "Patient",
    "PendingSignIn",
    "Person",
    "PlaceDay",
    "PlaceDue",
    "Quarantine",
    "Referral",
    "Setting",
    "SignInSession",
    "SignInTry",
    "Subscription",
    "SubscriptionDue",
    "SubscriptionRequest",
]
