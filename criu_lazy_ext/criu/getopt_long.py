"""Command lines as GNU getopt_long reads them (Python's getopt knows no optional values)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from criu_lazy_ext.errors import CriuLazyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

# Kinds of options.
NO_VALUE, NEEDS_VALUE, MAY_HAVE_VALUE = "", "=", "?"
FLAG = "!"  # no value, and a --no-NAME form turns it off again


class OptionError(CriuLazyError):
    """The command line or a configuration file is wrong."""

    def __init__(self, message: str, *, usage: bool = False) -> None:
        super().__init__(message)
        self.usage = usage  # the short usage text follows the message


class Positional(str):
    """A word that belongs to no option."""


Word: TypeAlias = "tuple[str, str | None, str]"  # long name, value, the option as written


class Table:
    """The options a command line may have."""

    def __init__(
        self, long: Sequence[tuple[str, str]], short: Mapping[str, str], unabbreviated: Mapping[str, str]
    ) -> None:
        """`long`: names and kinds; `short`: letter -> long name; `unabbreviated`: more long names -> kinds.

        The last ones must be written out in full, so that they can't make an abbreviation ambiguous.
        """
        self.long: dict[str, str] = {}
        for name, kind in long:
            self.long[name] = NO_VALUE if kind == FLAG else kind
            if kind == FLAG:
                self.long[f"no-{name}"] = NO_VALUE
        self.short = short
        self.unabbreviated = unabbreviated

    def complete(self, name: str, word: str) -> tuple[str, str]:
        """The long option that `name`, given as `word`, stands for, and its kind; raises OptionError."""
        for options in (self.long, self.unabbreviated):
            if name in options:
                return name, options[name]
        found = [candidate for candidate in self.long if candidate.startswith(name)]
        if len(found) == 1:
            return found[0], self.long[found[0]]
        if found:
            possible = " ".join(f"'--{candidate}'" for candidate in found)
            raise OptionError(f"option '{word}' is ambiguous; possibilities: {possible}", usage=True)
        raise OptionError(f"unrecognized option '{word}'", usage=True)


def parse_words(words: Iterable[str], table: Table) -> Iterator[Word]:
    """GNU getopt_long with permutation: yields every option, and every word that is none as Positional.

    A negated flag comes under its no- name. Raises OptionError with glibc's own message.
    """
    rest = iter(words)
    for word in rest:
        if word == "--":
            for word in rest:
                yield "", Positional(word), word
        elif word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            name, kind = table.complete(name, word)
            if equals and kind == NO_VALUE:
                raise OptionError(f"option '--{name}' doesn't allow an argument", usage=True)
            if not equals and kind == NEEDS_VALUE:
                following = next(rest, None)
                if following is None:
                    raise OptionError(f"option '--{name}' requires an argument", usage=True)
                yield name, following, f"--{name}"
            else:
                yield name, value if equals else None, f"--{name}"
        elif word.startswith("-") and word != "-":
            yield from _short(word[1:], rest, table)
        else:
            yield "", Positional(word), word


def _short(cluster: str, rest: Iterator[str], table: Table) -> Iterator[Word]:
    """The options of one -abc word; an option with a value takes what is left of the word."""
    while cluster:
        letter, cluster = cluster[0], cluster[1:]
        if letter not in table.short:
            raise OptionError(f"invalid option -- '{letter}'", usage=True)
        name = table.short[letter]
        kind = table.long[name]
        if kind == NO_VALUE:
            yield name, None, f"-{letter}"
            continue
        value: str | None = cluster or None
        cluster = ""
        if value is None and kind == NEEDS_VALUE:
            value = next(rest, None)
            if value is None:
                raise OptionError(f"option requires an argument -- '{letter}'", usage=True)
        yield name, value, f"-{letter}"
