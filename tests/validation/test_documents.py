"""Every code block of README and docs: the Python runs, and the commands exist.

The blocks of a page are one script. A block with a title is a file of that name beside it, which the others
can import. Where a page shows how to start a worker for its `app.py`, all its files run beside that worker.
"""

import ast
import importlib.util
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

FRAMEWORKS = {"django", "fastapi", "flask"}
"""What files on a page may need that the environment of the tests need not have."""

_WORKER = re.compile(r"^sitq (worker app:\w+)", re.MULTILINE)
_FENCE = re.compile(
    r"^( *)```([\w.+-]*)(?: title=\"([^\"\n]+)\")?[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL
)


def _blocks(page, *languages, titled=False):
    """The line, the code and the title of each fenced block in one of the languages."""
    text = page.read_text()
    for block in _FENCE.finditer(text):
        if block[2] in languages and bool(block[3]) == titled:
            lines = [line.removeprefix(block[1]) for line in block[4].splitlines()]
            yield text.count("\n", 0, block.start()) + 2, lines, block[3]


def _files(page):
    """The files that a page shows, by name."""
    return {title: "\n".join(code) + "\n" for _, code, title in _blocks(page, "python", titled=True)}


def _write(files, folder):
    for name, code in files.items():
        (folder / name).write_text(code)


def _scripts():
    """The Python blocks of each page as one script, on the lines that they have in the page."""
    for page in PAGES:
        script = []
        for line, code, _ in _blocks(page, "python"):
            script += [""] * (line - 1 - len(script)) + code
        if script:
            yield pytest.param(page, "\n".join(script) + "\n", id=str(page.relative_to(ROOT)))


def _pages_with_files():
    return [
        pytest.param(page, id=str(page.relative_to(ROOT)))
        for page in PAGES
        if _files(page) and _WORKER.search(page.read_text())
    ]


def _commands():
    for page in PAGES:
        for line, code, _ in _blocks(page, "bash", "sh", "ini"):
            yield pytest.param("\n".join(code), id=f"{page.relative_to(ROOT)}:{line}")


@pytest.mark.parametrize(("page", "script"), [*_scripts()])
def test_the_python_blocks_of_a_page_run_one_after_another(page, script, tmp_path):
    _write(_files(page), tmp_path)
    file = tmp_path / "page.py"
    file.write_text(script)
    command = [sys.executable, "-W", "error", str(file)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("page", _pages_with_files())
def test_the_files_of_a_page_work_beside_a_worker(page, tmp_path):
    files = _files(page)
    _write(files, tmp_path)
    command = [sys.executable, "-W", "error"]
    serve = _WORKER.search(page.read_text())[1].split()
    worker = subprocess.Popen(
        [*command, "-m", "sitq", *serve], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    try:
        log = next((line for line in worker.stderr if "sitq.worker: working" in line), "")
        for name in files:
            if not _missing(files[name]):
                ended = subprocess.run(
                    [*command, name], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
                )
                assert (ended.returncode, ended.stderr) == (0, ""), name
    finally:
        worker.terminate()
        log += worker.communicate(timeout=30)[1]
    assert (worker.returncode, "Traceback" in log) == (0, False), log


def _missing(code):
    """The frameworks that a file needs and that are not here; anything else missing is the page's mistake."""
    needed = {
        each.partition(".")[0]
        for node in ast.walk(ast.parse(code))
        for each in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }
    return {each for each in needed & FRAMEWORKS if importlib.util.find_spec(each) is None}


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


@pytest.mark.parametrize("first", ["README.md", "docs/index.md"])
def test_every_page_of_the_guide_is_linked_where_readers_begin(first):
    links = re.findall(r"\]\((?:docs/)?guide/([\w-]+\.md)", (ROOT / first).read_text())
    assert {*links} == {page.name for page in (ROOT / "docs/guide").glob("*.md")}
