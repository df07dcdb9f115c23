"""Every code block of README and docs: the Python runs, and the commands exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from sitq.cli.main import sitq_command
from sitq.worker.exits import Exit

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "tests/README.md",
    *sorted(ROOT.glob("docs/**/*.md")),
]
GUIDE = (ROOT / "docs/guide/running-workers.md").read_text()

_FENCE = re.compile(r"^( *)```([\w.+-]*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def _blocks(page, *languages):
    """The line and the code of each fenced block in one of the languages."""
    text = page.read_text()
    for block in _FENCE.finditer(text):
        if block[2] in languages:
            lines = [line.removeprefix(block[1]) for line in block[3].splitlines()]
            yield text.count("\n", 0, block.start()) + 2, lines


def _scripts():
    """The Python blocks of each page as one script, on the lines that they have in the page."""
    for page in PAGES:
        script = []
        for line, code in _blocks(page, "python"):
            script += [""] * (line - 1 - len(script)) + code
        if script:
            yield pytest.param("\n".join(script) + "\n", id=str(page.relative_to(ROOT)))


def _commands():
    for page in PAGES:
        for line, code in _blocks(page, "bash", "sh", "ini"):
            yield pytest.param("\n".join(code), id=f"{page.relative_to(ROOT)}:{line}")


@pytest.mark.parametrize("script", [*_scripts()])
def test_the_python_blocks_of_a_page_run_one_after_another(script, tmp_path):
    file = tmp_path / "page.py"
    file.write_text(script)
    command = [sys.executable, "-W", "error", str(file)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("code", [*_commands()])
def test_each_command_exists(code):
    for line in code.splitlines():
        words = shlex.split(line, comments=True)
        if words and "=" in words[0] and "/sitq" in words[0]:  # ExecStart=/srv/app/.venv/bin/sitq worker …
            words[0] = "sitq"
        if words:
            _check(words)


def test_the_commands_in_running_text_exist():
    for page in PAGES:
        for command in re.findall(r"`(sitq (?:worker|info)[^`]*)`", _FENCE.sub("", page.read_text())):
            _check(shlex.split(command.replace("…", "")))


def _check(words):
    program, *rest = words
    match program:
        case "make":
            for target in [word for word in rest if "=" not in word]:
                assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target
        case "sitq":
            _check_sitq(rest)
        case "python":
            assert rest[0] == "-m" or (ROOT / rest[0]).is_file() or "/" not in rest[0], rest[0]
        case "pytest":
            assert all((ROOT / word).is_dir() for word in rest if word.endswith("/")), words
        case _:
            pass


def _check_sitq(words):
    if not words or words[0].startswith("-"):
        return
    command = sitq_command.commands.get(words[0])
    assert command is not None, f"there is no command `sitq {words[0]}`"
    known = {option for each in command.params for option in each.opts} | {"--help"}
    used = {word.partition("=")[0] for word in words[1:] if word.startswith("--")}
    assert used <= known, f"`sitq {words[0]}` has no {', '.join(used - known)}"


def _options():
    worker = sitq_command.commands["worker"]
    return [each for each in worker.params if isinstance(each, click.Argument) or not each.hidden]


def test_every_environment_variable_has_its_place_in_the_guide():
    for option in _options():
        assert not option.envvar or f"`{option.envvar}`" in GUIDE, option.envvar
    assert "`SITQ_URL`" in GUIDE


def test_every_option_of_the_worker_has_its_place_in_the_guide():
    shown = [option.opts[0] for option in _options() if isinstance(option, click.Option)]
    assert [option for option in shown if option not in GUIDE] == []


def test_every_exit_code_has_its_place_in_the_guide():
    assert [int(code) for code in re.findall(r"^\| (\d) \|", GUIDE, re.MULTILINE)] == [*Exit]


def test_links_to_files_of_the_repository_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", _FENCE.sub("", page.read_text())):
            assert (page.parent / link).exists(), f"{page.relative_to(ROOT)}: {link}"
