"""Options that several commands have: how to connect to a broker."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable


def connection_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add ``--ssl-ca-location`` and ``--config``; the command gets `ssl_ca_location` and `config`."""
    certificates = click.option(
        "--ssl-ca-location",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Certificates that the broker is verified with.  [default: the system's]",
    )
    config = click.option(
        "--config",
        multiple=True,
        metavar="KEY=VALUE",
        callback=_settings,
        help="A setting of librdkafka; may be repeated.",
    )
    return certificates(config(function))


def _settings(_context: click.Context, _parameter: click.Parameter, pairs: tuple[str, ...]) -> dict[str, Any]:
    """Read ``--config KEY=VALUE``, but for secrets."""
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            # What lacks its name may be the secret itself.
            raise click.BadParameter("each is KEY=VALUE", param_hint="--config")
        if re.search(r"password|passphrase|secret|token|\bkey\.pem", name.lower()) and not name.endswith(
            ".url"
        ):
            raise click.BadParameter(
                f"{name} would be seen by everybody on this machine in the list of processes; run `nuncius login "
                "BROKER`, or set NUNCIUS_KAFKA_USERNAME and NUNCIUS_KAFKA_PASSWORD",
                param_hint="--config",
            )
        settings[name] = value
    return settings
