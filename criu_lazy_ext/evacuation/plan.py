"""The plan of an evacuation: YAML to a typed model; every error names file, line and key, as of a profile (profile.py).

What is to move is named or selected; each gets a profile of its own, made of the plan's nodes, so that a profile's own
rules hold, and its errors lead to the plan's lines.
"""

from __future__ import annotations

import graphlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from criu_lazy_ext.profile import Destination, Profile, ProfileError, Reader, Size, compose, found, profile_in, read

HOW_TO_GET_ONE = "criu-lazy init --evacuate writes one"
PLACE_ONLY = ("name", "memory", "bandwidth")  # keys of a place that are none of a profile's destination
SELECTOR_ONLY = ("label", "match")
WAYS = ("task", "container", "containers", "cgroup")
ON_FAILURE = ("elsewhere", "skip", "stop")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
TAKEN = "evacuation"  # PLAN.evacuation is the record
MAX_AT_ONCE = 64
NO_LIMIT = Size(0)


@dataclass(frozen=True)
class Place(Destination):
    """A host to move to, as in a profile. `name`: by which the plan's `to` and the report know it; None: its ssh word.
    `memory`: of all that goes there, at most so many bytes; 0: what the preflight finds free. `bandwidth`: bytes per
    second that the pages of all that goes there may take; 0: no limit."""

    name: str | None = None
    memory: Size = NO_LIMIT
    bandwidth: Size = NO_LIMIT

    @property
    def title(self) -> str:
        return self.name or self.ssh or "local"


@dataclass(frozen=True)
class Entry:
    """What moves: a `task` or a `container` as in a profile; `containers`: all that run of an engine, with a `label` or
    a name that matches `match` (a shell's pattern), else its keys are a container's; or `cgroup`: the tasks of a group
    and of those below it, by its path from the root (/shop.slice).

    `name`: a container's is its own, if the entry gives it none. `priority`: the highest goes first. `after`: names of
    entries, all of which have to have moved. `to`: names of places; none: all. `profile`: over the plan's, key by key.
    """

    task: yaml.Node | None = None
    container: yaml.Node | None = None
    containers: yaml.Node | None = None
    cgroup: str | None = None
    name: str | None = None
    priority: int = 0
    after: list[str] = field(default_factory=list)
    to: list[str] = field(default_factory=list)
    profile: yaml.Node | None = None

    @property
    def title(self) -> str:
        """By which `after` knows it; "" if by nothing."""
        named = pairs(self.container).get("name")
        return self.name or (str(named[1].value) if named else "")


@dataclass(frozen=True)
class Plan:
    """`destinations`: the places, the first that has room is taken. `profile`: what all migrations have in common.
    `bandwidth`: bytes per second that all pages together may take, 0: no limit. `at_once`: migrations under way at a
    time, from the first round on; None: as many as keep the link full. `deadline`: seconds, after which nothing more is
    frozen. `on_failure`: of one migration: it is tried elsewhere, then stays (`elsewhere`), or stays at once (`skip`);
    or nothing more is begun (`stop`)."""

    destinations: list[Place]
    move: list[Entry]
    profile: yaml.Node | None = None
    bandwidth: Size = NO_LIMIT
    at_once: int | None = None
    deadline: float | None = None
    on_failure: str = "elsewhere"


