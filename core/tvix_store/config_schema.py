"""JSON Schema of whole configurations, made from the models of the installed plugins."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from tvix_store.config import Kind
from tvix_store.registry import Registry

__all__ = ["json_schema"]


def json_schema(registry: Registry) -> dict[str, Any]:
    """A JSON Schema (2020-12): a table for each kind, an entry being one of the models by its ``type``."""
    models = {
        kind: [registry.model(kind, tag) for tag in registry.tags(kind) if not registry.conflict(kind, tag)]
        for kind in Kind
    }
    inputs = [(model, "validation") for by_kind in models.values() for model in by_kind]
    references, definitions = models_json_schema(inputs)  # type: ignore[arg-type]  # the list is invariant
    properties = {
        kind.value: {
            "type": "object",
            "additionalProperties": {
                "discriminator": {"propertyName": "type"},
                "oneOf": [references[model, "validation"] for model in by_kind],
            }
            if by_kind
            else False,
        }
        for kind, by_kind in models.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tvix-store configuration",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "$defs": definitions.get("$defs", {}),
    }
