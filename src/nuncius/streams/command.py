"""Run a command for each alert; an alert counts as finished when its command has succeeded."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuncius.alerts import Alert
from nuncius.errors import ConfigurationError, StorageError
from nuncius.streams.files import as_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nuncius.alerts import Notice

_LONGEST_DELAY_S = 60.0
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}|\{(\w+)\}")
# Programs that take code as an argument: a stranger's text in it would be run.
_INTERPRETER = re.compile(
    r"(ba|da|z|k|mk|c|tc|fi|a|s|pw)?sh|(python|pypy)[\d.]*|perl|ruby|node(js)?|deno|bun|php|lua|julia|Rscript|[gm]?awk"
)
_CODE = re.compile(r"-\w*[cerEp]\w*|--(eval|print|exec|command|run)")
_TEXTS = frozenset({"survey", "alert_id", "object_id", "band", "topic"})

_VALUES: dict[str, Callable[[Alert | Notice], Any]] = {
    "survey": lambda item: item.survey,
    "alert_id": lambda item: item.alert_id,
    "object_id": lambda item: item.object_id,
    "ra": lambda item: item.ra,
    "dec": lambda item: item.dec,
    "mjd": lambda item: item.mjd,
    "mag": lambda item: item.mag if isinstance(item, Alert) else None,
    "band": lambda item: item.band if isinstance(item, Alert) else None,
    "score": lambda item: item.score if isinstance(item, Alert) else None,
    "topic": lambda item: item.origin.topic if item.origin else None,
}


class CommandSink:
    r"""Runs a program for each alert, one at a time, never through a shell.

    On its standard input the program finds the alert as one line of JSON. In its arguments ``{object_id}``,
    ``{alert_id}``, ``{survey}``, ``{ra}``, ``{dec}``, ``{mjd}``, ``{mag}``, ``{band}``, ``{score}`` and ``{topic}``
    stand for the alert's values (nothing where it has none) and ``{file}`` for a file with the packet as it came, which
    is gone afterwards; ``{{object_id}}`` stands for the words ``{object_id}`` themselves. What it prints goes to our
    standard error, and it has our environment.

    Exit code 0 is success. Otherwise the command is tried again, each time after twice the delay; when all attempts have
    failed, the batch counts as not finished, and all its alerts come again: a command may be run twice for one alert.

    Parameters
    ----------
    command : str or sequence of str
        The program and its arguments; a text is split as a shell would split it.
    attempts : int
        How often a command is tried.
    delay_s : float
        How long to wait before the second attempt.
    timeout_s : float
        How long one attempt may take; then it, and all that it has started, is killed.

    Raises
    ------
    ConfigurationError
        If the program is not found, a placeholder is not known, or the command would have an interpreter run an alert's
        values as code.

    Notes
    -----
    Values of alerts are written by strangers. A text that begins with a dash, where it would be an option, and characters
    that no argument may hold are passed as escapes (``\x2d``); standard input has them as they are.

    Examples
    --------
    >>> sink = CommandSink("notify-observer --object {object_id} --packet {file}")  # doctest: +SKIP
    """

    def __init__(
        self,
        command: str | Sequence[str],
        *,
        attempts: int = 3,
        delay_s: float = 1.0,
        timeout_s: float = 60.0,
    ) -> None:
        self.command = _split(command)
        if attempts < 1 or delay_s < 0 or timeout_s <= 0:
            raise ConfigurationError(
                f"attempts={attempts}, delay_s={delay_s}, timeout_s={timeout_s}: at least one attempt, and positive times"
            )
        self.attempts = attempts
        self.delay_s = delay_s
        self.timeout_s = timeout_s
        self._closed = threading.Event()
        _check(self.command)

    def write(self, items: Sequence[Alert | Notice]) -> None:
        """Run the command for each alert, in their order.

        Raises
        ------
        StorageError
            If it failed at each attempt.
        PacketError
            If a packet turns out to be damaged.
        """
        for item in items:
            text = (as_json(item) + "\n").encode()
            with _arguments(self.command, item) as arguments:
                self._try(arguments, text, item)

    def close(self) -> None:
        """Try no failed command again: a `write` that is going on ends after the attempt that is running."""
        self._closed.set()

    def _try(self, arguments: list[str], text: bytes, item: Alert | Notice) -> None:
        delay_s = self.delay_s
        for attempt in range(1, self.attempts + 1):
            problem = self._run(arguments, text)
            if problem is None:
                return
            if attempt == self.attempts or self._closed.wait(delay_s):
                break
            delay_s = min(2 * delay_s, _LONGEST_DELAY_S)
        raise StorageError(
            f"the command {self.command[0]} {problem} for {item.survey} alert {item.alert_id!r}, {attempt} times in "
            "sequence; what it said is on standard error. The alert was not acknowledged and comes again",
            service=self.command[0],
            position=item.origin.position if item.origin else None,
            attempts=attempt,
        )

    def _run(self, arguments: list[str], text: bytes) -> str | None:
        """Run the command once; return what went wrong."""
        try:
            # A session of its own: killing it reaches what it has started, and Ctrl-C is ours to handle.
            process = subprocess.Popen(  # noqa: S603 - the user's own command, and no shell
                arguments, stdin=subprocess.PIPE, stdout=2, start_new_session=True
            )
        except OSError as error:
            return f"can't be started ({error.strerror})"
        try:
            process.communicate(text, timeout=self.timeout_s)
        except subprocess.TimeoutExpired:
            return f"took longer than {self.timeout_s:g} s"
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        code = process.returncode
        if code < 0:
            return f"was killed by signal {-code}"
        return f"failed with exit code {code}" if code else None


def _split(command: str | Sequence[str]) -> list[str]:
    if not isinstance(command, str):
        return [str(part) for part in command]
    try:
        return shlex.split(command)
    except ValueError as error:
        raise ConfigurationError(f"the command {command!r} can't be split into words: {error}") from error


def _check(command: Sequence[str]) -> None:
    """Refuse a command that can't work, or would run what strangers write."""
    if not command or _PLACEHOLDER.search(command[0]):
        raise ConfigurationError(
            f"the command {shlex.join(command)!r} doesn't begin with the name of a program"
        )
    if shutil.which(command[0]) is None:
        raise ConfigurationError(f"there is no program {command[0]!r}; give its path, or look at PATH")
    interpreter, is_first = "", True
    for before, part in zip(("", *command), command, strict=False):
        names = {match[2] for match in _PLACEHOLDER.finditer(part) if match[2]}
        unknown = names - _VALUES.keys() - {"file"}
        if unknown:
            name = min(unknown)
            raise ConfigurationError(
                f"{{{name}}} in the command is not known; known are {', '.join(f'{{{known}}}' for known in _VALUES)} and "
                f"{{file}}. For the words themselves write {{{{{name}}}}}"
            )
        texts = names & _TEXTS
        # Its options and the first argument behind them are code or the name of a script; what follows ssh is a line for
        # the shell on the other side.
        is_code = is_first or _CODE.fullmatch(before) or Path(interpreter).name == "ssh"
        if texts and interpreter and is_code:
            raise ConfigurationError(
                f"{interpreter} would run {part!r} as code, and alerts are written by strangers. Give the value to a program "
                f"of yours as an argument, or have it read standard input: sh -c 'echo \"$1\"' sh {{{min(texts)}}}"
            )
        is_first = is_first and (not interpreter or part.startswith("-"))
        if _INTERPRETER.fullmatch(Path(part).name):
            interpreter = part


