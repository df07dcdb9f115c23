"""A store against the memory store: the same random moves on both, and equal answers after each.

A store joins with its harness of the conformance suite, if that can stop the clock (`frozen`):

    class MyModel(BackendModel):
        harness = MyHarness

    TestMyModel = as_test_case(MyModel)

It needs Hypothesis. A failure prints the steps that lead to it, as few as were found, and a decorator that
replays them.
"""

from sitq.testing.model.machine import BackendModel, as_test_case

__all__ = ["BackendModel", "as_test_case"]
