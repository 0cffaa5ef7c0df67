"""What the tests of dtool-lookup-api's interface share: the data set of which its documentation speaks, and some odd ones."""

from __future__ import annotations

import os
import subprocess
import sys

SETTINGS = (
    "DSERVER_URL",
    "DSERVER_TOKEN",
    "DSERVER_TOKEN_GENERATOR_URL",
    "DSERVER_USERNAME",
    "DSERVER_PASSWORD",
    "DSERVER_VERIFY_SSL",
    "DSERVER_DISABLE_AUTHENTICATION",
    "NUNCIUS_DSERVER_USERNAME",
    "NUNCIUS_DSERVER_PASSWORD",
)
SHARE, UUID = "smb://test-share", "1a1f9fad-8589-413e-9602-5bbd66bfe675"
URI = f"{SHARE}/{UUID}"
ODD = "file://host/odd place + ü"
README = {
    "project": "testing project",
    "description": "testing description",
    "owners": [
        {
            "name": "Testing User",
            "email": "testing@example.org",
            "orcid": "testing_orcid",
            "username": "testing_user",
        }
    ],
    "funders": [
        {
            "organization": "testing_organization",
            "program": "testing_program",
            "code": "testing_code",
        }
    ],
    "creation_date": "2020-11-08",
    "expiration_date": "2022-11-08",
}
FOUND = {
    "base_uri": SHARE,
    "created_at": 1604860720.736269,
    "creator_username": "jotelha",
    "frozen_at": 1604921621.719575,
    "name": "simple_test_dataset",
    "uri": URI,
    "uuid": UUID,
    "number_of_items": 1,
    "size_in_bytes": 17,
}
QUERIED = FOUND | {
    "created_at": 1604860720.736,
    "frozen_at": 1604921621.719,
    "dtoolcore_version": "3.19.0",
    "tags": [],
    "type": "dataset",
}
CHAIN = [f"00000000-0000-4000-8000-{n:012d}" for n in (1, 2, 3)]  # each made from the one before
TWIN = "00000000-0000-4000-8000-000000000007"  # at two base URIs


def fill(box):
    """Add the documented data set, and under another base URI what is odd."""
    box.add(
        "simple_test_dataset",
        base_uri=SHARE,
        uuid=UUID,
        readme=README,
        items={"simple_text_file.txt": b"Some test content"},
        creator_username="jotelha",
        created_at=1604860720.736269,
        frozen_at=1604921621.719575,
    )
    quiet = {"creator_username": "grace", "frozen_at": 1605000000.25}
    for number, uuid in enumerate(CHAIN):
        box.add(
            f"step {number}",
            base_uri="s3://steps",
            uuid=uuid,
            readme={"level": number},
            derived_from=CHAIN[number - 1 : number],
            tags=["steps", f"level {number}"],
            annotations={"level": number, "nested": {"a": [1, 2]}},
            **quiet,
        )
    for base_uri in ("s3://steps", ODD):
        box.add("twin", base_uri=base_uri, uuid=TWIN, readme="nothing: [that is YAML", tags=["twin"], **quiet)


def run_script(code, **environment):
    """Run a program; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
