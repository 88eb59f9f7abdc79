"""The JSON Schema of what other services may send, made from the models of `tasks.job_messages`."""

from __future__ import annotations

from typing import Any

from tasks import job_messages
from tasks.registry import load_kinds

#: Before the slug of a kind: the name of the Celery message that asks for a task of it.
PREFIX = "schedule."


def document() -> dict[str, Any]:
    """Return the schema: the keyword arguments of each message stand in `$defs` under the message's name."""
    slugs = {name: kind.slug for name, kind in load_kinds().items()}
    definitions = {
        PREFIX + slugs[kind]: model.model_json_schema(mode="validation") | {"title": PREFIX + slugs[kind]}
        for kind, model in sorted(job_messages.known().items())
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:arcfleet:jobs:{job_messages.VERSION}",
        "title": "Jobs that other services send to arcfleet",
        "description": "Keyword arguments of a Celery message on the channel arcfleet.intake, by the message's name.",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in definitions],
        "$defs": definitions,
    }
