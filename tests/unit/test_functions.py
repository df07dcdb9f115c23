import functools
import gc
import json
import math
import os.path
import subprocess
import sys
import threading
import types
import weakref
from decimal import Decimal

import pytest

from sitq import functions
from sitq.decorator import task
from sitq.exceptions import ConfigurationError, UnknownFunctionError, ValidationError, WorkerError
from sitq.functions import ByIdentity, Naming, name_of, python_version, register, registered, resolve
from sitq.validation import name as valid_name


@pytest.fixture
def app(make_module):
    return make_module(
        "made_app",
        """
        def plain(): return 1
        async def coroutine(): ...
        class Service:
            def method(self): ...
            @staticmethod
            def static(): ...
            @classmethod
            def made(cls): ...
            class Inner:
                def deep(self): ...
            def __call__(self): ...
        def outer():
            def inner(): ...
            return inner
        nameless = lambda: None
        shadowed = plain
        """,
    )


# --- names ---


def test_functions_of_modules_are_named(app):
    for function, name in [
        (app.plain, "made_app:plain"),
        (app.coroutine, "made_app:coroutine"),
        (app.Service, "made_app:Service"),
        (app.Service.method, "made_app:Service.method"),
        (app.Service.static, "made_app:Service.static"),
        (app.Service.Inner.deep, "made_app:Service.Inner.deep"),
        (app.shadowed, "made_app:plain"),
        (json.dumps, "json:dumps"),
        (math.sqrt, "math:sqrt"),
        (print, "builtins:print"),
        (Decimal, "decimal:Decimal"),
    ]:
        assert name_of(function) == Naming(name, by_value=False)
        assert resolve(name, registered_only=False) is function


def test_the_module_of_a_name_is_the_functions_own():
    assert name_of(os.path.join).name == f"{os.path.join.__module__}:join"


def test_everything_else_goes_by_value_with_a_label(app):
    for function, label in [
        (app.nameless, "made_app:<lambda>"),
        (app.outer(), "made_app:outer.<locals>.inner"),
        (app.Service().method, "made_app:Service.method"),
        (app.Service.made, "made_app:Service.made"),
        (app.Service(), "made_app:Service"),
        (functools.partial(app.plain), "made_app:plain"),
        (functools.partial(functools.partial(app.plain, 1), 2), "made_app:plain"),
        (functools.partial(app.Service()), "functools:partial"),
        ([].append, "list.append"),
    ]:
        assert name_of(function) == Naming(label, by_value=True)


def test_a_function_replaced_in_its_module_goes_by_value(make_module):
    module = make_module("made_replaced", "def work(): ...")
    first = module.work
    exec("def work(): ...", module.__dict__)
    assert name_of(first).by_value
    assert not name_of(module.work).by_value


def test_a_decorated_function_is_named_by_its_outer_object(make_module):
    module = make_module(
        "made_decorated",
        """
        import functools
        def decorate(function):
            @functools.wraps(function)
            def wrapper(): return function()
            return wrapper
        def work(): ...
        inner = work
        work = decorate(work)
        cached = functools.lru_cache(decorate)
        """,
    )
    assert name_of(module.work) == Naming("made_decorated:work", by_value=False)
    assert name_of(module.inner).by_value


def test_a_function_asked_about_while_its_module_runs_is_named_later(make_module):
    module = make_module(
        "made_early",
        """
        from sitq.functions import name_of
        early = []
        def ask(function):
            early.append(name_of(function).by_value)
            return function
        @ask
        def work(): ...
        """,
    )
    assert module.early == [True]
    assert not name_of(module.work).by_value


def test_names_that_were_set_by_hand_become_valid_labels():
    def work(): ...

    for qualname in ("a\x00b", "x" * 10_000, "", "ü\u202e", "\ud800"):
        copied = types.FunctionType(work.__code__, globals())
        copied.__qualname__ = qualname
        naming = name_of(copied)
        assert naming.by_value
        assert valid_name(naming.name) == naming.name


def test_objects_with_odd_attributes_are_named_anyway():
    class Odd:
        __module__ = None

        def __call__(self): ...
        def __eq__(self, other):
            raise AssertionError("compared")

        __hash__ = None

    assert name_of(Odd()).by_value
    assert name_of(Odd()).name.endswith("Odd")


