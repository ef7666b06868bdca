"""A migration's id: one name for it in all that is logged of it, on both hosts.

It goes to the processes of a migration in their environment, and by the agent's hello to the other host.
"""

from __future__ import annotations

import os

VARIABLE = "CRIU_LAZY_MIGRATION"
BYTES, MOST = 6, 32


def new_id() -> str:
    """Twelve hexadecimal digits that no other migration has."""
    return os.urandom(BYTES).hex()


def is_id(text: str) -> bool:
    """Whether it may stand in a line of a log."""
    return text.isascii() and text.isalnum() and len(text) <= MOST


def current_id() -> str:
    """Of the migration that this process is a part of; "" if it is of none."""
    text = os.environ.get(VARIABLE, "")
    return text if is_id(text) else ""


def mark() -> str:
    """What this process's lines begin with."""
    text = current_id()
    return f"[{text}] " if text else ""


def without_mark(line: str) -> str:
    """For people, who know of which migration they read."""
    return line.replace(mark(), "", 1) if mark() else line
