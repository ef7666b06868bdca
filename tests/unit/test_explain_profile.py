"""`criu-lazy explain`, and the schema by which editors know a profile: both are what the model says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from paths import CONFIGS

from criu_lazy_ext.commands.explain import steps
from criu_lazy_ext.profile import load, parse
from criu_lazy_ext.profile_schema import FILE, text

SAMPLES = sorted(CONFIGS.glob("*.yaml"))


def test_the_schema_that_is_shipped_is_the_models() -> None:
    assert FILE.read_text() == text(), "run python -m criu_lazy_ext.profile_schema"


def allows(schema: dict[str, Any], value: Any) -> bool:
    """As far as the schema of a profile goes."""
    if "anyOf" in schema:
        return any(allows(each, value) for each in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return value in schema.get("enum", [schema.get("const")])
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}
    named = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(isinstance(value, kinds[name]) for name in named):
        return False
    if isinstance(value, dict):
        known = schema["properties"]
        return set(schema.get("required", [])) <= value.keys() <= known.keys() and all(
            allows(known[key], item) for key, item in value.items()
        )
    return all(allows(schema["items"], item) for item in value) if isinstance(value, list) else True


def as_editors_read(value: Any) -> Any:
    """In YAML 1.2 `on` is a word; to PyYAML, which reads 1.1, it is true."""
    if isinstance(value, dict):
        return {"on" if key is True else key: as_editors_read(item) for key, item in value.items()}
    return [as_editors_read(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_the_samples_are_what_the_schema_allows(path: Path) -> None:
    given = as_editors_read(yaml.safe_load(path.read_text()))
    assert allows(json.loads(text()), given)
    assert not allows(json.loads(text()), given | {"taks": 1})
    assert not allows(json.loads(text()), given | {"strategy": "eager"})


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_each_sample_is_explained(path: Path) -> None:
    profile = load(path)
    told = list(steps(profile, path.stem))
    assert all("\n" not in step for step in told)
    for phase, hooks in profile.hooks.items():
        assert sum(step.startswith(f"{phase}, on the ") for step in told) == (
            len(hooks) if phase != "after_rollback" else 0
        )


def test_what_is_explained_is_what_the_profile_says() -> None:
    profile = parse(
        "task: {pid: 7}\ndestination: {ssh: there}\ncriu: {tcp_established: true, dump_options: [--ghost-limit, 4M]}\n"
        "source: {address: 10.0.0.1, port: 99}\nstrategy: lazy\naccept: [pipes]\n"
        "downtime_limit: 2\ndeadline: 60\nat_deadline: give-up\n",
        "p",
    )
    told = "\n".join(steps(profile, "p"))
    for words in (
        "stop if 60 s have passed since the start",
        "roll back if 2 s have passed since the freeze",
        "the task 7,", "exec criu-lazy agent", "failures of pipes are only warnings", "10.0.0.1, port 99, by TLS",
        "criu dump --lazy-pages --tcp-established --ghost-limit 4M", "criu restore --lazy-pages --tcp-established",
    ):  # fmt: skip
        assert words in told
    assert "pre-copy" not in told