def test_a_script_goes_by_value_with_its_label():
    script = (
        "def f(): ...\nfrom sitq import task\nfrom sitq.functions import name_of\nprint(*name_of(f)[:3])\n"
    )
    script += "print(*name_of(task(f))[:3])\nprint(*name_of(task(name='mine')(f))[:3])"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert answer.split("\n")[:3] == ["__main__:f True False", "__main__:f True True", "mine False True"]


def test_closures_are_not_kept_alive_by_their_names(app):
    inner = app.outer()
    name_of(inner)
    reference = weakref.ref(inner)
    del inner
    gc.collect()
    assert reference() is None


# --- registering ---


def test_task_registers_the_function_under_its_name_and_its_former_ones(make_module):
    module = make_module(
        "made_tasks",
        """
        from sitq.decorator import task
        def _plain(): ...
        @task
        def work(): ...
        @task(name="send", aliases=["old_send", "older:send"])
        def send(): ...
        @task()
        def empty(): ...
        """,
    )
    assert isinstance(module.work.function, types.FunctionType)
    assert name_of(module.work) == Naming("made_tasks:work", by_value=False, registered=True)
    assert name_of(module.send) == Naming("send", by_value=False, registered=True)
    for name, function in [
        ("made_tasks:work", module.work),
        ("made_tasks:empty", module.empty),
        ("send", module.send),
        ("old_send", module.send),
        ("older:send", module.send),
    ]:
        assert resolve(name, registered_only=True) is function.function
        assert registered()[name] is function


def test_a_registered_function_hidden_behind_a_decorators_object_goes_by_name(make_module):
    module = make_module(
        "made_hidden",
        """
        from sitq.functions import register
        class Wrapper:
            def __init__(self, function): self.function = register(function)
        @Wrapper
        def work(): ...
        """,
    )
    assert name_of(module.work.function) == Naming("made_hidden:work", by_value=False, registered=True)
    assert resolve("made_hidden:work", registered_only=False) is module.work.function


def test_an_inner_function_is_registered_but_goes_by_value_unless_it_is_given_a_name(make_module):
    make_module("made_inner", "")

    def first(): ...
    def second(): ...

    assert name_of(task(first)).by_value
    assert name_of(task(first)).registered
    assert not name_of(task(name="made_inner.second")(second)).by_value


def test_two_functions_cannot_have_one_name(make_module):
    one = make_module("made_one", "def work(): ...").work
    two = make_module("made_two", "def work(): ...").work
    register(one, name="shared")
    with pytest.raises(
        ConfigurationError, match="'shared' already stands for made_one:work, not for made_two:work"
    ):
        register(two, name="shared")
    with pytest.raises(ConfigurationError, match="already stands"):
        register(two, name="free", aliases=["shared"])
    assert resolve("shared", registered_only=True) is one
    with pytest.raises(UnknownFunctionError):  # nothing is registered by half
        resolve("free", registered_only=True)


def test_a_reloaded_function_takes_the_place_of_its_former_self(make_module):
    source = "from sitq import task\n@task(name='reloaded')\ndef work(): ..."
    first = make_module("made_reload", source).work
    second = make_module("made_reload", source).work
    assert first is not second
    assert resolve("reloaded", registered_only=True) is second.function


def test_a_script_that_is_imported_too_registers_the_same_function_twice(make_module):
    source = "from sitq import task\n@task(name='twice')\ndef work(): ..."
    code = compile(source, "/srv/script.py", "exec")
    for name in ("made_script", "made_script_as_main"):
        exec(code, make_module(name, "").__dict__)
    assert "twice" in registered()


def test_registering_again_is_no_conflict(app):
    assert register(app.plain) is register(app.plain)


@pytest.mark.parametrize("bad", ["", "a\0b", "x" * 256, 5])
def test_unusable_names_are_refused(bad, app):
    with pytest.raises(ValidationError, match="function name"):
        task(name=bad)(app.plain)
    with pytest.raises(ValidationError, match="alias"):
        task(aliases=[bad])(app.plain)


def test_one_alias_as_text_is_not_taken_for_many(app):
    with pytest.raises(ValidationError, match="pass a list of names"):
        task(aliases="old")(app.plain)


