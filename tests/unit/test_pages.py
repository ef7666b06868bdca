"""What the pages for users say to type, to write and where to look is there: by the program's own parsers."""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pages
import pytest
import yaml
from pages import Piece
from paths import CHECKOUT

from criu_lazy_ext import cli, profile_schema
from criu_lazy_ext.criu import options as criu_options
from criu_lazy_ext.criu.getopt_long import OptionError
from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.evacuation.plan import Plan, PlanFile
from criu_lazy_ext.profile import parse
from testbed import Host, Testbed
from testbed.link import Link
from testbed.recipe import PACKAGES

# What stands for something to fill in, where a parser wants a number or the like.
FILLED_IN = {
    "PID": "1", "FD": "0", "N": "1", "SIZE": "1M", "BYTES": "1M", "SECONDS": "1", "ADDR:PORT": "127.0.0.1:9967",
    "HOST:PORT": "127.0.0.1:27000", "PORT": "27000", "STREAMS": "2", "OP": "state", "X": "1",
}  # fmt: skip
# Options of other programs that the pages name: the simulator's, podman's, ctr's, conntrack's.
OTHERS = {"--oracle", "--check", "--rm", "--network", "--log-uri", "--state"}
VARIABLE = re.compile(r"^([A-Z_]+)=")
# Where code is: what stands in backquotes and begins so is there. (What is built need not be.)
PLACES = tuple(f"{path.name}/" for path in CHECKOUT.iterdir() if path.is_dir() and path.name not in ("build", "dist"))
LEAST = {"task": {"pid": 1}, "destination": {"ssh": "dst"}}
LEAST_PLAN = {"destinations": [{"ssh": "dst"}], "move": [{"task": {"pid": 1}}]}


class Refused(Exception):
    """By a parser."""


def refuse(parser: argparse.ArgumentParser, message: str) -> None:
    raise Refused(f"{parser.prog}: {message}")


@pytest.fixture(autouse=True)
def parsers_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(argparse.ArgumentParser, "error", refuse)


def parser_of(subcommand: str) -> argparse.ArgumentParser:
    """Its own. Raises Refused."""
    if subcommand not in cli.listed():
        raise Refused(f"there is no subcommand {subcommand!r}")
    name = cli.listed()[subcommand][0]
    if subcommand in cli.LABORATORY:
        parser: argparse.ArgumentParser = importlib.import_module(f"{name}.command").parser()
    else:
        parser = importlib.import_module(name, cli.__package__).arguments()
    return parser


def filled_in(words: list[str]) -> list[str]:
    """With values for what stands for something, and without the marks of what may be left out, or be several."""
    bare = [re.sub(r"^\$\(.*\)$", "1", re.sub(r"\[=(\w+)\]$", r"=\1", word)) for word in words]
    bare = [re.sub(r"^\[|\]$|\.\.\.$", "", word) for word in bare]
    parts = [word.partition("=") if word.startswith("--") else ("", "", word) for word in bare]
    return [head + equals + FILLED_IN.get(value, value) for head, equals, value in parts if head + value]


def check(words: list[str], *, whole: bool) -> None:
    """That `criu-lazy WORDS` is a command line; not `whole`: or may become one, by more words. Raises Refused."""
    if not words or words == ["--version"] or words[0].isupper():  # the program, its name; SUBCOMMAND
        return
    subcommand, *rest = words
    rest = filled_in(rest)
    if subcommand == "lazy-pages":
        try:
            criu_options.parse(["--no-default-config", *rest], {})
        except OptionError as error:
            raise Refused(str(error)) from error
    elif subcommand in cli.INTERNAL:
        return
    else:
        parser = parser_of(subcommand)
        if not whole:
            need_nothing(parser)
        parser.parse_args(rest)


def need_nothing(parser: argparse.ArgumentParser) -> None:
    for action in parser._actions:
        action.required = False
        if action.nargs is None and not isinstance(action.choices, dict):
            action.nargs = "?"
        elif action.nargs == "+":
            action.nargs = "*"
    for group in parser._mutually_exclusive_groups:
        group.required = False


def refusals(pieces: Iterator[tuple[Piece, list[str]]], *, whole: bool) -> tuple[int, list[str]]:
    """How many were looked at, and what was refused, with where it stands."""
    wrong, count = [], 0
    for piece, words in pieces:
        count += 1
        try:
            check(words, whole=whole)
        except (Refused, SystemExit) as error:
            wrong.append(f"{piece}: {error}")
    return count, wrong


