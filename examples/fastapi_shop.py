"""A web shop on FastAPI and SQLAlchemy's ORM: an order and its message, in one transaction.

pip install fastapi uvicorn
uvicorn --app-dir examples fastapi_shop:app
curl --json '{"number": "SO-1001", "sku": "SKU-1", "quantity": 2}' localhost:8000/orders
"""

import os

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy import String, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import orderflow_outbox as outbox
from orderflow_outbox import IdempotencyConflict, InvalidMessage, enqueue, imports
from orderflow_outbox.sqlite import prepare

engine = create_engine(os.environ.get("SHOP_DATABASE_URL", "sqlite:///var/outbox.db"))
if engine.dialect.name == "sqlite":
    prepare(engine)


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "shop_order"

    number: Mapped[str] = mapped_column(String(64), primary_key=True)
    sku: Mapped[str] = mapped_column(String(64))
    quantity: Mapped[int]


class NewOrder(BaseModel):
    number: str = Field(min_length=1, max_length=64)
    sku: str = Field(min_length=1, max_length=64)
    quantity: int = Field(gt=0)


Base.metadata.create_all(engine)
app = FastAPI()


def document(new: NewOrder) -> bytes:
    """Return the order as OrderFlow imports it."""
    lines = [{"product": {"externalReference": new.sku}, "quantity": new.quantity}]
    return imports([outbox.Order(new.number, {"state": "created", "orderLine": lines})])


def take_payment(order: NewOrder) -> None:
    """Ask the payment provider, in a real shop; whatever is raised here undoes order and message."""


# A plain `def` runs in a thread: the database is waited for there, not in the event loop.
@app.post("/orders", status_code=201)
def place_order(new: NewOrder) -> dict[str, str | int]:
    with Session(engine) as session, session.begin():
        message = enqueue(
            session,
            "order-import",
            document(new),
            channel="web",
            key=f"order:{new.number}",
            idempotency_key=f"order-import:{new.number}",
        )
        if message.created:  # else the order came a second time, as after a lost answer
            session.add(Order(number=new.number, sku=new.sku, quantity=new.quantity))
            take_payment(new)
    return {"number": new.number, "message": message.id}


@app.exception_handler(IdempotencyConflict)
def other_content(_request: Request, error: IdempotencyConflict) -> JSONResponse:
    return JSONResponse({"detail": str(error), "message": error.message_id}, status_code=409)


@app.exception_handler(InvalidMessage)
def not_deliverable(_request: Request, error: InvalidMessage) -> JSONResponse:
    return JSONResponse({"detail": {error.field: error.fix}}, status_code=422)