def test_only_functions_are_registered():
    with pytest.raises(ValidationError, match="pass the function itself"):
        task("work")


def test_registering_from_many_threads_loses_nothing(make_module):
    made = [make_module(f"made_thread{each}", "def work(): ...").work for each in range(20)]
    threads = [threading.Thread(target=register, args=(each,)) for each in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(resolve(f"made_thread{each}:work", registered_only=True) is made[each] for each in range(20))


# --- resolving ---


def test_registered_only_imports_nothing(tmp_path, monkeypatch):
    (tmp_path / "made_trap.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("made_trap:work", "os:system", "json:dumps"):
        with pytest.raises(UnknownFunctionError, match=f"no function is registered as '{name}'; decorate it"):
            resolve(name, registered_only=True)
    assert "made_trap" not in sys.modules


def test_a_module_is_imported_when_it_is_needed(tmp_path, monkeypatch):
    source = "from sitq import task\n@task(name='fresh')\ndef work(): ...\nclass A:\n  def b(self): ..."
    (tmp_path / "made_fresh.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert resolve("made_fresh:A.b", registered_only=False).__name__ == "b"
        assert resolve("fresh", registered_only=True).__name__ == "work"
    finally:
        sys.modules.pop("made_fresh", None)
        functions._functions.pop("fresh", None)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nothing", "no function is registered as 'nothing', and it is not of the form module:function"),
        ("", "not of the form"),
        (":f", "not of the form"),
        ("json:", "not of the form"),
        (".json:dumps", "not of the form"),
        ("made_missing:f", "cannot import module 'made_missing' of 'made_missing:f': ModuleNotFoundError"),
        ("json.missing.deep:f", "cannot import module"),
        ("json:missing", r"module 'json' has no attribute 'missing'; .*@task\(aliases=\['json:missing'\]\)"),
        ("json:dumps.missing", "has no attribute 'dumps.missing'"),
        ("json:__name__", "is of type str and cannot be called"),
        ("__main__:f", "exists only in the process that made it"),
        ("json:outer.<locals>.f", "exists only in the process that made it"),
        ("json:<lambda>", "exists only in the process that made it"),
        ("a\x00b:f", "cannot import module"),
        ("json:dumps..x", "has no attribute"),
        ("\u202e", r"'\\u202e'"),
    ],
)
def test_what_cannot_be_found_is_explained(name, reason):
    with pytest.raises(UnknownFunctionError, match=reason) as caught:
        resolve(name, registered_only=False)
    assert isinstance(caught.value, WorkerError)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "source", ["raise SystemExit(2)", "1/0", "import made_missing", "def", "raise GeneratorExit"]
)
def test_a_module_that_fails_is_a_reason_and_no_crash(source, tmp_path, monkeypatch):
    (tmp_path / "made_broken.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnknownFunctionError, match="cannot import module 'made_broken'") as caught:
        resolve("made_broken:f", registered_only=False)
    assert caught.value.cause is not None


def test_an_interrupt_from_the_keyboard_gets_through(tmp_path, monkeypatch):
    (tmp_path / "made_slow.py").write_text("raise KeyboardInterrupt")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        resolve("made_slow:f", registered_only=False)


def test_a_module_whose_getattr_raises_has_no_such_attribute(make_module):
    make_module("made_lazy", "def __getattr__(name): raise RuntimeError(name)")
    with pytest.raises(UnknownFunctionError, match="has no attribute 'f'"):
        resolve("made_lazy:f", registered_only=False)


# --- the rest ---


def test_the_python_version_is_the_minor_one():
    assert python_version() == f"{sys.version_info[0]}.{sys.version_info[1]}"


def test_what_is_remembered_about_an_object_goes_with_it():
    class Thing:
        def __eq__(self, other):
            return True

        __hash__ = None

    known = ByIdentity()
    one, two = Thing(), Thing()
    known.set(one, "one")
    assert (known.get(one), known.get(two)) == ("one", None)
    known.set(one, "again")
    assert known.get(one) == "again"
    del one
    gc.collect()
    assert not known._known
    known.set(5, "numbers have no weak references")
    assert known.get(5) is None