class PlanReader(Reader):
    """With the types that only plans have."""

    def value(self, node: yaml.Node, key: str, hint: Any) -> Any:
        if hint == yaml.Node | None:
            return self.mapping(node, key)
        if hint in (list[Place], list[Entry]):
            if not isinstance(node, yaml.SequenceNode) or not node.value:
                what = "an empty list" if isinstance(node, yaml.SequenceNode) else found(node)
                raise self.fail(node, key, f"expected a list, found {what}")
            model = Place if hint == list[Place] else Entry
            return [self.section(item, f"{key}[{number}]", model) for number, item in enumerate(node.value)]
        if key == "at_once":
            return self.at_once(node)
        result = super().value(node, key, hint)
        if key == "on_failure" and result not in ON_FAILURE:
            raise self.fail(node, key, f"expected {' or '.join(ON_FAILURE)}, found {result!r}")
        return result

    def mapping(self, node: yaml.Node, key: str) -> yaml.Node:
        if not isinstance(node, yaml.MappingNode):
            raise self.fail(node, key, f"expected a mapping, found {found(node)}")
        return node

    def at_once(self, node: yaml.Node) -> int | None:
        if isinstance(node, yaml.ScalarNode) and node.value == "auto":
            return None
        is_number = isinstance(node, yaml.ScalarNode) and node.tag.endswith(":int")
        value = int(self.scalar(node, "at_once", "int", "a number")) if is_number else 0
        if not 1 <= value <= MAX_AT_ONCE:
            raise self.fail(node, "at_once", f"expected auto, or a number from 1 to {MAX_AT_ONCE}, found {found(node)}")
        return value


def pairs(node: yaml.Node | None) -> dict[str, tuple[yaml.Node, yaml.Node]]:
    """A mapping's keys and values."""
    return {str(key.value): (key, value) for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}


def number(value: int, like: yaml.Node) -> yaml.Node:
    """A node that stands where another does."""
    return yaml.ScalarNode("tag:yaml.org,2002:int", str(value), like.start_mark, like.end_mark)


def text(value: str, like: yaml.Node) -> yaml.Node:
    """The same of a text, even if it looks like a number."""
    return yaml.ScalarNode("tag:yaml.org,2002:str", value, like.start_mark, like.end_mark, style='"')


def mapping(values: Mapping[str, yaml.Node], like: yaml.Node) -> yaml.Node:
    """The same of a mapping."""
    made = [(text(key, like), value) for key, value in values.items()]
    return yaml.MappingNode("tag:yaml.org,2002:map", made, like.start_mark, like.end_mark)


