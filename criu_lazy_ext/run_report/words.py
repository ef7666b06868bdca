"""What is said of a run in words and figures, on the page and as text."""

from __future__ import annotations

import time

from criu_lazy_ext.run_report.run import Run, Share
from criu_lazy_ext.sizes import PAGE_BYTES


def moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def seconds_as_text(value: float) -> str:
    return f"{value * 1e3:.0f} ms" if value < 1 else f"{value:.2f} s"


def seconds(value: float | None) -> str:
    return "-" if value is None else seconds_as_text(value)


def mb(count: float) -> str:
    return f"{count / 1e6:.1f} MB" if count < 1e8 else f"{count / 1e6:.0f} MB"


def figures(run: Run) -> list[tuple[str, str]]:
    """By name; "-" where it did not come so far."""
    report, stats = run.report, run.stats
    transfer, waits = report["transfer_s"], report["fault_wait_us"]
    rate = mb(report["received_bytes"] / transfer) + "/s" if transfer else "-"
    stall = stats["fault_wait_sum_us"] / 1e6 if "fault_wait_sum_us" in stats else None
    precopy = report["precopy"] or {"bytes": 0, "seconds": 0, "rounds": []}
    count = len(precopy["rounds"])
    until = "" if run.heard_until_s is None else f" (until {seconds(run.heard_until_s)})"
    return [
        ("downtime", seconds(report["downtime_s"])),
        ("total", seconds(report["total_s"])),
        ("transfer after the resume", seconds(transfer)),
        ("lazy memory", mb(report["lazy_pages"] * PAGE_BYTES)),
        ("bandwidth of that transfer", rate),
        ("p99 of a fault's wait", f"{waits['p99'] / 1e3:.2f} ms{until}" if waits else "-"),
        ("faults that waited", f"{report['demand_faults'] + report['merged_faults']}{until}"),
        ("p50 of a fault's wait", f"{waits['p50'] / 1e3:.2f} ms{until}" if waits else "-"),
        ("longest wait", f"{waits['max'] / 1e3:.2f} ms{until}" if waits else "-"),
        ("all waits together, thread by thread", f"{seconds(stall)}{until if stall is not None else ''}"),
        ("longest time without an answer to a client", seconds(run.answers.longest_s if run.answers else None)),
        ("received after the freeze", mb(report["received_bytes"])),
        ("pre-copy", f"{mb(precopy['bytes'])} in {count} round{'s' if count > 1 else ''}" if count else "-"),
        ("freeze by criu dump", seconds(report["freeze_s"])),
        ("images", mb(report["image_bytes"])),
        ("reconnects of the page connection", f"{stats['reconnects']}{until}" if "reconnects" in stats else "-"),
    ]


def marks(run: Run) -> list[tuple[float, str]]:
    """What the link can give, as far as it is known."""
    link = run.facts["link"]
    if link["limit"]:
        return [(float(link["limit"]), f"source.rate: {mb(link['limit'])}/s")]
    best = [(float(link["best"]), f"most over half a second: {mb(link['best'])}/s")] if link["best"] else []
    interface = link["interface"]
    return [*best, (float(interface), f"the interface: {mb(interface)}/s")] if interface else best


def began(run: Run) -> str:
    """When, and by which version."""
    return f"{moment(run.facts['began'])}, criu-lazy {run.facts['program']}"


def what_it_was(run: Run) -> list[str]:
    """Its message, what became of it later, its strategy."""
    said = [run.report["message"]]
    if settled := run.settled:
        left = f"migrate had left it {'at its end' if run.ended else 'without an end'}, at {settled['left_in']}"
        said.append(f"{settled['outcome']} at {moment(settled['at'])}: {settled['how']}; {left}")
    return [words for words in (*said, run.report["strategy"]) if words]


def pages_of(shares: list[Share]) -> list[str]:
    """How much each is."""
    whole = sum(share.pages for share in shares)
    return [f"{mb(share.pages * PAGE_BYTES)}, {share.pages} pages ({share.pages / whole:.1%})" for share in shares]


def warnings(run: Run) -> list[str]:
    """Each says what can be done."""
    told = list(run.report["warnings"])
    ask = f"criu-lazy migrate --status {run.facts['name']}.yaml at the source"
    if not run.ended:
        at = f"{moment(run.facts['began'] + run.report['total_s'])}, {seconds(run.report['total_s'])} after the start"
        told.insert(0, f"what is here was seen until {at}: migrate had not ended then, or was killed; {ask} tells more")
    elif run.outcome == "undecided":
        told.insert(0, f"the migration waits for a decision: {ask}")
    if run.heard_until_s is not None:
        until = f"nothing was heard of {run.destination} after {seconds(run.heard_until_s)}"
        came = run.transferred_s
        whole = f"; every page had arrived at {seconds(came)}, as the page server was told" if came else ""
        told.insert(0, f"{until}: the figures of its memory and its faults end there{whole}")
    return [*told, *run.facts.get("now", [])]
