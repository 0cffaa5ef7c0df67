"""A conversation with an archive over HTTP: where its login is looked for, and how its answers are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nuncius._core.operations import Call
from nuncius._session import Session, base_url
from nuncius.archives.extended_json import from_json
from nuncius.credentials import find_credentials, find_token
from nuncius.errors import LoginError

if TYPE_CHECKING:
    from nuncius._core.operations import Deadline, Operation, Response
    from nuncius.credentials import Credentials, CredentialsLike, Token

LARGEST_TIME_MS = 300_000  # the servers' own limit for one question
_LARGE_BODY = 1 << 18


class ArchiveSession(Session):
    """What the conversations with archives that want a login have in common.

    Parameters
    ----------
    url : str
        Where the server is; ``kowalski+https://host:443`` or ``https://host:443``.
    credentials, token : optional
        The login; see `nuncius.credentials`.
    timeout_s : float
        For one request.

    Raises
    ------
    ConfigurationError
        If the URL is none, or has a password in it.
    """

    example: str  # how a URL of this service looks

    def __init__(
        self,
        url: str,
        *,
        credentials: CredentialsLike = None,
        token: str | Token | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        base = base_url(url, self.service, self.example)
        host = urlsplit(base).hostname
        named = credentials is not None and token is None  # who names a login means that one
        super().__init__(
            base,
            credentials=find_credentials(self.service, credentials, host=host),
            token=None if named else find_token(self.service, token, host=host),
            timeout_s=timeout_s,
        )

    def login(self) -> Credentials:
        """Return the user name and password.

        Raises
        ------
        LoginError
            If there is none.
        """
        if self.credentials is None:
            prefix = f"NUNCIUS_{self.service.upper()}"
            raise LoginError(
                f"{self.base} asks for a login, and none was found. Give credentials=(username, password) or token=, or "
                f"set {prefix}_USERNAME and {prefix}_PASSWORD, or {prefix}_TOKEN",
                service=self.service,
                url=self.base,
            )
        return self.credentials

    def patience_ms(self, deadline: Deadline) -> int:
        """Return the same for the server, which need not go on with what nobody waits for."""
        return max(1, min(LARGEST_TIME_MS, int(self.patience_s(deadline) * 1000)))


def parsed(response: Response) -> Any:
    """Read an answer; None if it is no JSON: a proxy's page, or a refusal in plain text."""
    try:
        return from_json(response.body)
    except ValueError:
        return None


def read(response: Response) -> Operation[Any]:
    """Do as `parsed`; a large answer is read where it doesn't hold up an event loop."""
    if len(response.body) <= _LARGE_BODY:
        return parsed(response)
    return (yield Call(parsed, (response,)))
