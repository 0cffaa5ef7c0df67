"""Kowalski's HTTP interface on an embedded archive, so that its clients can ask a file on this machine.

The shapes and messages are Kowalski's; the permissions are not: everything is read-only, every route but the login
wants a token, and every request has limits (docs/howto/serve.md). `nuncius serve` runs it.
"""

from __future__ import annotations

from nuncius.archives.server.accounts import Account, Accounts
from nuncius.archives.server.limits import Limits

__all__ = ["Account", "Accounts", "Limits"]