def ours_in_blocks() -> Iterator[tuple[Piece, list[str]]]:
    for piece in pages.block_lines():
        if piece.text.startswith("criu-lazy ") and "<---" not in piece.text:  # a picture
            for words in pages.commands(piece.text):
                yield piece, words[1:] if words[0] == "criu-lazy" else ["", *words]


def ours_inline() -> Iterator[tuple[Piece, list[str]]]:
    """`criu-lazy ...`, and `migrate --status` for short."""
    for piece in pages.inlines():
        if not piece.text.startswith(tuple(f"{name} " for name in ("criu-lazy", *cli.listed()))):
            continue
        first, *rest = next(pages.commands(piece.text))
        if first == "criu-lazy":
            yield piece, rest
        elif rest[0].startswith("-"):
            yield piece, [first, *rest]


def test_every_command_line_in_a_block_is_one_that_the_program_takes() -> None:
    count, wrong = refusals(ours_in_blocks(), whole=True)
    assert not wrong, "\n".join(wrong)
    assert count > 20, "the search finds them no more"


def test_every_command_in_the_text_is_one_that_the_program_takes() -> None:
    count, wrong = refusals(ours_inline(), whole=False)
    assert not wrong, "\n".join(wrong)
    assert count > 50, "the search finds them no more"


@pytest.mark.parametrize(
    "words",
    [["move", "x.yaml"], ["migrate", "--fast", "x.yaml"], ["migrate"], ["status", "--log-format", "xml"],
     ["check", "-z"], ["lazy-pages", "--bogus"], ["page-server", "--op", "stop"], ["testbed", "exec", "nowhere"]],
    ids=" ".join,
)  # fmt: skip
def test_a_command_line_that_is_wrong_is_found(words: list[str]) -> None:
    with pytest.raises(Refused):
        check(words, whole=True)


def known_options() -> set[str]:
    """Of all subcommands, and criu's."""
    known = {f"--{name}" for name, _ in criu_options.LONG_OPTIONS} | {f"--{name}" for name in criu_options.OWN_OPTIONS}
    for name in set(cli.listed()) - {"lazy-pages"}:
        parsers = [parser_of(name)]
        for action in parsers[0]._actions:
            known |= set(action.option_strings)
            if isinstance(action.choices, dict):
                parsers += action.choices.values()
        for parser in parsers[1:]:
            known |= {option for action in parser._actions for option in action.option_strings}
    return known


def test_every_option_in_the_text_is_somebodys() -> None:
    known = known_options() | OTHERS
    named = [
        (piece, found)
        for piece in pages.inlines()
        for found in re.findall(r"(?<!\S)--[a-z][\w-]*", piece.text)
        if piece.text.startswith("--")
    ]
    wrong = [str(piece) for piece, option in named if option not in known]
    assert not wrong, "\n".join(wrong)
    assert len(named) > 100, "the search finds them no more"


def make_lines() -> Iterator[tuple[Piece, list[str]]]:
    for piece in pages.block_lines():
        if piece.text.startswith("make "):
            yield from ((piece, words) for words in pages.commands(piece.text))
    for piece in pages.inlines():
        if piece.text.startswith("make "):
            yield piece, next(pages.commands(piece.text))


