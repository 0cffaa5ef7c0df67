"""The real dserver with its real plugins on loopback, in an environment of its own (requirements.txt).

It prints one line of JSON when it is ready (`url`, `token_url`, `username`, `password`, `public_key`, `tokens`), takes orders as
lines of JSON on its standard input, answers each with a line, and ends when that input does::

    {"do": "add", "name": ..., "base_uri": ..., ...}     a real dtool data set, registered -> {"uri": ..., "uuid": ...}
    {"do": "add_copies", "of": {...}, "changes": [{"uuid": ..., ...}, ...]}     -> {"added": [...]}
    {"do": "make_token", "username": ..., "lifetime_s": 900 or null}            -> {"token": ...}
    {"do": "set", "delay_s": ..., "token_life_s": ..., "allow_aggregation": ...}  -> {}
    {"do": "requests"}                                     -> {"requests": [[method, path, status, port of the client], ...]}
"""

import argparse
import importlib
import importlib.metadata
import json
import os
import sys
import tempfile
import threading
import time
import traceback
import uuid as uuids
from datetime import timedelta
from pathlib import Path

USERNAME, PASSWORD = "testuser", "clear-skies"
PUBLIC = "s3://dserver-public"
PRIVATE = "s3://dserver-private"
SWITCHES = {
    "allow_aggregation": ("dserver_direct_mongo_plugin", "ALLOW_DIRECT_AGGREGATION"),
    "allow_direct_query": ("dserver_direct_mongo_plugin", "ALLOW_DIRECT_QUERY"),
    "dynamic_dependency_keys": ("dserver_dependency_graph_plugin", "DYNAMIC_DEPENDENCY_KEYS"),
}


# What stands before the server is imported ------------------------------------------------------------------------------


