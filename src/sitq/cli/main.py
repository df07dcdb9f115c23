"""The command and its way out: every mistake of the user's is a line on stderr and exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import click

import sitq
from sitq.cli.copy import copy
from sitq.cli.doctor import doctor
from sitq.cli.info import info
from sitq.cli.migrate import migrate
from sitq.cli.worker import worker
from sitq.exceptions import SitqError
from sitq.worker.exits import Exit


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(sitq.__version__, prog_name="sitq")
def sitq_command() -> None:
    """An async-first task queue that starts as one SQLite file."""


sitq_command.add_command(worker)
sitq_command.add_command(info)
sitq_command.add_command(migrate)
sitq_command.add_command(copy)
sitq_command.add_command(doctor)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and end the process."""
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        code = sitq_command.main(arguments, prog_name="sitq", standalone_mode=False)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "sitq"
        return _complain(error.format_message(), f"Try `{command} --help`.")
    except click.ClickException as error:
        return _complain(error.format_message())
    except SitqError as error:
        return _complain(str(error))
    except click.Abort:
        return 128 + 2  # as a shell says it of SIGINT
    except BrokenPipeError:
        sys.stderr.close()  # the reader, `head` for one, has had enough
        return Exit.DONE
    return code if isinstance(code, int) else Exit.DONE


def _complain(*lines: str) -> int:
    click.echo("sitq: " + "\n".join(lines), err=True)
    return Exit.USAGE
