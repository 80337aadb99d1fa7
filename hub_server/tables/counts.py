"""What is counted by day and place (see `tallies`)."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, SmallInteger, text
from sqlmodel import Field, SQLModel

from hub_server.tables.columns import big, binary


class FacilityDay(SQLModel, table=True):
    """What is counted of a centre's day (see `tallies`). day: since 1970 in India. marked: how often something of it has
    changed; counted: up to which mark. waits: classes of waiting times, 4 bytes each, the last one first. doctors: the
    numbers of those who did something, 4 bytes each. Of the day -1: what waits now, whenever it came."""

    __tablename__ = "facility_day"
    __table_args__ = (
        Index("facility_day_due", "facility", "day", postgresql_where=text("marked <> counted")),
        Index("facility_day_open", "facility", "day", postgresql_where=text("open > 0")),
    )
    facility: str = Field(primary_key=True)
    day: int = Field(primary_key=True)
    marked: int = Field(sa_column=big())
    counted: int = Field(default=0, sa_column=big())
    consultations: int = 0
    referrals: int = 0
    answered: int = 0
    within_hour: int = 0
    within_day: int = 0
    open: int = 0
    oldest_ms: int | None = Field(default=None, sa_column=big(nullable=True))
    waits: bytes = Field(default=b"", sa_column=binary())
    doctors: bytes = Field(default=b"", sa_column=binary())


class PlaceDay(SQLModel, table=True):
    """The same added up. level: 0 the country, 1 a state, 2 a district. doctors: a bit for each, at its number."""

    __tablename__ = "place_day"
    __table_args__ = (Index("place_day_place", "level", "state", "district", "day"),)
    level: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    day: int = Field(primary_key=True)
    state: str = Field(primary_key=True)
    district: str = Field(primary_key=True)
    consultations: int = 0
    referrals: int = 0
    answered: int = 0
    within_hour: int = 0
    within_day: int = 0
    open: int = 0
    oldest_ms: int | None = Field(default=None, sa_column=big(nullable=True))
    waits: bytes = Field(default=b"", sa_column=binary())
    doctors: bytes = Field(default=b"", sa_column=binary())


class PlaceDue(SQLModel, table=True):
    """A district's day that is to be added up anew, since a centre of it has moved away."""

    __tablename__ = "place_due"
    seq: int = Field(sa_column=Column(BigInteger, primary_key=True))
    state: str
    district: str
    day: int
