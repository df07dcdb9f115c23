"""The roadmap is true: what it calls missing is not there, and it names nothing that is."""

import pkgutil
import re
from pathlib import Path

import pytest

import sitq
import sitq.backends
from sitq.cli.main import sitq_command

ROOT = Path(__file__).parents[2]
ROADMAP = (ROOT / "docs/explanation/roadmap.md").read_text()

MISSING = {
    "NATS": "nats",
    "folder of files": "^File|^files?$",
    "schedules": "schedule|cron|periodic",
    "dashboard": "dashboard|asgi",
    "Prometheus": "prometheus",
    "OpenTelemetry": "telemetry",
    "OmniQ": "omniq",
    "AsyncMQ": "asyncmq",
    "django.tasks": "django",
    "reload": "reload",
}
"""What the roadmap names, and what of sitq would be called like that."""


def _present():
    """What users can name: names of sitq and of its queue, modules, stores, commands and flags."""
    yield from sitq.__all__
    yield from (name for name in dir(sitq.TaskQueue) if name[0] != "_")
    for package in (sitq, sitq.backends):
        yield from (module.name for module in pkgutil.iter_modules(package.__path__))
    for name, command in sitq_command.commands.items():
        yield name
        yield from (option for each in command.params for option in each.opts)


@pytest.mark.parametrize("words", MISSING)
def test_what_the_roadmap_calls_missing_is_not_there(words):
    assert words in ROADMAP, f"{words!r} has left the roadmap: take it from this list, too"
    there = [name for name in _present() if re.search(MISSING[words], name, re.IGNORECASE)]
    assert there == [], f"{', '.join(there)}: take {words!r} from the roadmap"


def test_the_commands_that_it_names_do_not_exist():
    line = re.search(r"the other commands of `sitq`:(.*?)\n(?:-|$)", ROADMAP, re.DOTALL)
    assert line is not None
    assert {*re.findall(r"`(\w+)`", line[1])} & {*sitq_command.commands} == set()


def test_it_names_nothing_that_is_there():
    named = {word for code in re.findall(r"`([^`]+)`", ROADMAP) for word in re.findall(r"\w+", code)}
    assert named & ({*sitq.__all__} | {name for name in dir(sitq.TaskQueue) if name[0] != "_"}) <= {
        "cancel",
        "pause",
        "purge",
        "resume",
        "retry",
        "tasks",
    }  # these are commands there, and methods of a queue


NOT_YET = re.compile(r"[^.|]*\b(?:not yet|no [\w, ]+ yet|does not exist|do not exist)\b[^.|]*")
THERE = (
    "depend",
    "batch",
    "limit",
    "unique",
    "fair",
    "recycl",
    "health",
    "middleware",
    "event",
    "steps",
    "flows",
)


def test_no_page_says_of_something_that_is_there_that_it_is_missing():
    for page in (ROOT / "README.md", *ROOT.glob("docs/**/*.md")):
        for sentence in NOT_YET.findall(page.read_text()):
            said = [word for word in THERE if word in sentence.lower()]
            assert said == [], f"{page.relative_to(ROOT)}: {sentence}"
