"""The command `sitq`."""

from sitq.cli.main import main

__all__ = ["main"]
