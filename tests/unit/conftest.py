"""What tests of parts share."""

import sys
import textwrap
import types

import pytest

from sitq import functions


@pytest.fixture
def make_module(monkeypatch):
    """Makes importable modules from source text and forgets them, and what they registered, afterwards."""
    before = dict(functions._functions)

    def make(name, source):
        module = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(textwrap.dedent(source), f"<{name}>", "exec"), module.__dict__)
        return module

    yield make
    functions._functions.clear()
    functions._functions.update(before)
