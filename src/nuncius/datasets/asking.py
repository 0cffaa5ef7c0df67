"""Asking the person before the screen for a name and a password."""

from __future__ import annotations

import getpass
import sys

from nuncius.credentials import Credentials
from nuncius.errors import LoginError


def somebody_is_there() -> bool:
    """Tell whether a person can be asked: at a terminal, or in a notebook that is not run by a program."""
    if _notebook_asks():
        return True
    try:
        return sys.stdin is not None and sys.stdin.isatty()
    except ValueError:  # it is closed
        return False


def ask(url: str, username: str | None) -> Credentials:
    """Ask for the user name, unless it is known, and for the password.

    Raises
    ------
    LoginError
        If nobody answers.
    """
    try:
        name = username or ask_line(f"Authentication URL {url} username:")
        password = getpass.getpass(f"Authentication URL {url} password:")
    except EOFError as error:
        raise LoginError(f"{url} wants a user name and a password, and nobody typed them", url=url) from error
    if not name or not password:
        raise LoginError(f"{url} wants a user name and a password, and one of them is empty", url=url)
    return Credentials(name, password, source="what was typed")


def ask_line(prompt: str) -> str:
    """Ask for a line, where it is seen also if standard output goes into a file."""
    if not _notebook_asks() and not sys.stdout.isatty():
        print(prompt, end="", file=sys.stderr, flush=True)  # noqa: T201 - a person is asked
        prompt = ""
    return input(prompt).strip()


def _notebook_asks() -> bool:
    """Tell whether a notebook's kernel runs us and passes questions on to a person."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return bool(getattr(getattr(shell, "kernel", None), "_allow_stdin", False))