class PlanFile:
    """A plan, and the nodes that its profiles are made of. Raises ProfileError."""

    def __init__(self, document: str, name: str) -> None:
        """`name`: the file's, for messages."""
        self.name = name
        self.text = document
        reader = self.reader = PlanReader(name)
        node = compose(document, name)
        if node is None:
            raise ProfileError(f"{name}:1:1: the plan is empty; {HOW_TO_GET_ONE}")
        self.plan: Plan = reader.section(node, "", Plan)
        self._nodes = {key: value for key, (_, value) in pairs(node).items()}
        self._check()

    @classmethod
    def load(cls, path: Path) -> PlanFile:
        """Of the file `path`."""
        return cls(read(path, HOW_TO_GET_ONE), str(path))

    def node_of(self, entry: Entry) -> yaml.Node:
        """Where the entry stands."""
        node: yaml.Node = self._nodes["move"].value[self.plan.move.index(entry)]
        return node

    @property
    def source_directory(self) -> Path:
        """Where journals are: every profile's, which only the plan's own `profile` may name."""
        entry = self.plan.move[0]
        return self.profile(entry, self.plan.destinations[0], **self.stand_in(entry)).directories.source

    def _check(self) -> None:
        plan, reader = self.plan, self.reader
        titles = [place.title for place in plan.destinations]
        for number, place in enumerate(plan.destinations):
            if titles.index(place.title) != number:
                node = self._nodes["destinations"].value[number]
                raise reader.fail(node, f"destinations[{number}]", f"{place.title!r} is there twice: name one of them")
        names: set[str] = set()
        for number, entry in enumerate(plan.move):
            node, key = self.node_of(entry), f"move[{number}]"
            if sum(getattr(entry, way) is not None for way in WAYS) != 1:
                raise reader.fail(node, key, f"expected exactly one of {', '.join(WAYS)}")
            if entry.title and (entry.title in names or entry.title == TAKEN or not NAME.fullmatch(entry.title)):
                why = "is there twice" if entry.title in names else "is no name: letters, digits, and ._- within"
                why = "is a name that is taken" if entry.title == TAKEN else why
                raise reader.fail(node, f"{key}.name", f"{entry.title!r} {why}")
            names |= {entry.title} if entry.title else set()
            for title in entry.to:
                if title not in titles:
                    raise reader.fail(node, f"{key}.to", f"no destination is called {title!r}: {', '.join(titles)}")
            self._check_overlay(entry.profile, f"{key}.profile", ("task", "container", "destination", "directories"))
        for number, entry in enumerate(plan.move):
            for name in entry.after:
                if name not in names or name == entry.title:
                    what = "itself" if name == entry.title else f"no other entry is called {name!r}"
                    raise reader.fail(self.node_of(entry), f"move[{number}].after", what)
        self._check_overlay(plan.profile, "profile", ("task", "container", "destination"))
        if (circle := circle_in({entry.title: entry.after for entry in plan.move if entry.title})) is not None:
            raise reader.fail(self._nodes["move"], "move", f"each waits for the next: {' -> '.join(circle)}")
        for entry in plan.move:  # what is wrong in any profile is said before any look
            for place in plan.destinations:
                self.profile(entry, place, **self.stand_in(entry))

    @staticmethod
    def stand_in(entry: Entry) -> dict[str, Any]:
        """For `profile`, as long as it isn't known what a selector means."""
        return {"pid": 1} if entry.cgroup is not None else {"container": "any"} if entry.containers is not None else {}

    def _check_overlay(self, node: yaml.Node | None, key: str, forbidden: tuple[str, ...]) -> None:
        for name, (key_node, _) in pairs(node).items():
            if name in forbidden:
                where = "the plan's destinations" if name == "destination" else "the plan's move, or profile"
                raise self.reader.fail(key_node, f"{key}.{name}", f"not here: {where} says that")

    def document(
        self, entry: Entry, place: Place, *, pid: int | None = None, container: str | None = None, pod: str = "",
        rate: int = 0,
    ) -> yaml.Node:
        """The profile, as a node, that moves what the entry names; or the task `pid`, or the container of that name.
        `pod`: as a part of which that moves. `rate`: its pages take at most so many bytes per second, if it doesn't say
        itself."""
        like = self.node_of(entry)
        made = {key: value for key, (_, value) in pairs(self.plan.profile).items()}
        for key, (_, value) in pairs(entry.profile).items():
            both = {name: below for name, (_, below) in (pairs(made.get(key)) | pairs(value)).items()}
            made[key] = mapping(both, value) if isinstance(value, yaml.MappingNode) else value
        node = self._nodes["destinations"].value[self.plan.destinations.index(place)]
        there = {key: value for key, (_, value) in pairs(node).items() if key not in PLACE_ONLY}
        made["destination"] = mapping(there, node)
        if pid is not None:
            made["task"] = mapping({"pid": number(pid, like)}, like)
        elif container is not None:
            chosen = entry.container or entry.containers
            keys = {key: value for key, (_, value) in pairs(chosen).items() if key not in SELECTOR_ONLY}
            as_part = {"pod": text(pod, like)} if pod else {}
            made["container"] = mapping(keys | {"name": text(container, like)} | as_part, like)
        else:
            made |= {"task": entry.task} if entry.task else {"container": entry.container} if entry.container else {}
        if rate:
            source = {key: value for key, (_, value) in pairs(made.get("source")).items()}
            made["source"] = mapping({"rate": number(rate, like)} | source, like)
        return mapping(made, like)

    def profile(self, entry: Entry, place: Place, **what: Any) -> Profile:
        """The same, read."""
        return profile_in(self.document(entry, place, **what), self.name)


def circle_in(after: Mapping[str, list[str]]) -> list[str] | None:
    """Names of which each waits for the next and the last for the first, or None."""
    try:
        graphlib.TopologicalSorter(after).prepare()
    except graphlib.CycleError as error:
        return list(reversed(error.args[1]))
    return None
