"""The real dserver and the sandbox's, asked and changed in the same way at random: what they answer is the same."""

import random
from urllib.parse import quote

import pytest
from dserver_support import Questions, RealServer, SandboxServer, order, page, uuid_of

from nuncius.sandbox.dserver import SandboxDServer

pytestmark = pytest.mark.xdist_group("dserver-peer")

USERS = ("ada", "bob", "ä b")
BASES = ("s3://one", "s3://two +ü", "file://host/three four", "azure://x/y/z", "s3://one/")
UUIDS = [uuid_of(number) for number in range(1, 7)]
TAGS = ("x", "y", "nova", "z z")
FIELDS = ("base_uri", "created_at", "creator_username", "frozen_at", "name", "uri", "uuid")
READMES = (
    "",
    "a: 1",
    "- 1\n- 2",
    "bright nova",
    "a: [",
    f"derived_from:\n  - uuid: {UUIDS[0]}",
    "d: 2020-01-01",
)
ANNOTATIONS = (
    {},
    {"a": 1},
    {"b": {"c": None}},
    {"source_dataset_uuid": UUIDS[1]},
    {"l": [1, "2"], "t": "x y"},
)
TIMES = ("1604921621.719575", "1604921621", "1e9", "-5.25", "1604921621.9999999")


@pytest.fixture(scope="module")
def both(dserver_python):
    real = RealServer(dserver_python)
    with SandboxDServer(contents=False) as dserver:
        pair = [Questions(real), Questions(SandboxServer(dserver))]
        for name in ("dserver-public", "dserver-private"):  # which the real one begins with
            assert pair[0]("DELETE", f"/base-uris/s3/{name}", "admin").status_code == 200
        yield pair
        for questions in pair:
            questions.close()
    real.close()


class Chance:
    """Makes questions and changes by chance."""

    def __init__(self, number):
        self.random = random.Random(number)
        self.one = self.random.choice

    def some(self, of):
        return self.random.sample(list(of), self.random.randrange(len(of)))

    def often(self, likelihood):
        return self.random.random() < likelihood

    def path(self, uri):
        return quote(uri.replace("://", "/", 1), safe=self.one(["/", "", "/+"]))

    def uri(self):
        return f"{self.one(BASES)}/{self.one([*UUIDS, 'x', ''])}"

    def record(self):
        uuid, base_uri = self.one(UUIDS), self.one(BASES)
        count = self.random.randrange(3)
        entries = {
            f"id{n}": {"relpath": f"f{n}", "size_in_bytes": n, "hash": "h", "utc_timestamp": 1.5}
            for n in range(count)
        }
        record = {
            "uuid": uuid,
            "base_uri": base_uri,
            "uri": f"{base_uri}/{self.one([uuid, uuid, uuid, 'x'])}",
            "name": self.one(("nova", "Cc", "d d")),
            "type": "dataset",
            "readme": self.one(READMES),
            "manifest": {"items": entries, "hash_function": "md5", "dtoolcore_version": "3"},
            "creator_username": self.one(("ada", "eve")),
            "frozen_at": self.one(TIMES),
            "created_at": self.one(TIMES),
            "annotations": self.one(ANNOTATIONS),
            "tags": self.some(TAGS),
            "number_of_items": count,
            "size_in_bytes": self.random.randrange(99),
        }
        if self.often(0.15):
            record.pop(self.one(list(record)))
        if self.often(0.15):
            record[self.one([*record, "bad"])] = self.one([None, 1, "x", [], {}, True, 1.5])
        return record

    def filters(self):
        choices = {"tags": TAGS, "base_uris": BASES, "creator_usernames": ("ada", "eve"), "uuids": UUIDS}
        return {name: self.some(choices[name]) for name in choices if self.often(0.3)}

    def pages(self):
        fields = ",".join(self.one(["", "-", "%2B"]) + field for field in self.some(FIELDS))
        # The URI last: where all else is equal each database has an order of its own.
        return f"page_size={self.one([100, 100, 3])}&page={self.one([1, 1, 1, 2, 3])}&sort={fields},uri"

    def change(self):
        """Return a request that changes something, and who sends it."""
        kind = self.random.randrange(10)
        if kind == 0:
            bodies = [
                {},
                {"is_admin": self.often(0.2)},
                {"is_admin": self.one(["true", "no", 1, "t", 2, None])},
                {"username": 5},
            ]
            return "PUT", f"/users/{quote(self.one(USERS))}", "admin", self.one(bodies)
        if kind == 1:
            everybody = {"users_with_search_permissions": USERS, "users_with_register_permissions": USERS}
            few = {
                "users_with_search_permissions": self.some(USERS),
                "users_with_register_permissions": self.some(USERS),
            }
            return (
                "PUT",
                f"/base-uris/{self.path(self.one(BASES))}",
                "admin",
                self.one([everybody, everybody, few]),
            )
        if kind == 2:
            return "DELETE", f"/uris/{self.path(self.uri())}", self.one(USERS), None
        if kind == 3 and self.often(0.2):
            return "DELETE", f"/base-uris/{self.path(self.one(BASES))}", "admin", None
        if kind == 4 and self.often(0.1):
            return "DELETE", f"/users/{quote(self.one(USERS))}", "admin", None
        record = self.record()
        return "PUT", f"/uris/{self.path(str(record.get('uri') or 's3/x'))}", self.one(USERS), record

    def question(self):
        """Return a request that changes nothing, and who sends it."""
        who, pages = self.one(USERS), self.pages()
        query = self.one(
            [{}, {"name": "nova"}, {"readme.a": {"$exists": True}}, {"annotations.a": {"$gte": 1}}]
        )
        what = self.one(("uris", "readmes", "manifests", "tags", "annotations", "base-uris"))
        uri = self.one(BASES) if what == "base-uris" else self.uri()
        return self.one(
            [
                ("GET", f"/{what}/{self.path(uri)}", self.one([who, "admin"]), None),
                ("GET", f"/uuids/{self.one(UUIDS)}?{pages}", who, None),
                ("POST", f"/uris?{pages}", who, self.filters()),
                (
                    "POST",
                    f"/uris?{pages}",
                    who,
                    {"free_text": self.one(["nova", '"bright nova"', "ada -nova"])},
                ),
                ("POST", f"/mongo/query?{pages}", who, self.filters() | {"query": query}),
                ("GET", f"/graph/uuids/{self.one(UUIDS)}", who, None),
                ("GET", self.one(["/me", "/me/summary", f"/users/{quote(who)}"]), who, None),
                ("GET", f"/base-uris?{self.one(['page=1', 'page=2', 'sort=-base_uri'])}", "admin", None),
            ]
        )


def answer_of(questions, method, path, who, body):
    options = {} if body is None else {"json": body}
    answer = questions(method, path, who, **options)
    return answer.status_code, page(answer), order(answer), answer.json()


@pytest.mark.parametrize("number", range(6))
def test_the_same_questions_and_changes(both, number):
    chance = Chance(number)
    statuses = set()
    for name in USERS:
        for questions in both:
            questions("PUT", f"/users/{quote(name)}", "admin", json={})
    for _ in range(150):
        asked = chance.change() if chance.often(0.4) else chance.question()
        real, sandbox = (answer_of(questions, *asked) for questions in both)
        assert sandbox == real, asked
        statuses.add(real[0])
    assert {200, 403, 422} <= statuses, "what is asked has answers"
