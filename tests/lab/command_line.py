"""Whether a command line that stands in a file is one of ours: the command exists, and its options parse."""

from __future__ import annotations

from collections.abc import Sequence

import click

from api.cli.main import COMMANDS, arcfleet


def parse(arguments: Sequence[str]) -> str:
    """Parse what comes behind `arcfleet` and return the path of the command; nothing is run.

    Raises:
        AssertionError: there is no such command, or an option or argument of it is wrong.
    """
    assert arguments, "no command"
    assert arguments[0] in COMMANDS, f"arcfleet {arguments[0]}: no such command"
    command: click.Command = arcfleet
    path, rest, parent = "arcfleet", list(arguments), None
    try:
        while True:
            context = command.make_context(path.rpartition(" ")[2], rest, parent=parent)
            left = [*context._protected_args, *context.args]
            if not isinstance(command, click.Group) or not left:
                return path
            name, found, rest = command.resolve_command(context, left)
            assert found is not None
            command, path, parent = found, f"{path} {name}", context
    except click.ClickException as error:
        raise AssertionError(f"arcfleet {' '.join(arguments)}: {error.format_message()}") from error
