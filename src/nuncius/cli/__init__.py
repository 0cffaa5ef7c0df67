"""The command line: ``nuncius``, one module a noun; each command loads its module only when it is called."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from nuncius.errors import NunciusError

_COMMANDS = {
    "antares": ("nuncius.cli.antares", "Save ANTARES streams, as antares-client does."),
    "archive": ("nuncius.cli.archive", "Ask an archive: a file, or a server."),
    "brokers": ("nuncius.cli.brokers", "List the brokers, and what login each wants."),
    "datasets": ("nuncius.cli.datasets", "Look up data sets on a dserver, and find their files."),
    "demo": ("nuncius.cli.demo", "See one night from end to end, without any account."),
    "doctor": ("nuncius.cli.doctor", "Find out why a stream can't be read."),
    "fits": ("nuncius.cli.fits", "Read FITS files where they are: headers, cutouts, rows."),
    "health": ("nuncius.cli.health", "Tell whether a running stream is well."),
    "lag": ("nuncius.cli.lag", "Show how far a consumer group has come."),
    "login": ("nuncius.cli.login", "Store the login of a broker."),
    "publish": ("nuncius.cli.publish", "Send packets to a topic."),
    "rewind": ("nuncius.cli.rewind", "Read again from an earlier place."),
    "sandbox": ("nuncius.cli.sandbox", "Run a service on this machine to try things with."),
    "serve": ("nuncius.cli.serve", "Answer Kowalski's HTTP interface on an archive."),
    "stream": ("nuncius.cli.stream", "Listen to streams and keep what comes."),
    "subscription": ("nuncius.cli.subscription", "The subscriptions of Google Pub/Sub."),
    "topics": ("nuncius.cli.topics", "List the topics of a broker."),
    "users": ("nuncius.cli.users", "The accounts of a server."),
}


class _Group(click.Group):
    """Finds the commands without importing them, and says errors without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(_COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in sorted(_COMMANDS.items())])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NunciusError as error:
            if os.environ.get("NUNCIUS_TRACEBACK"):
                raise
            click.secho("nuncius: ", fg="red", bold=True, nl=False, err=True)
            click.echo(str(error), err=True)
            ctx.exit(1)
        except (KeyboardInterrupt, click.Abort):
            click.echo("\nstopped", err=True)
            ctx.exit(130)
        except BrokenPipeError:
            # The reader (`| head`) has gone: that is no error. Python must not flush into the broken pipe at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="nuncius", message="nuncius %(version)s")
def main() -> None:
    """Listen to astronomical alerts, keep them, and ask for them again.

    \b
    A first night, without any account:
      nuncius demo
    From a broker into an archive:
      nuncius stream kafka://HOST:PORT/TOPIC --archive night.db
    What is near a position:
      nuncius archive cone night.db ZTF_alerts 75.2 35.36 --radius 5arcsec
    The same of a server:
      nuncius archive cone kowalski+https://HOST ZTF_alerts 75.2 35.36

    Exit codes: 0 done, 1 an error that the message explains, 2 wrong usage, 130 stopped with Ctrl-C.
    NUNCIUS_TRACEBACK=1 shows where in the program an error was raised.
    """
