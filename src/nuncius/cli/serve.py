"""``nuncius serve``: answer Kowalski's HTTP interface on an archive."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import click

from nuncius.archives import open_archive


@click.command("serve")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--port", type=click.IntRange(0, 65535), default=4000, show_default=True, help="The port.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--accounts",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The accounts file; FILE.accounts.db by default.",
)
@click.option(
    "--catalog", "catalogs", multiple=True, metavar="NAME", help="Open only this catalog; repeatable."
)
@click.option(
    "--certificate", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="For TLS: a PEM file."
)
@click.option(
    "--key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The certificate's key."
)
@click.option(
    "--behind-proxy",
    "proxy",
    is_flag=False,
    flag_value="127.0.0.1",
    metavar="[ADDRESS]",
    help="A proxy with TLS stands before the server; its address (127.0.0.1) is believed who the clients are.",
)
@click.option(
    "--max-seconds", type=click.FloatRange(min=1), default=300.0, show_default=True, help="The longest query."
)
@click.option(
    "--max-rows",
    type=click.IntRange(min=1),
    default=200_000,
    show_default=True,
    help="The most documents of an answer.",
)
@click.option(
    "--max-memory",
    type=click.IntRange(min=100),
    default=900,
    show_default=True,
    metavar="MB",
    help="What the server may hold before queries that need more are refused (on Linux).",
)
@click.option(
    "--token-days",
    type=click.FloatRange(min=0.01),
    default=30.0,
    show_default=True,
    help="How long a token is good.",
)
@click.option("--quiet", is_flag=True, help="Don't print a line for each request.")
def command(
    file: Path,
    port: int,
    host: str,
    accounts: Path | None,
    catalogs: tuple[str, ...],
    certificate: Path | None,
    key: Path | None,
    proxy: str | None,
    max_seconds: float,
    max_rows: int,
    max_memory: int,
    token_days: float,
    quiet: bool,
) -> None:
    """Answer Kowalski's HTTP interface on an archive, read-only, until Ctrl-C.

    Everybody who asks needs an account: see `nuncius users`.

    \b
    Examples:
      nuncius users add vera --archive night.db
      nuncius serve night.db
      nuncius serve night.db --host 0.0.0.0 --certificate cert.pem --key key.pem --catalog ZTF_alerts
    """
    from nuncius.archives.server.accounts import Accounts, accounts_path
    from nuncius.archives.server.limits import Limits
    from nuncius.archives.server.run import server_for

    limits = Limits(query_s=max_seconds, rows=max_rows, memory_bytes=max_memory * 1_000_000)
    with (
        open_archive(file, read_only=True) as archive,
        Accounts(accounts or accounts_path(file)) as known,
    ):
        server = server_for(
            archive,
            known,
            host=host,
            port=port,
            catalogs=catalogs,
            certificate=certificate,
            key=key,
            proxy=proxy,
            limits=limits,
            token_days=token_days,
        )
        logging.basicConfig(
            level=logging.WARNING if quiet else logging.INFO, format="%(asctime)s %(message)s"
        )
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        scheme = "https" if certificate else "http"
        click.echo(f"serving {file} at {scheme}://{host}:{port}; stop with Ctrl-C", err=True)
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again when it has stopped
            server.run()
