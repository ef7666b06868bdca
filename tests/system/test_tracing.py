"""A migration's trace, as a receiver of OTLP gets it."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from lazy_source import eventually
from migrating import BASE, Migration, Worker, assert_moved, assert_stayed
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from paths import SUPPORT

from testbed import Host

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
EXPORTER = "opentelemetry-exporter-otlp-proto-http"
FAILS = "hooks: {before_restore: [{run: 'false'}]}\n"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def give_exporter(host: Host) -> dict[str, str]:
    """Let it have the exporter, with what that needs; its environment."""
    wanted, seen = [EXPORTER], set()
    while wanted:
        if (name := wanted.pop()) in seen:
            continue
        seen.add(name)
        found = importlib.metadata.distribution(name)
        needs = [requirement for requirement in found.requires or [] if ";" not in requirement]
        wanted += [re.split("[^A-Za-z0-9._-]", requirement)[0] for requirement in needs]
        for file in found.files or []:
            target = host.root / "root/otel" / file
            if ".." not in file.parts:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(str(file.locate())), target)
    return {"PYTHONPATH": "/root/otel"}


def spans_in(path: Path) -> tuple[list[Any], dict[str, str]]:
    """Of one request; and its resource's attributes."""
    request = ExportTraceServiceRequest.FromString(path.read_bytes())
    (of_one,) = request.resource_spans
    named = {each.key: each.value.string_value for each in of_one.resource.attributes}
    return [span for scope in of_one.scope_spans for span in scope.spans], named


def attributes_of(span: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


def test_a_receiver_gets_one_trace_of_a_migration(worker: Worker) -> None:
    src = worker.testbed.src
    src.write("/root/otlp_receiver.py", (SUPPORT / "otlp_receiver.py").read_text())
    libraries = give_exporter(src)
    with src.popen(["python3", "/root/otlp_receiver.py", "/root/otlp"], stderr=subprocess.DEVNULL) as receiver:
        try:
            took = src.root / "root/otlp"
            eventually(lambda: (took / "ready").exists(), "it listens")
            stays = Migration(worker.testbed, BASE + FAILS, environment=ENDPOINT | libraries)
            assert_stayed(worker, stays, "hook 'false'")
            parent = {"TRACEPARENT": f"00-{TRACE}-{PARENT}-01"}
            moves = Migration(worker.testbed, BASE, environment=ENDPOINT | libraries | parent)
            assert_moved(worker, moves)
            first, second = sorted(path for path in took.iterdir() if path.name != "ready")
        finally:
            receiver.terminate()
    spans, resource = spans_in(second)
    assert resource["service.name"] == "criu-lazy" and resource["host.name"] == "src"
    assert {span.trace_id.hex() for span in spans} == {TRACE}, "below that of whoever started it"
    (root,) = [span for span in spans if span.name == "migration"]
    assert root.parent_span_id.hex() == PARENT
    told = attributes_of(root)
    assert told["criu_lazy.migration"] == moves.report["id"] and told["criu_lazy.outcome"] == "committed"
    assert told["criu_lazy.downtime_s"] == moves.report["downtime_s"]
    below = [span for span in spans if span is not root]
    assert {span.parent_span_id for span in below} == {root.span_id}
    assert {attributes_of(span)["criu_lazy.migration"] for span in below} == {moves.report["id"]}
    names = {(attributes_of(span)["criu_lazy.role"], span.name): span for span in below}
    states = [*moves.report["phases_s"]]
    assert [name for role, name in names if role == "source"] == ["preflight", *states]
    assert {("destination", "restored"), ("destination", "runs, memory follows"), ("sent", "images")} <= set(names)
    running = names["source", "running"]
    seconds = moves.report["phases_s"]["drained"] - moves.report["phases_s"]["running"]
    assert abs((running.end_time_unix_nano - running.start_time_unix_nano) / 1e9 - seconds) < 1e-3
    assert all(root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano for span in below)
    assert max(span.end_time_unix_nano for span in below) == root.end_time_unix_nano
    spans, _ = spans_in(first)
    (root,) = [span for span in spans if span.name == "migration"]
    assert root.status.code == root.status.STATUS_CODE_ERROR and root.status.message == stays.report["message"]
    assert not root.parent_span_id and root.trace_id.hex() != TRACE


def test_without_a_receiver_or_the_exporter_it_moves_and_a_line_tells(worker: Worker) -> None:
    migration = Migration(worker.testbed, BASE + FAILS, environment=ENDPOINT)
    assert_stayed(worker, migration, "hook 'false'")
    assert f"warning: no trace: OTEL_EXPORTER_OTLP_ENDPOINT is set, but {EXPORTER} is not installed" in migration.stderr
    migration = Migration(worker.testbed, BASE, environment=ENDPOINT | give_exporter(worker.testbed.src))
    assert_moved(worker, migration)
    assert "warning: no trace: the receiver that OTEL_EXPORTER_OTLP_ENDPOINT names did not take it" in migration.stderr
    assert "Traceback" not in migration.stderr and "Transient error" not in migration.stderr


def test_nothing_of_it_is_imported_unless_a_receiver_is_named() -> None:
    script = "import json, sys, criu_lazy_ext.commands.migrate; print(json.dumps(list(sys.modules)))"
    modules = json.loads(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True).stdout)
    assert not [name for name in modules if name.startswith(("opentelemetry", "google", "requests"))]
