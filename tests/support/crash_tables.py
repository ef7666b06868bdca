"""What came of the crash matrix, and of a soak: a line for each cell, and the tables in docs/reliability.md."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

from crash_cells import FAULTS, STATES, WHEN, Cell, Row

# ---- the tables ----


def one_line(row: Row) -> str:
    verdict = "; ".join(row.wrong) or ("ok" if row.present else "nothing to kill")
    left = f" LEFT {row.left}" if row.left else ""
    went = f"{row.said}{' (interrupted)' if row.interrupted else ''} / {row.status} / {row.did[:6]} / {row.where}"
    return f"{row.cell}: {went}: {verdict} [{row.seconds:.0f} s]{left}"


def summary(rows: list[Row]) -> dict[str, int]:
    wrong = [text for row in rows for text in row.wrong]
    return {
        "runs": len(rows),
        "with a fault": sum(row.present for row in rows),
        "lost": sum("LOST" in text for text in wrong),
        "two copies": sum("TWO" in text for text in wrong),
        "wrong memory": sum(text.startswith("memory") for text in wrong),
        "untrue words": sum("but:" in text or "exit status" in text for text in wrong),
        "no way out": sum("no way out" in text or "hangs" in text for text in wrong),
        "wrong in another way": sum(text.startswith(("harness", "(", "--status took")) for text in wrong),
    }


def cell_word(row: Row | None) -> str:
    """One cell of the table: what migrate said, where the task was at last."""
    if row is None:
        return ""
    if row.wrong:
        return "**WRONG**"
    if not row.present:
        return "·"
    place = {"source": "S", "destination": "D", "nowhere": "0"}[row.where]
    return f"{row.said[:1]}{'!' if row.did else ''}{place}"


def matrix_table(rows: list[Row]) -> str:
    found = {row.cell: row for row in rows}
    lines = ["| fault | " + " | ".join(STATES) + " |", "| --- |" + " --- |" * len(STATES)]
    for fault in FAULTS:
        words = (" ".join(cell_word(found.get(Cell(fault, s, when))) or "-" for when in WHEN) for s in STATES)
        lines.append(f"| {fault} | " + " | ".join(words) + " |")
    return "\n".join(lines)


def soak_table(rows: list[Row]) -> str:
    counts = Counter((row.cell.fault.split()[0], row.said, row.where) for row in rows)
    lines = ["| fault | migrate said | the task was at last at | runs |", "| --- | --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {' | '.join(key)} | {n} |" for key, n in sorted(counts.items()))])


def write_into(path: Path, kind: str, seed: str, rows: list[Row]) -> None:
    """Replace what stands between the document's marks for this kind of table."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    figures = ", ".join(f"{count} {name}" for name, count in summary(rows).items())
    table = matrix_table(rows) if kind == "matrix" else soak_table(rows)
    wrong = "".join(f"- {row.cell}: {'; '.join(row.wrong)}\n" for row in rows if row.wrong)
    begin, end = f"<!-- {kind}: begin -->", f"<!-- {kind}: end -->"
    text = path.read_text()
    head, rest = text.split(begin)
    told = f"{begin}\nCommit {commit.strip()}, seed {seed}: {figures}.\n\n{table}\n"
    path.write_text(head + told + (f"\n{wrong}" if wrong else "") + end + rest.split(end)[1])
