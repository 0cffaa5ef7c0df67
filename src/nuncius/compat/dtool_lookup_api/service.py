"""The conversation with a dserver, with the logins that somebody has typed for this program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuncius._core.operations import Request
from nuncius._core.retry import send
from nuncius.compat.dtool_lookup_api.core.config import Config
from nuncius.compat.dtool_lookup_api.errors import not_logged_in
from nuncius.credentials import Token
from nuncius.datasets.service import DServerService
from nuncius.errors import LoginError, ServerError

if TYPE_CHECKING:
    from nuncius._core.operations import Deadline, Operation, Response
    from nuncius.credentials import Credentials
    from nuncius.datasets.configuration import Settings


class LookupService(DServerService):
    """One dserver, as operations.

    Parameters
    ----------
    settings : Settings
        Where it is, and who we are there.
    interactive : bool
        Whether a person may be asked, if `Config` says so too.
    """

    def __init__(self, settings: Settings, *, interactive: bool = True) -> None:
        self._login = settings.credentials
        super().__init__(settings, interactive=interactive)

    # `Config` is looked at each time: it may be changed at any time.

    @property
    def interactive(self) -> bool:
        """Whether a person may be asked."""
        return self._may_ask and Config.interactive

    @interactive.setter
    def interactive(self, value: bool) -> None:
        self._may_ask = value

    @property
    def credentials(self) -> Credentials | None:
        """The login: the one of the settings, or what was typed."""
        return self._login or Config.typed(self.settings.token_url)

    @credentials.setter
    def credentials(self, value: Credentials | None) -> None:
        if value is not None and value is not self._login and self.settings.token_url is not None:
            Config.remember(self.settings.token_url, value)

    @property
    def known_token(self) -> str | None:
        """The token that is used now."""
        return None if self._token is None else self._token.reveal()

    def use_token(self, value: str | None) -> None:
        """Use a token from now on, or none.

        Raises
        ------
        ConfigurationError
            If it can't be sent.
        """
        if value:
            self.keep_token(Token(value))
        else:
            self._token = None

    def log_in(self, deadline: Deadline) -> Operation[Token]:
        """Get a token for the user name and password.

        Raises
        ------
        LookupLoginError, LookupTokenServerError
            If there is none; both are a RuntimeError.
        """
        try:
            return (yield from super().log_in(deadline))
        except (LoginError, ServerError) as error:
            raise not_logged_in(error) from error

    def has_valid_token(self, deadline: Deadline) -> Operation[bool]:
        """Tell whether there is a token and the server takes it; it is not renewed."""
        if self._token is None:
            return False
        headers = {"Authorization": f"Bearer {self._token.reveal()}"}
        request = Request("GET", f"{self.base}/config/info", headers, timeout_s=self.timeout_s)
        response: Response = yield from send(request, deadline, reads=True)
        if response.status not in {200, 401, 422}:
            raise self.failure(response, "an answer about the token")
        return response.status == 200
