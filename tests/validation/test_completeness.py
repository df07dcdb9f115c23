"""What users can name has its place in the docs: public names, options, errors, parameters and flags."""

import inspect
import re
from pathlib import Path

import click
import pytest

import sitq
from sitq import RetryPolicy, SQLiteBackend, TaskQueue, Worker, exceptions
from sitq.cli.main import sitq_command
from sitq.options import OPTION_NAMES, Options

DOCS = Path(__file__).parents[2] / "docs"
GUIDE = DOCS / "guide/user-guide.md"
ERRORS = DOCS / "guide/error-handling.md"
COMMANDS = DOCS / "reference/command-line.md"


def _rows(page, heading=""):
    """What the rows of the tables in a section, or in the whole page, are about."""
    section = page.read_text().partition(f"## {heading}\n")[2] if heading else page.read_text()
    return re.findall(r"^\| `([\w-]+)", section.partition("\n## ")[0] if heading else section, re.MULTILINE)


def _parameters(function, *, without=()):
    return {*inspect.signature(function).parameters} - {"backend", "path", *without}


def test_every_public_name_is_mentioned_in_the_docs():
    words = {
        word
        for page in DOCS.rglob("*.md")
        for code in re.findall(r"`([^`\n]+)`", page.read_text())
        for word in re.findall(r"\w+", code)
    }
    assert [name for name in sitq.__all__ if name not in words] == []


def test_every_option_of_a_task_has_a_row_in_the_guide():
    section = _rows(GUIDE, "Say how a task is to be run")
    assert section == [name for name in Options.__struct_fields__ if name in OPTION_NAMES]


def test_every_field_of_a_retry_policy_has_a_row_in_the_guide():
    assert _rows(GUIDE, "Retry what failed") == [*RetryPolicy.__struct_fields__]


def test_every_parameter_of_a_worker_has_a_row_in_the_guide():
    assert {*_rows(GUIDE, "Run a worker in your program")} == _parameters(Worker)


def test_every_parameter_of_a_sqlite_backend_has_a_row_in_the_guide():
    section = _rows(GUIDE, "Choose a store")
    assert _parameters(SQLiteBackend) <= {*section}


@pytest.mark.parametrize("parameter", sorted(_parameters(TaskQueue)))
def test_every_parameter_of_a_queue_is_mentioned_in_the_guide(parameter):
    assert re.search(rf"`{parameter}\b", GUIDE.read_text())


def test_every_method_of_a_queue_is_mentioned_in_the_guide():
    methods = [name for name, _ in inspect.getmembers(TaskQueue, inspect.isfunction) if name[0] != "_"]
    text = "".join(page.read_text() for page in GUIDE.parent.glob("*.md"))
    assert [name for name in methods if not re.search(rf"\b{name}\b", text)] == []


def test_every_error_has_a_row_in_its_page():
    errors = {name for name in exceptions.__all__ if name.endswith("Error")}
    assert {*_rows(ERRORS, "The errors of sitq")} == errors == {*exceptions.__all__}


def _flags():
    for name, command in sitq_command.commands.items():
        for each in command.params:
            if isinstance(each, click.Option) and not each.hidden:
                yield from (pytest.param(name, option, id=f"{name} {option}") for option in each.opts)


@pytest.mark.parametrize(("command", "flag"), [*_flags()])
def test_every_flag_has_its_place_under_its_command(command, flag):
    section = COMMANDS.read_text().partition(f"\n## sitq {command}\n")[2].partition("\n## ")[0]
    assert f"`{flag}`" in section


def test_every_page_of_the_reference_is_listed_on_its_first_page():
    listed = re.findall(r"\]\(([\w-]+\.md)", (DOCS / "reference/index.md").read_text())
    assert {*listed} == {page.name for page in (DOCS / "reference").glob("*.md")} - {"index.md"}
