"""The real dserver in a process of its own, what it and the sandbox are filled with, and questions to them."""

import asyncio
import hashlib
import json
import queue
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2

import nuncius
from nuncius import aio

HERE = Path(__file__).resolve().parent
ANSWER_S = 90

NIGHT = "s3://night"
ODD = "s3://odd place+ü"
FILES = "file://observatory/data/one night+ü"
BULK = "s3://bulk"
CLOSED = "s3://closed"
SEARCHED = {NIGHT: ["observer"], ODD: ["observer"], FILES: ["observer"], BULK: ["walker"], CLOSED: []}
MANY = 300


def uuid_of(number):
    """Return a UUID of version 4; the graph has no others."""
    return f"00000000-0000-4000-8000-{number:012d}"


@dataclass(frozen=True)
class Known:
    """A data set that both servers have."""

    key: str
    name: str
    uuid: str
    base_uri: str = NIGHT
    readme: str = ""
    items: dict[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    annotations: dict[str, Any] = field(default_factory=dict)
    creator_username: str = "carol"
    created_at: float = 1604860720.736269
    frozen_at: float = 1604921621.719575
    by_put: bool = False

    @property
    def described(self):
        """Return what it is made from."""
        return {name: value for name, value in vars(self).items() if name != "key"}

    @property
    def items_by_id(self):
        """Return its items as manifests have them, without their times."""
        return {
            hashlib.sha1(relpath.encode()).hexdigest(): {
                "hash": hashlib.md5(text.encode()).hexdigest(),
                "relpath": relpath,
                "size_in_bytes": len(text.encode()),
            }
            for relpath, text in self.items.items()
        }

    def row(self, uri):
        """Return its row in answers that come from the SQL tables."""
        names = ("base_uri", "created_at", "creator_username", "frozen_at", "name", "uuid")
        sizes = [item["size_in_bytes"] for item in self.items_by_id.values()]
        row = {name: getattr(self, name) for name in names} | {"uri": uri}
        return row | {"number_of_items": len(sizes), "size_in_bytes": sum(sizes)}

    def found(self, uri):
        """Return its row in answers that come from MongoDB, whose times have milliseconds."""
        times = {name: int(getattr(self, name) * 1000) / 1000 for name in ("created_at", "frozen_at")}
        return self.row(uri) | times

    def queried(self, uri):
        """Return its row in answers to queries, which have more."""
        row = self.found(uri) | {"tags": list(self.tags), "type": "dataset"}
        return row if self.by_put else row | {"dtoolcore_version": "3.19.0"}


_README = """\
project: Transients of the southern winter
description: Light curve of a nova, zero points included
observed: 2020-11-08
site: Königstuhl
owners:
  - name: Carol Herschel
    username: carol
"""
_TYPED = {"band": "g", "visits": 3, "nested": {"a": [1, 2]}, "nothing": None, "good": True, "seeing": 1.5}

DATA = {
    known.key: known
    for known in (
        Known(
            "nova",
            "nova_2020",
            uuid_of(1),
            readme=_README,
            items={"spectra/first light+ü.fits": "SIMPLE", "notes.txt": "grün"},
            tags=("nova", "southern"),
            annotations=_TYPED,
        ),
        Known("words", "no_yaml", uuid_of(2), readme="seeing: [1.2\n\t- cloudy: {", tags=("nova",)),
        Known("empty", "no_readme", uuid_of(3), creator_username="dave"),
        Known("raw", "raw_frames", uuid_of(4), readme="level: 0\n", items={"raw.fits": "x" * 13}),
        Known("reduced", "reduced_frames", uuid_of(5), readme=f"derived_from:\n  - uuid: {uuid_of(4)}\n"),
        Known("stacked", "stacked_frames", uuid_of(6), annotations={"source_dataset_uuid": uuid_of(5)}),
        Known("twin", "twin_frames", uuid_of(7), readme="where: here\n", items={"t.fits": "1"}),
        Known(
            "other twin",
            "twin_frames",
            uuid_of(7),
            base_uri=ODD,
            readme="where: there\n",
            items={"t.fits": "1"},
        ),
        Known(
            "arrived",
            "arrived_by_put",
            uuid_of(8),
            readme=f"derived_from:\n  - uuid: {uuid_of(4)}\n",
            items={"a.fits": "12"},
            tags=("arrived",),
            annotations={"visits": 3},
            by_put=True,
        ),
        Known(
            "wide",
            "two_hundred_items",
            uuid_of(9),
            items={f"exposure/{n:03d}.fits": str(n) for n in range(200)},
        ),
        Known("odd", "at_an_odd_place", uuid_of(10), base_uri=ODD, readme="ok: true\n", tags=("odd-place",)),
        Known("file", "on_a_disk", uuid_of(11), base_uri=FILES, readme="ok: true\n", items={"f.fits": "123"}),
        Known("closed", "for_nobody", uuid_of(12), base_uri=CLOSED, readme="ok: true\n"),
    )
}
SEEN = [key for key, known in DATA.items() if "observer" in SEARCHED[known.base_uri]]


def fill(server, ask):
    """Register users, base URIs and data sets; return the URI of each data set."""
    for name in ("observer", "walker"):
        answer = ask("PUT", f"/users/{name}", "admin", json={"is_admin": False})
        assert answer.status_code == 201, answer.text
    for base_uri, users in SEARCHED.items():
        lists = {"users_with_search_permissions": users, "users_with_register_permissions": users}
        assert ask("PUT", f"/base-uris/{path_of(base_uri)}", "admin", json=lists).status_code == 201
    changes = [
        {
            "name": f"bulk_{number % 7}",
            "uuid": uuid_of(1000 + number),
            "tags": ["even"] if number % 2 == 0 else [],
            "frozen_at": 1.6e9 + number % 11,
        }
        for number in range(MANY)
    ]
    server.add_copies({"name": "bulk", "base_uri": BULK, "created_at": 1.6e9}, changes)
    return {key: server.add(**known.described) for key, known in DATA.items()}


def path_of(uri):
    """Return a URI as it stands in a path, in the form that every proxy lets through."""
    return quote(uri.replace("://", "/", 1), safe="/")


# Questions --------------------------------------------------------------------------------------------------------------


class Questions:
    """Sends requests as they are, each as somebody: the name of a user, a kind of token, or None for nobody at all."""

    def __init__(self, server):
        self._server = server
        self._client = httpx2.Client(base_url=server.url, timeout=60)
        self._tokens = dict(server.tokens)

    def token(self, who):
        """Return somebody's token."""
        if who not in self._tokens:
            self._tokens[who] = self._server.make_token(who)
        return self._tokens[who]

    def __call__(self, method, path, who="observer", *, headers=None, **options):
        login = {} if who is None else {"Authorization": f"Bearer {self.token(who)}"}
        return self._client.request(method, path, headers=login | (headers or {}), **options)

    def close(self):
        self._client.close()


def page(answer):
    """Return what the header tells of the pages, None without it."""
    text = answer.headers.get("X-Pagination")
    return None if text is None else json.loads(text)


def order(answer):
    """Return what the header tells of the order, None without it."""
    text = answer.headers.get("X-Sort")
    return None if text is None else json.loads(text)["sort"]


def by_uri(rows):
    """Return rows in the order of their URIs."""
    return sorted(rows, key=lambda row: row["uri"])


def refusal(code):
    """Return the body of an error."""
    words = {
        400: "Bad Request",
        401: "Unauthorized",
        403: "Forbidden",
        404: "Not Found",
        405: "Method Not Allowed",
    }
    words |= {422: "Unprocessable Entity", 500: "Internal Server Error"}
    return {"code": code, "status": words[code]}


def invalid(where, **messages):
    """Return the body of an error of fields."""
    return refusal(422) | {"errors": {where: messages}}


# The real server --------------------------------------------------------------------------------------------------------


class RealServer:
    """The real server in its own interpreter, with the names that the sandbox's has."""

    def __init__(self, python, *options):
        self._program = subprocess.Popen(
            [python, str(HERE / "real_server.py"), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._said, self._complaints = queue.Queue(), []
        listen = ((self._program.stdout, self._said.put), (self._program.stderr, self._complaints.append))
        self._listening = [threading.Thread(target=self._listen, args=each, daemon=True) for each in listen]
        for thread in self._listening:
            thread.start()
        self._lock = threading.Lock()
        ready = self._line()
        self.url, self.token_url = ready["url"], ready["token_url"]
        self.username, self.password, self.token = ready["username"], ready["password"], ready["token"]
        self.public_key, self.tokens = ready["public_key"], ready["tokens"]

    @staticmethod
    def _listen(stream, note):
        for line in stream:
            note(line)
        note("")

    def _line(self):
        try:
            line = self._said.get(timeout=ANSWER_S)
        except queue.Empty:
            line = ""
        assert line, f"the real server says nothing:\n{''.join(self._complaints)[-3000:]}"
        said = json.loads(line)
        assert "error" not in said, f"{said}\n{''.join(self._complaints)[-3000:]}"
        return said

    def _order(self, do, **what):
        with self._lock:
            self._program.stdin.write(json.dumps({"do": do} | what) + "\n")
            self._program.stdin.flush()
            return self._line()

    @property
    def admin_token(self):
        return self.tokens["admin"]

    @property
    def requests(self):
        """Return (method, path, status, port of the client) of all requests that were answered."""
        return [tuple(request) for request in self._order("requests")["requests"]]

    def make_token(self, username, lifetime_s=900):
        return self._order("make_token", username=username, lifetime_s=lifetime_s)["token"]

    def add(self, name, **described):
        return self._order("add", name=name, **described)["uri"]

    def add_copies(self, of, changes):
        self._order("add_copies", of=of, changes=changes)

    def set(self, **values):
        """Set switches: delay_s, token_life_s, allow_aggregation, allow_direct_query, dynamic_dependency_keys, authenticate."""
        self._order("set", **values)

    def close(self):
        self._program.stdin.close()
        self._program.wait(20)
        for thread in self._listening:
            thread.join(20)
        self._program.stdout.close()
        self._program.stderr.close()


class SandboxServer:
    """The sandbox's, with what the questions need of it."""

    def __init__(self, dserver):
        self.dserver = dserver
        for name in ("url", "token_url", "username", "password", "token", "public_key", "admin_token"):
            setattr(self, name, getattr(dserver, name))
        self.tokens = dict(dserver.tokens)
        self.make_token = dserver.make_token

    @property
    def requests(self):
        return [(one.method, one.path, one.status, one.port) for one in self.dserver.requests]

    def add(self, name, *, items=None, **described):
        contents = {relpath: text.encode() for relpath, text in (items or {}).items()}
        return self.dserver.add(name, items=contents, **described)

    def add_copies(self, of, changes):
        for change in changes:
            self.add(**(of | change))

    def set(self, *, delay_s=None, **values):
        if delay_s is not None:
            self.dserver.clear_faults()
            self.dserver.delay(delay_s, times=100_000 if delay_s else 1)
        for name, value in values.items():
            assert hasattr(self.dserver, name), name
            setattr(self.dserver, name, value)


# Our client ------------------------------------------------------------------------------------------------------------


class Sync:
    """The sync client."""

    @staticmethod
    def open(*where, **options):
        return nuncius.open_dserver(*where, **options)

    @staticmethod
    def run(value):
        return value

    @staticmethod
    def collect(iterator):
        return list(iterator)

    def end(self):
        pass


class Async:
    """The async client, on a loop of its own."""

    def __init__(self):
        self._runner = asyncio.Runner()
        self.run = self._runner.run

    def open(self, *where, **options):
        async def opened():
            return aio.open_dserver(*where, **options)

        return self.run(opened())

    def collect(self, iterator):
        async def collected():
            return [each async for each in iterator]

        return self.run(collected())

    def end(self):
        self._runner.close()
