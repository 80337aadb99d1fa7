"""The baseline: a plain FastAPI and SQLModel hub, as one would write it in an afternoon. Last writer wins.

It opens nothing, checks nothing but shapes, encrypts nothing, keeps no history, and has no feed: what it costs to store
the same records with the same parts. `DATABASE_URL` names its database; tables are made at the start.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from sqlalchemy import BigInteger, Column
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlmodel import Field, Session, SQLModel, col, create_engine, select


class Document(SQLModel, table=True):
    __tablename__ = "plain_document"
    kind: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    facility: str = Field(index=True)
    patient: str = Field(index=True)
    at: int = Field(sa_column=Column(BigInteger, nullable=False))
    fields: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))


engine = create_engine(os.environ["DATABASE_URL"], pool_size=8)
app = FastAPI()


@app.get("/readyz")
def ready() -> str:
    return "ready"


@app.post("/documents")
def take(batch: list[Document]) -> dict[str, int]:
    given = insert(Document).values([one.model_dump() for one in batch])
    newest = {name: given.excluded[name] for name in ("facility", "patient", "at", "fields")}
    stored = given.on_conflict_do_update(
        index_elements=["kind", "id"], set_=newest, where=col(Document.at) <= given.excluded["at"]
    )
    with Session(engine) as session:
        session.execute(stored)
        session.commit()
    return {"taken": len(batch)}


@app.get("/documents")
def since(facility: str, after: int) -> list[Document]:
    with Session(engine) as session:
        wanted = select(Document).where(Document.facility == facility, Document.at > after)
        return list(session.exec(wanted.order_by(col(Document.at)).limit(1000)))


if __name__ == "__main__":
    SQLModel.metadata.create_all(engine)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
