"""What a user did wrong, said in a line or two."""

from __future__ import annotations

import click

from sitq.worker.exits import Exit


class Complaint(click.ClickException):
    """A mistake that only the user can mend: shown without a traceback of ours."""

    exit_code = Exit.USAGE