def prepare(folder, options):
    """Set what the server reads at its import: keys, databases, switches; leave plugins out."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "private.pem").write_bytes(private)
    (folder / "public.pem").write_bytes(public)
    for name in [
        name for name in os.environ if name.startswith(("DSERVER_", "JWT_", "DTOOL_", "SEARCH_", "RETRIEVE_"))
    ]:
        del os.environ[name]
    os.environ |= {
        "HOME": str(folder),  # where dtool would look for its settings
        "SECRET_KEY": "of-a-test",
        "SQLALCHEMY_DATABASE_URI": f"sqlite:///{folder / 'sql.db'}",
        "JWT_PRIVATE_KEY_FILE": str(folder / "private.pem"),
        "JWT_PUBLIC_KEY_FILE": str(folder / "public.pem"),
        "SEARCH_MONGO_COLLECTION": "searched",
        "RETRIEVE_MONGO_COLLECTION": "retrieved",
        "DSERVER_MONGO_COLLECTION": "direct",
        "DEFAULT_USER": USERNAME,
    }
    if options.no_authentication:
        os.environ["DISABLE_JWT_AUTHORISATION"] = "1"
    leave_out(options.without)
    return public.decode()


def leave_out(plugins):
    """Let what these modules offer not be found, as if they were not installed."""
    there = importlib.metadata.entry_points()
    every = (point for group in there.groups for point in there.select(group=group))
    kept = importlib.metadata.EntryPoints(
        point for point in every if point.value.partition(":")[0].partition(".")[0] not in plugins
    )
    importlib.metadata.entry_points = kept.select


# The server -------------------------------------------------------------------------------------------------------------


class Generator:
    """What makes tokens for who knows the password; a stand-in for the service that asks an LDAP directory."""

    def __init__(self, make_token, public_key):
        self._make_token, self._public_key = make_token, public_key
        self.life_s = 900.0

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] == "/public_key":
            return _answer(start_response, "200 OK", self._public_key.encode(), "text/plain")
        if environ["REQUEST_METHOD"] != "POST":
            return _answer(start_response, "405 METHOD NOT ALLOWED", b"", "text/html")
        try:
            asked = json.loads(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
            given = asked["username"], asked["password"]
        except (ValueError, TypeError, KeyError):
            return _answer(start_response, "400 BAD REQUEST", b"", "text/html")
        said = {"status": "fail"}
        if given == (USERNAME, PASSWORD):
            said = {"status": "success", "token": self._make_token(USERNAME, self.life_s)}
        return _answer(start_response, "200 OK", json.dumps(said).encode(), "application/json")


def _answer(start_response, status, body, kind):
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]


class Door:
    """What each request comes through: a log, a delay, and the way to the server or the generator of tokens."""

    def __init__(self, app, generator, delay_s):
        self._app, self._generator = app, generator
        self.delay_s = delay_s
        self.requests = []

    def __call__(self, environ, start_response):
        def start(status, *rest):
            path = environ.get("REQUEST_URI", environ["PATH_INFO"])
            entry = [environ["REQUEST_METHOD"], path, int(status[:3]), int(environ["REMOTE_PORT"])]
            self.requests.append(entry)
            return start_response(status, *rest)

        time.sleep(self.delay_s)
        of_tokens = environ["PATH_INFO"] in ("/token", "/public_key")
        return (self._generator if of_tokens else self._app)(environ, start)


class Real:
    """The application, and what the orders do to it."""

    def __init__(self, folder, public_key, options):
        import dservercore
        import sqlalchemy
        from dservercore.utils import register_users

        # Nothing of it outlives the program: the disk needn't have it.
        sqlalchemy.event.listen(
            sqlalchemy.engine.Engine,
            "connect",
            lambda connection, _: connection.execute("PRAGMA synchronous=OFF"),
        )
        self._folder = folder
        self.app = dservercore.create_app()
        with self.app.app_context():
            dservercore.sql_db.create_all()
            register_users(
                [
                    {"username": name, "is_admin": name == "admin"}
                    for name in ("admin", USERNAME, "reader", "nobody")
                ]
            )
        self._base_uri(PUBLIC, ["admin", USERNAME, "reader"])
        self._base_uri(PRIVATE, ["admin", USERNAME])
        self.generator = Generator(self.token, public_key)
        self.generator.life_s = options.token_life
        self.door = Door(self.app, self.generator, options.delay)
        if options.aggregation:
            self.set(allow_aggregation=True)

    def _base_uri(self, base_uri, users):
        from dservercore.utils import register_base_uri, register_permissions

        with self.app.app_context():
            register_base_uri(base_uri)
            names = ("users_with_search_permissions", "users_with_register_permissions")
            register_permissions(base_uri, dict.fromkeys(names, users))

    def token(self, username, lifetime_s):
        from flask_jwt_extended import create_access_token

        life = False if lifetime_s is None else timedelta(seconds=lifetime_s)
        with self.app.app_context():
            return create_access_token(identity=username, expires_delta=life)

    # Orders -------------------------------------------------------------------------------------------------------------

    def make_token(self, *, username, lifetime_s=900):
        return {"token": self.token(username, lifetime_s)}

    def requests(self):
        return {"requests": self.door.requests}

    def set(self, *, delay_s=None, token_life_s=None, authenticate=None, **switches):
        if delay_s is not None:
            self.door.delay_s = delay_s
        if token_life_s is not None:
            self.generator.life_s = token_life_s
        if authenticate is not None:
            self.app.config["DISABLE_JWT_AUTHORISATION"] = not authenticate
        for name, value in switches.items():
            module, setting = SWITCHES[name]
            setattr(importlib.import_module(f"{module}.config").Config, setting, value)
        return {}

    def add(self, *, by_put=False, **described):
        """Make a data set and register it: as the server's own command does, or as what arrives by PUT."""
        return self._register(make_data_set(self._folder, **described), by_put=by_put)

    def add_copies(self, *, of, changes):
        """Make one data set and register it many times, each with its changes."""
        info = make_data_set(self._folder, **of)
        return {
            "added": [self._register(info | change | {"uri": uri_of(info | change)}) for change in changes]
        }

    def _register(self, info, *, by_put=False):
        from dservercore.schemas import RegisterDatasetSchema
        from dservercore.utils import register_dataset

        found = {"uri": info["uri"], "uuid": info["uuid"]}
        if by_put:
            schema = RegisterDatasetSchema(partial=("created_at",))
            known = {name: value for name, value in info.items() if name in schema.fields}
            info = schema.load(known | {name: str(info[name]) for name in ("frozen_at", "created_at")})
        with self.app.app_context():
            register_dataset(info)
        return found


