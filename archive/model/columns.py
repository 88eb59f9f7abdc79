"""Column types that the tables share."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, DateTime, Dialect, Enum, Identity, LargeBinary, func
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


class Digest(TypeDecorator[str]):
    """A SHA-256: 64 hexadecimal digits in Python, 32 bytes in the database."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> bytes | None:
        """Turn digits into bytes."""
        return None if value is None else bytes.fromhex(value)

    def process_result_value(self, value: Any | None, _dialect: Dialect) -> str | None:
        """Turn bytes into digits."""
        return None if value is None else bytes(value).hex()


def number(comment: str) -> Mapped[int]:
    """Declare the primary key: a number that the database gives."""
    return mapped_column(BigInteger, Identity(), primary_key=True, comment=comment)


def instant(comment: str) -> Mapped[datetime]:
    """Declare a point in time that is the transaction's start unless given."""
    return mapped_column(DateTime(timezone=True), server_default=func.now(), comment=comment)


def choice(values: type[StrEnum]) -> Enum:
    """Return the type of a column that takes one of `values`, kept as text and checked by the database."""
    return Enum(
        values,
        name=f"{values.__name__.lower()}_known",
        native_enum=False,
        create_constraint=True,
        length=16,
        values_callable=lambda members: [member.value for member in members],
    )
