"""The PostgreSQL store against the memory store, step by step.

`SITQ_MODEL=thorough` runs it for hours instead of seconds.
"""

import os

import pytest

from sitq.testing.model import BackendModel, as_test_case
from sitq.testing.postgres import PostgresHarness

EXAMPLES, STEPS = (20_000, 100) if os.environ.get("SITQ_MODEL") == "thorough" else (15, 40)


@pytest.fixture(autouse=True, scope="module")
def _server(postgres_url: str):
    PostgresHarness.use(postgres_url)


class PostgresAgainstMemory(BackendModel):
    harness = PostgresHarness


# Finding the shortest sequence of steps takes Hypothesis up to five minutes.
@pytest.mark.timeout(0 if EXAMPLES > 1000 else 600)
class TestPostgresAgainstMemory(
    as_test_case(PostgresAgainstMemory, max_examples=EXAMPLES, stateful_step_count=STEPS)
):
    pass
