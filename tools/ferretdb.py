"""FerretDB on loopback: a server that speaks MongoDB's wire protocol and keeps its data in SQLite; for the peer tests.

MongoDB's own server is on no package index. FerretDB's last release with an SQLite back end is, as a Go module, so it
is fetched through Go's module proxy and built here (Apache-2.0; about a minute, 40 MB). Run as a program it builds the
server, starts it, prints its URL and ends when standard input closes::

    python tools/ferretdb.py FOLDER
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

MODULE = "github.com/FerretDB/FerretDB"
VERSION = "v1.24.0"
CHECKSUM = "h1:7WJmezL48Bj9bYWnhT/bEJgX5gjT5s7LFdHTqkN25rA="  # as Go writes it: of all files of the module


def build(folder: str | Path) -> Path:
    """Build the server, unless the folder has it from before.

    Parameters
    ----------
    folder : str or path
        Where the program, and for the time of the build its source, are put.

    Returns
    -------
    path
        The program.

    Raises
    ------
    RuntimeError
        If Go is not installed, the module can't be had, is another than expected, or does not build.
    """
    folder = Path(folder).absolute()
    program = folder / f"ferretdb-{VERSION}"
    if program.exists():
        return program
    if shutil.which("go") is None:
        message = "Go is not installed: FerretDB is built from its source, which needs Go 1.22 or later"
        raise RuntimeError(message)
    folder.mkdir(parents=True, exist_ok=True)
    # Outside of any module, and not through `go install`, which asks for all versions first.
    module = json.loads(_go("mod", "download", "-json", f"{MODULE}@{VERSION}", cwd=folder, GOWORK="off"))
    if module["Sum"] != CHECKSUM:
        message = f"{MODULE}@{VERSION} has the checksum {module['Sum']}, expected {CHECKSUM}"
        raise RuntimeError(message)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        # The server refuses to start without this file, which a module's archive has not; Go's cache is read-only.
        source = Path(temporary) / "source"
        shutil.copytree(module["Dir"], source, copy_function=shutil.copyfile)
        for path in (source, *source.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        (source / "build" / "version" / "version.txt").write_text(VERSION, encoding="utf-8")
        made = Path(temporary) / "ferretdb"
        options = ("-trimpath", "-buildvcs=false", "-tags", "ferretdb_no_postgresql")
        _go("build", *options, "-o", str(made), "./cmd/ferretdb", cwd=source)
        made.replace(program)  # at once: a build that was broken off leaves nothing behind
    return program


class FerretDB:
    """A running server, with its data in a temporary folder.

    Parameters
    ----------
    program : path
        What `build` returned.
    username, password : str, optional
        The one account, which then every client needs (SCRAM). Without them nobody needs any.

    Attributes
    ----------
    url : str
        Where it is, ``mongodb://127.0.0.1:PORT``.
    """

    def __init__(self, program: Path, *, username: str | None = None, password: str | None = None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ferretdb-"))
        self._credentials = {"username": username, "password": password} if username else {}
        self.port = _free_port()
        self.url = f"mongodb://127.0.0.1:{self.port}"
        (self._folder / "data").mkdir()
        self._command = [
            str(program),
            "--handler=sqlite",
            f"--sqlite-url=file:{self._folder / 'data'}/",
            f"--state-dir={self._folder}",
            f"--listen-addr=127.0.0.1:{self.port}",
            "--debug-addr=-",
            "--log-level=ERROR",
            "--telemetry=disable",
        ]
        self._environment = {name: value for name, value in os.environ.items() if "FERRETDB" not in name}
        if username and password:
            self._command.append("--test-enable-new-auth")
            # Not among the arguments, which every user of the machine may read.
            self._environment |= {
                "FERRETDB_SETUP_USERNAME": username,
                "FERRETDB_SETUP_PASSWORD": password,
                "FERRETDB_SETUP_DATABASE": "admin",
            }
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def client(self, **options: Any) -> Any:
        """Make a `pymongo.MongoClient` of it."""
        import pymongo

        return pymongo.MongoClient(self.url, **{**self._credentials, **options})

    def start(self) -> None:
        """Start it, on the port and with the data that it had, and wait until it answers."""
        from pymongo.errors import PyMongoError

        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, cwd=self._folder, env=self._environment
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                with self.client(serverSelectionTimeoutMS=500) as client:
                    client.admin.command("ping")
            except PyMongoError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    said = (self._folder / "log").read_text(encoding="utf-8", errors="replace")[-1000:]
                    message = f"FerretDB does not answer: {error}\n{said}"
                    raise RuntimeError(message) from error
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        """End it at once; `start` brings it back with its data."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def close(self) -> None:
        """End it and remove its data."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _go(*arguments: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        ["go", *arguments], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )  # fmt: skip
    if done.returncode:
        message = f"`go {' '.join(arguments)}` failed: {(done.stderr or done.stdout).strip()[-1000:]}"
        raise RuntimeError(message)
    return done.stdout


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    """Build, start, print the URL, wait."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="where the program is built")
    with FerretDB(build(parser.parse_args().folder)) as server:
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
