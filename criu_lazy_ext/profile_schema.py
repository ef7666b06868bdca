"""The profile as a JSON Schema, for editors: made of the very model (profile.py) that reads it, and of the
tables of keys in docs/, which a checkout has.

`python -m criu_lazy_ext.profile_schema` writes profile.schema.json, which is installed beside this file.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from criu_lazy_ext import profile

FILE = Path(__file__).with_name("profile.schema.json")
TABLES = [Path(__file__).parent.parent / "docs" / name for name in ("migrate.md", "containers.md")]
_TEXTS: dict[str, Any] = {"type": "array", "items": {"type": "string"}}
_TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
_TYPES: dict[Any, dict[str, Any]] = {
    str: _TEXT,
    bool: {"type": "boolean"},
    int: {"type": "integer", "minimum": 0},
    float: {"type": "number", "minimum": 0},
    Path: {"type": "string", "pattern": "^/"},
    list[str]: _TEXTS,
    list[Path]: {"type": "array", "items": {"type": "string", "pattern": "^/"}},
    list[profile.MovedAddress]: {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": "^\\S+ dev "}},
    str | list[str]: {"anyOf": [_TEXT, _TEXTS | {"minItems": 1}]},
    profile.Size: {"type": ["integer", "string"], "pattern": "^[0-9]+[KMGkmg]?$"},
    profile.Rounds: {"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 1000}]},
}


@functools.cache
def meanings() -> dict[str, str]:
    """What each key means, as the tables below "## The profile" have it."""
    found: dict[str, str] = {}
    for page in TABLES:
        _, _, rest = page.read_text().partition("\n## The profile\n")
        for keys, text in re.findall(r"^\| (`.*?) \| .*? \| (.+) \|$", rest.partition("\n## ")[0], re.MULTILINE):
            first, *others = re.findall(r"`([^`]+)`", keys)
            text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text.replace(" (below)", ""))
            found |= dict.fromkeys([first, *(first.rpartition(".")[0] + other for other in others)], text)
    return found


def _meaning(key: str) -> dict[str, str]:
    name = "hooks.PHASE" if key.startswith("hooks.") else re.sub("^predump", "precopy", key)
    return {"description": meanings()[name]} if name in meanings() else {}


def schema() -> dict[str, Any]:
    """Of a whole profile."""
    title = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "criu-lazy migrate: a profile"}
    one_of = {"oneOf": [{"required": ["task"]}, {"required": ["container"]}]}
    return title | _section(profile.Profile, "") | one_of


def _section(model: type[Any], key: str) -> dict[str, Any]:
    hints = get_type_hints(model)
    properties = {
        item.name: _meaning(path := f"{key}.{item.name}".lstrip("."))
        | _value(hints[item.name], path)
        | _default(item.default)
        for item in fields(model)
    }
    if not key:
        properties |= {other: properties[name] for other, name in profile.OTHER_NAMES.items()}
    required = [item.name for item in fields(model) if item.default is MISSING and item.default_factory is MISSING]
    described = {"description": " ".join((model.__doc__ or "").split())}
    made = {"type": "object", "additionalProperties": False, "properties": properties}
    return described | made | ({"required": required} if required else {})


def _default(value: Any) -> dict[str, Any]:
    if value is None or value is MISSING:
        return {}
    return {"default": str(value) if isinstance(value, Path) else value}


def _value(hint: Any, key: str) -> dict[str, Any]:
    hint = next((kind for kind in (*profile.SECTIONS, *_TYPES) if hint in (kind, kind | None)), hint)
    if key == "hooks":
        hook = _section(profile.Hook, "hook") | {"required": ["run"]}
        phases = {phase: _meaning(f"hooks.{phase}") | {"type": "array", "items": hook} for phase in profile.PHASES}
        return {"type": "object", "additionalProperties": False, "properties": phases}
    if is_dataclass(hint) and isinstance(hint, type):
        return _section(hint, key)
    choices = profile.CHOICES.get(key) or (profile.CHOICES["on"] if key.endswith(".on") else None)
    if key == "accept":
        return {"type": "array", "items": {"enum": profile.check_names()}}
    return {"enum": list(choices)} if choices else _TYPES[hint]


def text() -> str:
    """Of the file."""
    return json.dumps(schema(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
