"""Servers in processes of their own, and requests to them as they stand on the wire."""

import http.client
import re
import subprocess
import threading
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree as ET

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

START_S = 90
ODD = "odd/a b+c%20d#e?f~ü'(1)&=,;@.fits"
REGION = "us-east-1"


@contextmanager
def running(command, *, ready, **options):
    """Run a server until the end of the block; give its URL, which it prints in a line that `ready` matches."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", **options
    )
    said, found, over = [], [], threading.Event()

    def listen():
        for line in process.stdout:
            said.append(line)
            match = re.search(ready, line)
            if match and not found:
                found.append(match[0])
                over.set()
        over.set()

    listening = threading.Thread(target=listen, daemon=True)
    listening.start()
    try:
        over.wait(START_S)
        assert found, f"{command[0]} did not start:\n{''.join(said)[-2000:]}"
        yield found[0]
    finally:
        process.kill()
        process.wait(20)
        listening.join(20)
        process.stdout.close()


class Answer(NamedTuple):
    """What came back: the status, the header lines by lower-case name, the body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self):
        """What an error is called, in its XML or its header."""
        found = re.search(rb"<Code>(\w+)</Code>", self.body)
        return found[1].decode() if found else self.headers.get("x-ms-error-code", "")

    @property
    def xml(self):
        """The body as a tree of (tag, text or children), without namespaces."""
        return _plain(ET.fromstring(self.body.decode("utf-8-sig")))


def _plain(element):
    children = [_plain(child) for child in element]
    return element.tag.rpartition("}")[2], children or (element.text or "")


def under(tree, *names):
    """Return what stands in a tree below a path of tags, each time it is there."""
    found = [tree]
    for name in names:
        found = [
            child for _, children in found if isinstance(children, list) for child in children if child[0] == name
        ]  # fmt: skip
    return [content for _, content in found]


def send(url, *, method="GET", headers=None):
    """Send a request as it is, and nothing besides."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    try:
        connection.request(method, url.partition(parts.netloc)[2], headers=headers or {})
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, body)


def send_signed(url, keys, *, method="GET", headers=None, in_link=False):
    """Send a request that botocore has signed, in a header line or in its link."""
    request = AWSRequest(method=method, url=url, headers=headers or {})
    signer = S3SigV4QueryAuth if in_link else S3SigV4Auth
    options = {"expires": 600} if in_link else {}
    signer(Credentials(*keys), "s3", REGION, **options).add_auth(request)
    prepared = request.prepare()
    lines = {
        name: value.decode() if isinstance(value, bytes) else value for name, value in prepared.headers.items()
    }  # fmt: skip
    return send(prepared.url, method=method, headers=lines)


def encoded(key):
    """Return a key as it stands in a URL."""
    return quote(key, safe="/~")
