"""The store as Amazon S3: signed requests, requester-pays, regions, lists, and S3's errors.

Sources: the Amazon S3 API Reference (GetObject, HeadObject, HeadBucket, ListObjectsV2, "Error responses") and the User Guide
("Virtual hosting of buckets", "Requester Pays buckets", "Redirecting requests").
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

from nuncius.sandbox.store.interfaces import Interface, locate
from nuncius.sandbox.store.listing import list_bucket, list_buckets
from nuncius.sandbox.store.messages import Answer, RefusedError, page
from nuncius.sandbox.store.signature import query_pairs, read_claim, verify

if TYPE_CHECKING:
    from nuncius.sandbox.store.messages import Request
    from nuncius.sandbox.store.objects import Bucket
    from nuncius.sandbox.store.signature import Claim

_HOSTS = re.compile(
    r"(?:(?P<bucket>[a-z0-9.-]+)\.)??"
    r"(?:s3(?:\.dualstack)?(?:[.-](?P<region>[a-z0-9-]+))?\.amazonaws\.com"
    r"|(?P<space>[a-z0-9-]+)\.digitaloceanspaces\.com"
    r"|s3\.localhost)"
)
_CODES = {
    400: "BadRequest",
    403: "AccessDenied",
    404: "NoSuchKey",
    429: "TooManyRequests",
    500: "InternalError",
    503: "SlowDown",
}


# What a query asks for instead of an object or a list; S3 knows more than this store.
_OTHER_THINGS = re.compile(
    r"acl|attributes|cors|encryption|legal-hold|lifecycle|notification|object-lock|partNumber|policy(?:Status)?"
    r"|publicAccessBlock|replication|requestPayment|retention|tagging|torrent|uploads|uploadId|versioning|versions|website"
)


class S3(Interface):
    """The S3 interface, path style and virtual-host style."""

    name: ClassVar[str] = "s3"
    id_line: ClassVar[str] = "x-amz-request-id"

    def failure_code(self, status: int) -> str:
        """Return what S3 calls a failure with this status."""
        return _CODES.get(status, "ServiceUnavailable")

    def error(self, refused: RefusedError, request: Request | None = None) -> Answer:
        """Return an error as S3 tells it."""
        answer = super().error(refused, request)
        answer.headers["server"] = "AmazonS3"
        return answer

    def _find(self, request: Request) -> Answer:
        name, key = locate(request, _HOSTS, plus_is_space=True)
        claim = read_claim(request)
        query = dict(query_pairs(request.query))
        _check_query(query)
        bucket = self._world.buckets.get(name)
        if bucket is not None:
            self._check_region(request, name, bucket, claim)
        if claim is not None:
            verify(request, claim, self._world.keys, datetime.now(UTC))
        if not name:
            return self._buckets(known=claim is not None)
        if bucket is None:
            raise _no_bucket(name)
        payer = request.headers.get("x-amz-request-payer", query.get("x-amz-request-payer")) == "requester"
        if not key:
            answer = self._bucket(request, name, bucket, query, known=claim is not None, payer=payer)
        else:
            answer = self._object(request, bucket, key, known=claim is not None, payer=payer)
        answer.headers["server"] = "AmazonS3"
        return answer

    def _check_region(self, request: Request, name: str, bucket: Bucket, claim: Claim | None) -> None:
        """Send who asks in the wrong region to the right one; one endpoint stands for all regions."""
        match = _HOSTS.fullmatch(request.host)
        asked = (match and (match["region"] or match["space"])) or None
        if claim is not None and claim.region not in {bucket.region, asked or self._world.region}:
            raise RefusedError(
                400,
                "AuthorizationHeaderMalformed",
                f"The authorization header is malformed; the region '{claim.region}' is wrong;"
                f" expecting '{bucket.region}'",
                headers={"x-amz-bucket-region": bucket.region},
                details={"Region": bucket.region},
            )
        here = claim.region if claim is not None else asked or self._world.region
        if here != bucket.region:
            raise RefusedError(
                301,
                "PermanentRedirect",
                "The bucket you are attempting to access must be addressed using the specified endpoint."
                " Please send all future requests to this endpoint.",
                headers={"x-amz-bucket-region": bucket.region},
                details={"Endpoint": f"{name}.s3.{bucket.region}.amazonaws.com", "Bucket": name},
            )

    def _buckets(self, *, known: bool) -> Answer:
        if not known:
            raise _denied()
        return page(200, "application/xml", list_buckets(self._world.buckets))

    def _bucket(
        self,
        request: Request,
        name: str,
        bucket: Bucket,
        query: dict[str, str],
        *,
        known: bool,
        payer: bool,
    ) -> Answer:
        allowed = known and payer if bucket.requester_pays else known or bucket.public
        if not allowed:
            raise _denied()
        headers = {"x-amz-bucket-region": bucket.region}
        if bucket.requester_pays:
            headers["x-amz-request-charged"] = "requester"
        if request.method == "HEAD":
            return Answer(200, headers, sends_body=False)
        if "location" in query:
            return page(200, "application/xml", _location(bucket.region), headers)
        return page(
            200, "application/xml", list_bucket(name, bucket, query, self._world.knobs.page_size), headers
        )

    def _object(self, request: Request, bucket: Bucket, key: str, *, known: bool, payer: bool) -> Answer:
        stored = bucket.objects.get(key)
        if stored is None:
            # Who may not list a bucket is not told what is missing in it.
            if known or bucket.public:
                raise RefusedError(
                    404, "NoSuchKey", "The specified key does not exist.", details={"Key": key}
                )
            raise _denied()
        if not (known and payer if stored.requester_pays else known or stored.public):
            raise _denied()
        named = replace(stored, headers={"content-type": "binary/octet-stream", **stored.headers})
        # S3 heeds the range of a HEAD, too.
        answer = self._serve(replace(request, method="GET"), named)
        answer.sends_body = request.method != "HEAD"
        if stored.requester_pays:
            answer.headers["x-amz-request-charged"] = "requester"
        return answer


def _check_query(query: dict[str, str]) -> None:
    """Refuse what would otherwise be answered with something else."""
    if "AWSAccessKeyId" in query and "Signature" in query:
        raise RefusedError(
            400,
            "InvalidRequest",
            "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
        )
    if any(map(_OTHER_THINGS.fullmatch, query)) or query.get("versionId", "null") != "null":
        raise RefusedError(
            501,
            "NotImplemented",
            "A header or query you provided implies functionality that is not implemented.",
        )


def _location(region: str) -> str:
    """Return where a bucket is, as S3 tells it: us-east-1 goes without saying."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"{region if region != 'us-east-1' else ''}</LocationConstraint>"
    )


def _denied() -> RefusedError:
    return RefusedError(403, "AccessDenied", "Access Denied")


def _no_bucket(name: str) -> RefusedError:
    return RefusedError(
        404, "NoSuchBucket", "The specified bucket does not exist", details={"BucketName": name}
    )