def test_every_make_target_is_there_and_uses_what_it_is_given() -> None:
    makefile = (CHECKOUT / "Makefile").read_text()
    makefile_says, wrong = set(re.findall(r"^#   make ([\w-]+)", makefile, re.MULTILINE)), []
    [phony] = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    targets = [(piece, words[1:]) for piece, words in make_lines()]
    for piece, words in targets:
        for word in words:
            variable = VARIABLE.match(word)
            if variable is None and word not in phony.split():
                wrong.append(f"{piece}: no target {word}")
            elif variable is not None and f"$({variable[1]})" not in makefile:
                wrong.append(f"{piece}: nothing reads {variable[1]}")
            elif variable is not None and variable[1] == "OPTIONS":
                check(["bench", *word[variable.end() :].split()], whole=True)
    assert not wrong, "\n".join(wrong)
    assert len(targets) > 10, "the search finds them no more"
    assert makefile_says <= set(phony.split())
    for target in phony.split():
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_what_is_typed_for_make_is_what_make_takes() -> None:
    """Each line once, without a word run: its rules are there."""
    lines = {tuple(words) for _, words in make_lines()}
    for words in sorted(lines):
        done = subprocess.run([*words, "--dry-run"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}: {done.stderr}"


def mapping_in(text: str) -> dict[str, Any]:
    """The YAML mapping of which `text` is; {} if it is none."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


def part_of_a_profile(found: dict[str, Any]) -> dict[str, Any]:
    """`found`, whose keys may have dots, and what a profile needs besides."""
    made: dict[str, Any] = {}
    for key, value in found.items():
        *sections, last = str(key).split(".")
        place = made
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    if "container" in made:
        return {"destination": LEAST["destination"]} | made
    return LEAST | made if "task" not in found else {"destination": LEAST["destination"]} | made


def profile_pieces() -> Iterator[tuple[Piece, dict[str, Any]]]:
    """Blocks, comments and inline code that begin with a key of a profile."""
    keys = set(profile_schema.schema()["properties"])
    texts = [*pages.blocks(), *pages.inlines()]
    texts += [Piece(each.page, each.line, pages.comment(each.text)) for each in pages.block_lines()]
    for piece in texts:
        begins = re.match(r"([a-z_]+)[.:]", piece.text)
        if begins is not None and begins[1] in keys and "..." not in piece.text:
            found = mapping_in(piece.text)
            if any(value is not None for value in found.values()):
                yield piece, found


def test_every_piece_of_a_profile_is_one() -> None:
    wrong, count = [], 0
    for piece, found in profile_pieces():
        count += 1
        try:
            parse(yaml.safe_dump(part_of_a_profile(found)), "profile")
        except CriuLazyError as error:
            wrong.append(f"{piece}: {error}")
    assert not wrong, "\n".join(wrong)
    assert count > 8, "the search finds them no more"


def keys_of(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, value in schema["properties"].items():
        yield path + name
        yield from keys_of(value, f"{path}{name}.") if "properties" in value else ()


def test_every_key_of_a_profile_that_is_named_is_one() -> None:
    known = set(keys_of(profile_schema.schema()))
    sections = {key.partition(".")[0] for key in known if "." in key}
    named = [
        (piece, found[0])
        for piece in pages.inlines()
        if (found := re.fullmatch(r"([a-z_]+)(\.[a-z_]+)+", piece.text)) and found[1] in sections
    ]
    wrong = [str(piece) for piece, key in named if key not in known]
    assert not wrong, "\n".join(wrong)
    assert len(named) > 30, "the search finds them no more"


def first_cells(page: str, heading: str) -> list[str]:
    """Of the rows of the first table below it."""
    _, _, below = (CHECKOUT / "docs" / page).read_text().partition(f"\n## {heading}\n")
    table = re.search(r"^\| key .*\n\|[- |]*\n((?:\|.*\n)+)", below, re.MULTILINE)
    assert table is not None, f"{page}: {heading}: no table"
    return [row.split(" | ")[0].removeprefix("| ") for row in table[1].splitlines()]


def test_the_table_of_a_profiles_keys_has_them_all() -> None:
    listed = set()
    for cell in first_cells("migrate.md", "The profile"):
        names = re.findall(r"`([^`]+)`", cell)
        before, _, _ = names[0].rpartition(".")
        listed |= {before + name if name.startswith(".") else name for name in names}
    known = {key for key in keys_of(profile_schema.schema()) if not key.startswith(("container.", "predump"))}
    known = {key for key in known if not any(other.startswith(f"{key}.") for other in known)}
    known = {key for key in known if not key.startswith("hooks.")} | {"hooks.PHASE"}
    assert listed - known <= {"container", "precopy"} and known - listed <= {"container"}


def test_the_table_of_a_plans_keys_has_them_all() -> None:
    listed = [cell.strip("`") for cell in first_cells("evacuate.md", "The plan")]
    assert {name for name in listed if "[" not in name} == set(Plan.__dataclass_fields__)


def test_every_plan_and_the_variables_of_its_playbook_are_taken() -> None:
    PlanFile.load(CHECKOUT / "configs/evacuate/plan.yaml")
    playbook = "".join(path.read_text() for path in (CHECKOUT / "ansible").rglob("*.yml"))
    [variables] = [mapping_in(piece.text) for piece in pages.blocks() if "criu_lazy_move" in piece.text]
    assert all(re.search(rf"\b{name}\b", playbook) for name in variables)
    plan = {name.removeprefix("criu_lazy_"): value for name, value in variables.items()}
    PlanFile(yaml.safe_dump(plan), "plan")
    for piece in pages.inlines():
        if re.match(r"(at_once|on_failure): ", piece.text):
            PlanFile(yaml.safe_dump(LEAST_PLAN | mapping_in(piece.text)), str(piece))


def test_every_link_leads_somewhere() -> None:
    wrong, count = [], 0
    for piece in pages.links():
        count += 1
        path, _, anchor = piece.text.partition("#")
        target = (piece.page.parent / path).resolve() if path else piece.page
        if not target.exists():
            wrong.append(f"{piece}: there is no such file")
        elif anchor and target.suffix == ".md":
            for kind in (pages.github_anchor, pages.site_anchor):
                if anchor not in [kind(heading) for heading in pages.headings(target)]:
                    wrong.append(f"{piece}: no heading there has that name ({kind.__name__})")
    assert not wrong, "\n".join(wrong)
    assert count > 50, "the search finds them no more"


def test_every_file_of_ours_that_is_named_is_there() -> None:
    wrong, count = [], 0
    for piece in pages.inlines():
        if piece.text.startswith(PLACES) and re.fullmatch(r"[\w./-]+", piece.text):
            count += 1
            if not (CHECKOUT / piece.text).exists():
                wrong.append(str(piece))
    assert not wrong, "\n".join(wrong)
    assert count > 20, "the search finds them no more"


def test_every_page_is_in_the_sites_list() -> None:
    listed = set(re.findall(r"[\w/.-]+\.md\b", (CHECKOUT / "mkdocs.yml").read_text()))
    assert listed == {str(page.relative_to(CHECKOUT)) for page in [*pages.PAGES, pages.CHANGES]}


def compilers_lines() -> Iterator[Piece]:
    for piece in pages.block_lines():
        if piece.text.startswith("gcc "):
            yield piece


def test_what_is_compiled_by_hand_is_there() -> None:
    lines = list(compilers_lines())
    assert lines
    for piece in lines:
        words = subprocess.check_output(["bash", "-c", f"printf '%s\\n' {piece.text}"], cwd=CHECKOUT, text=True)
        sources = [word for word in words.split() if word.endswith(".c")]
        assert sources and all((CHECKOUT / source).is_file() for source in sources), piece


def test_every_test_that_is_named_for_pytest_is_there() -> None:
    code = "".join(path.read_text() for path in (CHECKOUT / "tests").rglob("*.py"))
    code += "".join(path.stem for path in (CHECKOUT / "tests/c").glob("*.c"))
    for piece in pages.block_lines():
        if " -m pytest " in piece.text:
            [words] = list(pages.commands(piece.text))
            path, wanted = words[words.index("pytest") + 1], words[words.index("-k") + 1]
            assert (CHECKOUT / path).exists(), piece
            assert all(name in code for name in re.split(r" and | or ", wanted)), piece


def test_every_package_that_is_named_is_what_the_testbeds_hosts_have() -> None:
    """They are made of Debian's packages, and criu-lazy is installed there by pip as the page says."""
    named = {
        word
        for piece in pages.block_lines()
        if piece.text.startswith("apt install ")
        for words in pages.commands(piece.text)
        for word in words[2:]
        if "/" not in word
    }
    assert len(named) > 5 and named <= set(PACKAGES), named - set(PACKAGES)


def test_what_is_called_of_a_testbed_is_there() -> None:
    [piece] = [piece for piece in pages.blocks() if piece.language == "python"]
    there = {"testbed.src": Host, "testbed.dst": Host, "testbed.link": Link, "Testbed": Testbed}
    calls = [node for node in ast.walk(ast.parse(piece.text)) if isinstance(node, ast.Call)]
    for call in calls:
        assert isinstance(call.func, ast.Attribute)
        function = getattr(there[ast.unparse(call.func.value)], call.func.attr)
        given = {str(keyword.arg): None for keyword in call.keywords}
        inspect.signature(function).bind_partial(*[None] * len(call.args), **given)
    assert len(calls) > 5
