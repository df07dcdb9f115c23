import pytest

from sitq.testing.conformance import BackendConformance
from sitq.testing.postgres import PostgresHarness


@pytest.fixture(autouse=True, scope="module")
def _server(postgres_url: str):
    PostgresHarness.use(postgres_url)


class TestPostgres(BackendConformance):
    harness = PostgresHarness
