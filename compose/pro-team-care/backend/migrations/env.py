"""Runs the migrations against the application's own database, one runner at a time."""

from alembic import context
from app.database import Base, engine
from sqlalchemy import text

with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('migrations'))"))
        context.run_migrations()
