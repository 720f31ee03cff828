"""The patients in PostgreSQL."""

import os
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

from fastapi import Depends
from sqlalchemy import URL, BigInteger, DateTime, String, create_engine, func
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine(
    URL.create(
        "postgresql+psycopg",
        os.environ["DB_USERNAME"],
        os.environ["DB_PASSWORD"],
        os.environ["DB_HOST"],
        5432,
        os.environ["DB_DATABASE"],
    ),
    pool_pre_ping=True,
    pool_timeout=20,
    connect_args={"connect_timeout": 10},
    hide_parameters="APP_DEBUG" not in os.environ,
)


class Base(DeclarativeBase):
    pass


class Patient(Base):
    __tablename__ = "patients"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    admitted_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


def _session() -> Iterator[Session]:
    with Session(engine) as session:
        yield session


Database = Annotated[Session, Depends(_session)]
