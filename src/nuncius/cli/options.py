"""Options that several commands have: how to connect to a broker."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuncius.brokers.subscriptions import is_subscription

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_NUMBERS = ("lease_s", "max_messages", "max_bytes")  # of Pub/Sub; librdkafka takes texts


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
        help="A setting of librdkafka, or lease_s, max_messages, max_bytes of Pub/Sub; may be repeated.",
    )
    return certificates(config(function))


def key_file_option(function: Callable[..., None]) -> Callable[..., None]:
    """Add ``--key-file``; the command gets `key_file`."""
    option = click.option(
        "--key-file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="For Google Pub/Sub: the key of a service account.  [default: GOOGLE_APPLICATION_CREDENTIALS, "
        "`nuncius login pittgoogle`, gcloud's login]",
    )
    return option(function)


def credentials_in(key_file: Path | None, urls: Sequence[str]) -> Any:
    """Return what `credentials=` is to be for these URLs; the key file is for those of Pub/Sub alone."""
    if key_file is None:
        return None
    schemes = [url.partition("://")[0] for url in urls if is_subscription(url)]
    if not schemes:
        raise click.UsageError("--key-file is for Google Pub/Sub: pubsub://… or pittgoogle://…")
    return key_file if len(urls) == 1 else dict.fromkeys(schemes, key_file)


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
        settings[name] = int(value) if name in _NUMBERS and value.isdecimal() else value
    return settings