def make_data_set(
    folder, *, name, base_uri, readme="", items=None, tags=(), annotations=None, creator_username=USERNAME, uuid=None,
    frozen_at=None, created_at=None,
):  # fmt: skip
    """Make a data set with dtool, and return what is known of it.

    It lies in a folder of its own; where its base URI is none of a file, it is registered as its copy there would be.
    """
    import dtoolcore
    from dservercore.utils import generate_dataset_info

    shelf = folder / "data" / uuids.uuid4().hex
    shelf.mkdir(parents=True)
    metadata = dtoolcore.generate_admin_metadata(name, creator_username)
    metadata |= {"uuid": uuid} if uuid else {}
    proto = dtoolcore.generate_proto_dataset(metadata, shelf.as_uri())
    proto.create()
    proto.put_readme(readme)
    for number, (relpath, text) in enumerate((items or {}).items()):
        file = shelf / f"item-{number}"
        file.write_bytes(text.encode())
        proto.put_item(str(file), relpath)
        file.unlink()
    proto.freeze()
    made = dtoolcore.DataSet.from_uri(proto.uri)
    for tag in tags:
        made.put_tag(tag)
    for key, value in (annotations or {}).items():
        made.put_annotation(key, value)
    info = generate_dataset_info(made, base_uri)
    info["uri"] = uri_of(info)
    times = {"frozen_at": frozen_at, "created_at": created_at}
    return info | {key: value for key, value in times.items() if value is not None}


def uri_of(info):
    """Return where a data set is: on a disk it is called by its name, elsewhere by its UUID."""
    name = "name" if info["base_uri"].startswith("file:") else "uuid"
    return f"{info['base_uri']}/{info[name]}"


# The program ------------------------------------------------------------------------------------------------------------


def tokens_of(real):
    kinds = {"admin": "admin", "reader": "reader", "nobody": "nobody", "unknown": "stranger"}
    made = {kind: real.token(name, 86400) for kind, name in kinds.items()}
    return made | {"expired": real.token(USERNAME, -60)}


def obey(real, line):
    try:
        order = json.loads(line)
        do = {name: getattr(real, name) for name in ("add", "add_copies", "make_token", "set", "requests")}
        return do[order.pop("do")](**order)
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--token-life", type=float, default=900.0, help="of tokens from the generator, in seconds"
    )
    parser.add_argument("--delay", type=float, default=0.0, help="before each answer, in seconds")
    parser.add_argument("--aggregation", action="store_true", help="allow pipelines of MongoDB")
    parser.add_argument("--no-authentication", action="store_true", help="ask for no token")
    parser.add_argument(
        "--without", action="append", default=[], help="a plugin to leave out, by the name of its module"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dserver-") as folder:
        public_key = prepare(Path(folder), options)
        import mongomock_in_place  # noqa: F401  # before the server
        import waitress

        real = Real(Path(folder), public_key, options)
        server = waitress.create_server(real.door, host="127.0.0.1", port=0, threads=16)
        threading.Thread(target=server.run, daemon=True).start()
        url = f"http://127.0.0.1:{server.effective_port}"
        ready = {
            "url": url,
            "token_url": f"{url}/token",
            "username": USERNAME,
            "password": PASSWORD,
            "public_key": public_key,
            "token": real.token(USERNAME, 86400),
            "tokens": tokens_of(real),
        }
        print(json.dumps(ready), flush=True)
        for line in sys.stdin:
            print(json.dumps(obey(real, line)), flush=True)


if __name__ == "__main__":
    main()
