"""The columns that rows are made of."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, LargeBinary


def binary(*, nullable: bool = False, primary: bool = False) -> Column[bytes]:
    return Column(LargeBinary, nullable=nullable, primary_key=primary)


def big(*, nullable: bool = False) -> Column[int]:
    return Column(BigInteger, nullable=nullable)
