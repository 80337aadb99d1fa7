"""Every command of `hwc` and `hub` tells by itself how it is used, and stands in the README; no row there is invented.

A new command is found by itself: nothing here lists them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import typer

from tests.command_tree import PROGRAMS, Command, called, commands, find

README: Final = Path(__file__).parent.parent / "README.md"
HEADING: Final = "## Commands"

# Commands that take no --json, and why.
WITHOUT_JSON: Final = {
    "hwc": "it only lists what there is",
    "hub": "it only lists what there is",
    "hwc courier": "it only says that write or read is missing",
    "hwc print": "it only says that referral or prescription is missing",
    "hwc print referral": "what it writes is a PDF",
    "hwc print prescription": "what it writes is a PDF",
    "hwc import": "answers in lines of JSON anyway",
    "hwc export": "answers in lines of JSON anyway",
    "hwc support": "what it writes is JSON anyway",
    "hwc serve": "shows nothing but its address, until it is stopped",
    "hub facility import": "answers in lines of JSON anyway",
    "hub export": "answers in lines of JSON anyway",
    "hub audit export": "answers in lines of JSON anyway",
    "hub nodes revoke": "acts: its exit status says all",
    "hub nodes release": "acts: its exit status says all",
    "hub people disable": "acts: its exit status says all",
    "hub quarantine release": "acts: its exit status says all",
}


def holds(wrong: list[str]) -> None:
    assert not wrong, "\n" + "\n".join(sorted(wrong))


def rows() -> Iterator[tuple[str, str]]:
    """(command, what it does) of the README's table: "`hwc key list | add`" is two commands."""
    section = README.read_text(encoding="utf-8").partition(f"\n{HEADING}\n")[2].partition("\n## ")[0]
    for line in section.splitlines():
        if found := re.fullmatch(r"\| `(?P<command>.+?)` \| (?P<does>.*?) \|", line):
            first, *others = re.split(r" *\\\| *", found["command"])
            group = first.rpartition(" ")[0]
            for name in (first, *(f"{group} {other}" for other in others)):
                yield name, found["does"]


def test_every_command_begins_its_help_with_examples_of_itself() -> None:
    wrong = []
    for command in commands():
        lines = command.example_lines()
        if not lines:
            wrong.append(f"{command.name}: its help does not begin with Examples:")
        for line in lines:
            if not any(tuple(words[: len(command.words)]) == command.words for words in called(line)):
                wrong.append(f"{command.name}: {line!r} is no example of it")
        if not command.help.partition("\n\n")[2].strip():
            wrong.append(f"{command.name}: its help does not say what it does")
    holds(wrong)


def test_every_example_is_one_that_the_program_takes() -> None:
    wrong = []
    for command in commands():
        for line in command.example_lines():
            for words in called(line):
                if words[0] not in PROGRAMS:
                    continue
                meant, rest = find(words)
                try:
                    meant.accept(rest)
                except typer.TyperException as error:
                    wrong.append(f"{command.name}: {line!r}: {error.format_message()}")
    holds(wrong)


def test_every_command_has_a_line_for_the_list_of_commands() -> None:
    holds([f"{one.name}: no line for the list" for one in commands() if len(one.words) > 1 and not in_the_list(one)])


def in_the_list(command: Command) -> str:
    return "" if command.parser.short_help is None else str(command.parser.short_help).strip()


def test_what_shows_something_also_answers_in_json() -> None:
    shown = {one.name: one for one in commands() if one.works_alone}
    without = {name for name, one in shown.items() if "--json" not in one.options}
    wrong = [f"{name} has no --json, and no reason in WITHOUT_JSON" for name in without - set(WITHOUT_JSON)]
    wrong += [f"{name} of WITHOUT_JSON has --json, or is no command" for name in set(WITHOUT_JSON) - without]
    holds(wrong)


def test_the_readme_has_a_row_for_every_command_and_no_other() -> None:
    every = list(commands())
    told = dict(rows())
    wrong = [f"{one.name} stands in no row of {HEADING}" for one in every if not one.is_group and one.name not in told]
    wrong += [f"{name} has a row, and is no command" for name in set(told) - {one.name for one in every}]
    wrong += [f"{name}: the row does not say what it does" for name, does in told.items() if len(does.split()) < 2]
    holds(wrong)


def test_lines_and_rows_are_read_as_the_commands_they_name() -> None:
    assert called('A=1 hwc key add "R K" 3<mine | jq -r . || mail') == [
        ["hwc", "key", "add", "R K"],
        ["jq", "-r", "."],
        ["mail"],
    ]
    assert ("hwc conflicts resolve", dict(rows())["hwc conflicts list"]) in set(rows())
