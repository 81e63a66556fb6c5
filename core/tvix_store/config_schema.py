"""JSON Schema of whole configurations, made from the models of the installed plugins and of the presets."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from tvix_store.config import Kind
from tvix_store.presets import OPTIONS_TABLE, PRESET_KEY, PRESETS
from tvix_store.registry import Registry

__all__ = ["json_schema"]


def json_schema(registry: Registry) -> dict[str, Any]:
    """A JSON Schema (2020-12): a table for each kind, an entry being one of the models by its ``type``."""
    models = {
        kind: [registry.model(kind, tag) for tag in registry.tags(kind) if not registry.conflict(kind, tag)]
        for kind in Kind
    }
    inputs: list[tuple[type[BaseModel], Any]]
    inputs = [(model, "validation") for by_kind in models.values() for model in by_kind]
    inputs += [(preset, "validation") for preset in PRESETS.values()]
    references, definitions = models_json_schema(inputs)
    properties: dict[str, Any] = {PRESET_KEY: {"enum": list(PRESETS)}, OPTIONS_TABLE: {"type": "object"}}
    presets = [
        {
            "if": {"properties": {PRESET_KEY: {"const": name}}, "required": [PRESET_KEY]},
            "then": {"properties": {OPTIONS_TABLE: references[preset, "validation"]}},
        }
        for name, preset in PRESETS.items()
    ]
    properties |= {
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
        "allOf": presets,
        "dependentRequired": {OPTIONS_TABLE: [PRESET_KEY]},
        "$defs": {name: _with_files(model) for name, model in definitions.get("$defs", {}).items()}
        | {_FILE: _FILE_TABLE},
    }


_FILE = "FileReference"
_FILE_TABLE = {
    "description": "Stands for what is in the file, without the newline at its end.",
    "type": "object",
    "properties": {"file": {"type": "string"}},
    "required": ["file"],
    "additionalProperties": False,
}


def _with_files(model: dict[str, Any]) -> dict[str, Any]:
    """The schema of a model in which a reference to a file may stand in the place of any string."""
    properties = {key: _or_file(schema) for key, schema in model.get("properties", {}).items()}
    return {**model, "properties": properties} if properties else model


def _or_file(schema: dict[str, Any]) -> dict[str, Any]:
    alternatives = schema.get("anyOf", [schema])
    if any(one.get("type") == "object" or "$ref" in one for one in alternatives):
        return schema  # where a table is wanted, it is one
    if "anyOf" in schema:
        return {**schema, "anyOf": [*map(_or_file, alternatives)]}
    if schema.get("type") == "array" and "items" in schema:
        return {**schema, "items": _or_file(schema["items"])}
    if schema.get("type") == "string" and not {"enum", "const"} & schema.keys():
        about: dict[str, Any] = {key: schema[key] for key in ("title", "description", "default") if key in schema}
        text = {key: value for key, value in schema.items() if key not in about}
        return {**about, "anyOf": [text, {"$ref": f"#/$defs/{_FILE}"}]}
    return schema