@contextlib.contextmanager
def _arguments(command: Sequence[str], item: Alert | Notice) -> Iterator[list[str]]:
    """Give the command for one alert; its file is there as long as the ``with`` block lasts."""
    if not any(match[2] == "file" for part in command for match in _PLACEHOLDER.finditer(part)):
        yield [_filled(part, item, "") for part in command]
        return
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="nuncius-"))
            path = Path(folder) / "alert.packet"
            path.write_bytes(item.raw)
        except OSError as error:
            raise StorageError(
                f"the file for the command can't be written: {error.strerror}; the alert was not acknowledged",
                position=tempfile.gettempdir(),
            ) from error
        yield [_filled(part, item, str(path)) for part in command]


def _filled(part: str, item: Alert | Notice, path: str) -> str:
    filled, end = "", 0
    for match in _PLACEHOLDER.finditer(part):
        filled += part[end : match.start()]
        end = match.end()
        if match[1]:
            filled += f"{{{match[1]}}}"
        elif match[2] == "file":
            filled += path
        else:
            filled += _safe(_VALUES[match[2]](item), is_first=not filled)
    return filled + part[end:]


def _safe(value: Any, *, is_first: bool) -> str:
    """Write a value so that no program can take it for an option, and every system takes it as an argument."""
    if value is None:
        return ""
    text = str(value)
    if not isinstance(value, str):
        return text
    text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return f"\\x2d{text[1:]}" if is_first and text.startswith("-") else text
