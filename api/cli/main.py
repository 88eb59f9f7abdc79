"""The command `arcfleet`: finds the subcommand, and turns every error of ours into one line."""

from __future__ import annotations

import importlib
import logging
import sys

import click
import structlog
from sqlalchemy.exc import OperationalError

from archive.errors import ArchiveError
from config.errors import ConfigError
from tasks.errors import TaskError
from workers.embedded.errors import EmbeddedError

#: Subcommand -> where it is; imported only when it is called, so that each starts fast.
COMMANDS = {
    "up": "api.cli.up:up",
    "demo": "api.cli.demo:demo",
    "import": "api.cli.import_:import_",
    "worker": "api.cli.worker:worker",
    "intake": "api.cli.intake:intake",
    "beat": "api.cli.beat:beat",
    "api": "api.cli.api:api",
    "dicom": "api.cli.dicom:dicom",
    "flower": "api.cli.flower:flower",
    "health": "api.cli.health:health",
    "task": "api.cli.task:task",
    "operation": "api.cli.operation:operation",
    "device": "api.cli.device:device",
    "destination": "api.cli.destination:destination",
    "fs": "api.cli.fs:fs",
    "doctor": "api.cli.doctor:doctor",
    "config": "api.cli.config:config_group",
    "token": "api.cli.token:token",
    "db": "api.cli.db:db",
}

_OURS = (ConfigError, ArchiveError, TaskError, EmbeddedError)
_INTERRUPTED = 130


class _Commands(click.Group):
    """The subcommands of the table above."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        place = COMMANDS.get(name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        assert isinstance(found, click.Command)  # noqa: S101  # the table is ours
        return found


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="arcfleet", prog_name="arcfleet")
def arcfleet() -> None:
    """Run the tasks of a cluster of DICOM archive devices, and keep their disks from filling up.

    Example: arcfleet up
    """


def main() -> None:
    """Run the command line; end with 0, 1 (an error), 2 (wrong usage) or 130 (interrupted)."""
    # Standard output holds results, be it JSON; processes that stay set up their own logs.
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )
    try:
        code = arcfleet.main(standalone_mode=False)
    except click.exceptions.Abort:
        code = _INTERRUPTED
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        # Its message is the help: as it is, not in one line.
        click.echo(error.format_message(), err=True)
        code = error.exit_code
    except click.ClickException as error:
        code = _say(error.format_message(), error.exit_code)
    except _OURS as error:
        code = _say(str(error), 1)
    except OperationalError as error:
        code = _say(f"the database cannot be used: {str(error.orig).strip().splitlines()[0]}", 1)
    sys.exit(code if isinstance(code, int) else 0)


def _say(message: str, code: int) -> int:
    click.echo(f"arcfleet: {' '.join(message.split())}", err=True)
    return code


if __name__ == "__main__":
    main()
