"""That each saboteur still finds the line that it takes away, and the test that has to notice."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

import sitq

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SOURCES = Path(sitq.__file__).parent

spec = importlib.util.spec_from_file_location("saboteurs", HERE / "saboteurs.py")
assert spec is not None
assert spec.loader is not None
saboteurs = importlib.util.module_from_spec(spec)
sys.modules["saboteurs"] = saboteurs
spec.loader.exec_module(saboteurs)

SABOTEURS = saboteurs.SABOTEURS


@pytest.mark.parametrize("saboteur", SABOTEURS, ids=lambda one: one.name)
def test_a_saboteur_finds_its_line_once_and_its_test(saboteur):
    found = (SOURCES / saboteur.file).read_text().count(saboteur.old)
    assert found == 1, f"the text is {found} times in {saboteur.file}; mend the saboteur"
    file, *_, test = saboteur.test.split("::")
    name = re.escape(test.partition("[")[0])
    places = [ROOT / file, *(SOURCES / "testing/conformance/promises").glob("*.py")]
    assert any(re.search(rf"def {name}\(", place.read_text()) for place in places)


def test_there_are_as_many_saboteurs_as_promised_and_no_two_of_a_name():
    assert len({one.name for one in SABOTEURS}) == len(SABOTEURS) >= 20
