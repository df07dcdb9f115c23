"""That each test exists which the guarantees, and the list of bugs of others, name as their proof."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUARANTEES = ROOT / "docs/explanation/guarantees.md"
BUGS = ROOT / "tests/regress/README.md"
SUITE = ROOT / "src/sitq/testing/conformance/promises"


def _rows(page, heading):
    """The cells of a table's rows, by the first one."""
    section = page.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return {cells[0].strip(): cells[1:] for cells in lines[1:]}


def _proofs():
    for page in (GUARANTEES, BUGS):
        for named in dict.fromkeys(re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", page.read_text())):
            yield pytest.param(*named, id="::".join(filter(None, named)))


@pytest.mark.parametrize(("file", "test"), [*_proofs()])
def test_what_is_named_as_a_proof_exists(file, test):
    path = ROOT / file if "/" in file else SUITE / file
    assert path.is_file()
    assert re.search(rf"^ *(async )?def {test}\(", path.read_text(), re.MULTILINE) or not test


def test_each_promise_has_a_proof_that_is_named():
    promises = _rows(GUARANTEES, "The promises")
    proofs = _rows(GUARANTEES, "The tests that show it")
    assert [*promises] == [*proofs] == [str(number) for number in range(1, len(promises) + 1)]
    assert all(any("::" in cell for cell in cells) for cells in proofs.values())


@pytest.mark.parametrize("store", ["Memory", "SQLite", "PostgreSQL", "Redis and Valkey"])
def test_each_promise_says_of_each_store_what_holds_and_what_shows_it(store):
    section = GUARANTEES.read_text().partition("## Store by store\n")[2].partition("\n## ")[0]
    lines = section.partition(f"### {store}\n")[2].partition("\n### ")[0].splitlines()
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")
    ]
    assert [row[0] for row in rows[1:]] == [*_rows(GUARANTEES, "The promises")]
    for _, holds, setting, proof in rows[1:]:
        assert holds
        assert holds.startswith("no") or (setting and "::" in proof)


def test_each_bug_of_others_has_its_link_and_its_proof():
    text = BUGS.read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and "](http" in line]
    assert len(rows) >= 40
    assert [row for row in rows if ".py::test_" not in row] == []


@pytest.mark.parametrize(
    "file", sorted((ROOT / "tests/regress").glob("test_*.py")), ids=lambda path: path.name
)
def test_the_link_of_each_replayed_bug_is_in_the_list(file):
    links = re.findall(r"https://github\.com/[\w.-]+/[\w.-]+/(?:issues|pull)/\d+", file.read_text())
    assert [link for link in links if f"({link})" not in BUGS.read_text()] == []
