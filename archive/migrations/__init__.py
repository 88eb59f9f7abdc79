"""Alembic migrations, package data."""
