"""Runs the migrations on the connection that `worker.schema` hands over."""

from __future__ import annotations

from alembic import context

from orderflow_outbox.schema import VERSION_TABLE

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table=VERSION_TABLE, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
