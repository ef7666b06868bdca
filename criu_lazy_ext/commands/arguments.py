"""Arguments that several subcommands take."""

from __future__ import annotations

import argparse


def verbosity(text: str) -> int:
    """-v is 3, -vv (and -vvv...) 4; -vN is N."""
    if text.isdigit():
        return int(text)
    if set(text) - {"v"}:
        raise argparse.ArgumentTypeError(f"expected -v, -vv or -vN, not -v{text}")
    return min(4, 3 + len(text))
