"""A migration as a trace of OpenTelemetry's: one span for it, below that the phases on both hosts, as its run file has
them.

It is exported once, when the migration is over, and only where OpenTelemetry's own variables name a receiver: else
nothing is imported, and nothing is spent. Where to, how long that may take and the rest is as those variables say.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from typing import Any

from criu_lazy_ext import __version__

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
TIMEOUTS = ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")
WITHIN_S = 3.0  # by default: whoever waits for the migration's end waits for this
NEEDED = "opentelemetry.exporter.otlp.proto.http"
# Of the report: the root's attributes.
FIGURES = ("outcome", "destination", "task_pid", "container", "downtime_s", "received_bytes", "demand_faults")


def is_wanted() -> bool:
    """Whether a receiver is named."""
    return any(map(os.environ.get, ENDPOINTS))


def export(facts: dict[str, Any]) -> str:
    """Send the trace of a run file's facts. What went wrong, in a line; "" if nothing did."""
    try:
        found = importlib.util.find_spec(NEEDED)
    except ModuleNotFoundError:
        found = None
    if found is None:
        return f"no trace: {ENDPOINTS[0]} is set, but opentelemetry-exporter-otlp-proto-http is not installed"
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    logging.getLogger("opentelemetry").addHandler(logging.NullHandler())  # its lines belong into no progress
    logging.getLogger("opentelemetry").propagate = False
    spans = spans_of(facts)
    if not spans:  # they are sampled, or switched off
        return ""
    exporter = OTLPSpanExporter(timeout=None if any(map(os.environ.get, TIMEOUTS)) else WITHIN_S)
    if exporter.export(spans) is SpanExportResult.SUCCESS:
        return ""
    return f"no trace: the receiver that {ENDPOINTS[0]} names did not take it"


def spans_of(facts: dict[str, Any]) -> list[Any]:
    """The trace; below the span that TRACEPARENT names, if that is set."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.trace import Status, StatusCode, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    from criu_lazy_ext.run_report.run import Run

    run, report = Run(facts), facts["report"]
    named = {"service.name": "criu-lazy", "service.version": __version__, "host.name": facts["source"]}
    collected = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(collected))
    tracer = provider.get_tracer("criu-lazy", __version__)
    parent = {name.lower(): os.environ[name] for name in ("TRACEPARENT", "TRACESTATE") if name in os.environ}

    def at(seconds: float) -> int:
        return int((facts["began"] + seconds) * 1e9)

    attributes = {"migration": report["id"], "name": facts["name"]} | {name: report[name] for name in FIGURES}
    told = {f"criu_lazy.{name}": value for name, value in attributes.items() if value not in (None, "")}
    context = TraceContextTextMapPropagator().extract(parent)
    root = tracer.start_span("migration", context, attributes=told, start_time=at(0))
    below = set_span_in_context(root)

    def child(role: str, name: str, begin: float, end: float) -> None:
        where = {"criu_lazy.migration": report["id"], "criu_lazy.role": role}
        tracer.start_span(name, below, attributes=where, start_time=at(begin)).end(at(max(begin, end)))

    # The source's are the states of the driver: each lasts until the next.
    entered = [("preflight", 0.0), *run.phases.items()]
    for (state, begin), (_, end) in zip(entered, [*entered[1:], ("", run.total_s)], strict=True):
        child("source", state, begin, end)
    for role, line in (("sent", run.transfer_line()), ("destination", run.destination_line())):
        for span in line:
            child(role, span.name, span.begin, span.end)
    for seconds, level, text in facts["lines"]:
        if level != "info":
            root.add_event(text, timestamp=at(seconds))
    if report["outcome"] != "committed":
        root.set_status(Status(StatusCode.ERROR, report["message"]))
    root.end(at(run.total_s))
    return list(collected.get_finished_spans())
