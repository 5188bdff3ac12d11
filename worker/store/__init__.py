"""All SQL of the service, under the names of what it does.

Every function takes a `Transaction`: a connection and the moment its transaction began, by the
database's clock. Nothing here decides; it reads and writes what it is told.

The statements are the same on SQLite and PostgreSQL. Where the two differ, the difference has a name:

- skip-locked claims: PostgreSQL passes over rows that someone else has in hand; SQLite has one writer
  at a time (`orderflow_outbox.sqlite.prepare`) and SQLAlchemy leaves FOR UPDATE out there.
- identity: `orderflow_outbox.types.Identity64`.
- moments: `orderflow_outbox.types.UtcDateTime`, and the clock, `orderflow_outbox.clock.database_now`.
- upserts: `orderflow_outbox.dialects.insert_on`.
- bounds on waiting: a transaction's own on PostgreSQL (`transactions`), the connection's busy timeout
  on SQLite.
- shares of a span of time: `aging.has_lived`.
- true and false in the condition of an index: `orderflow_outbox.tables`.
"""
