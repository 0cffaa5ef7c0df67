"""What real clients do: one order on standard input, what came of it on standard output, both in JSON."""

import hashlib
import json
import sys


def digest(data):
    return hashlib.sha256(data).hexdigest()


def fill_azure(order):
    """Put files into containers by Azure's own client; the container "sky" is open to anybody."""
    from azure.storage.blob import BlobServiceClient

    account = {"account_name": order["account"], "account_key": order["key"]}
    with BlobServiceClient(order["url"], credential=account) as service:
        service.create_container("sky", public_access="container")
        service.create_container("shut")
        for key, (path, container) in order["files"].items():
            with open(path, "rb") as file:
                service.get_blob_client(container, key).upload_blob(file)


def read_s3(order):
    """Read by boto3."""
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import ClientError

    name, secret = order["keys"] or (None, None)
    plain = Config(signature_version=UNSIGNED) if order["keys"] is None else None
    s3 = boto3.client(
        "s3",
        endpoint_url=order["endpoint"],
        aws_access_key_id=name,
        aws_secret_access_key=secret,
        region_name=order["region"],
        config=plain,
    )
    bucket, found = order["bucket"], {}
    for key in order["object_keys"]:
        whole = s3.get_object(Bucket=bucket, Key=key)
        piece = s3.get_object(Bucket=bucket, Key=key, Range="bytes=80-2879", IfMatch=whole["ETag"])
        head = s3.head_object(Bucket=bucket, Key=key)
        assert (head["ContentLength"], head["ETag"]) == (whole["ContentLength"], whole["ETag"])
        assert head["LastModified"] == whole["LastModified"]
        found[key] = [digest(whole["Body"].read()), digest(piece["Body"].read()), piece["ContentRange"]]
    first = {"Bucket": bucket, "Key": order["object_keys"][0]}
    errors = {}
    for what, options in {
        "no key": {"Key": "nothing"},
        "no bucket": {"Bucket": "nobody"},
        "range": {"Range": "bytes=99999999-"},
        "changed": {"IfMatch": '"other"'},
        "same": {"IfNoneMatch": s3.head_object(**first)["ETag"]},
    }.items():
        try:
            s3.get_object(**first | options)
        except ClientError as error:
            errors[what] = error.response["Error"]["Code"]
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix="night/", PaginationConfig={"PageSize": 3}
    )
    older = s3.get_paginator("list_objects").paginate(
        Bucket=bucket, Prefix="night/", Delimiter="/", PaginationConfig={"PageSize": 3}
    )
    return {
        "found": found,
        "errors": errors,
        "listed": [item["Key"] for page in pages for item in page["Contents"]],
        "folders": [item["Prefix"] for page in older for item in page["CommonPrefixes"]],
    }


def _all_of(file_system, prefix, keys):
    """Read by a file system of fsspec: whole, in a piece, as a file, and list."""
    found = {}
    for key in keys:
        whole = file_system.cat_file(prefix + key)
        piece = file_system.cat_file(prefix + key, start=80, end=2880)
        with file_system.open(prefix + key, "rb", block_size=5000) as file:
            file.seek(80)
            assert file.read(2800) == piece
        assert file_system.info(prefix + key)["size"] == len(whole)
        found[key] = [digest(whole), digest(piece)]
    return found


def read_s3fs(order):
    """Read by s3fs."""
    import s3fs

    name, secret = order["keys"] or (None, None)
    file_system = s3fs.S3FileSystem(
        anon=order["keys"] is None, key=name, secret=secret, endpoint_url=order["endpoint"], use_listings_cache=False
    )  # fmt: skip
    prefix = f"{order['bucket']}/"
    found = _all_of(file_system, prefix, order["object_keys"])
    errors = {}
    for key in ("nothing.fits", "private.fits"):
        try:
            file_system.cat_file(prefix + key)
        except OSError as error:
            errors[key] = type(error).__name__
    return {"found": found, "errors": errors, "listed": sorted(file_system.find(f"{prefix}night"))}


def read_adlfs(order):
    """Read by adlfs."""
    import adlfs

    file_system = adlfs.AzureBlobFileSystem(connection_string=order["connection"])
    found = _all_of(file_system, "sky/", order["object_keys"])
    found |= _all_of(file_system, "shut/", ["private.fits"])
    try:
        file_system.cat_file("sky/nothing.fits")
    except OSError as error:
        missing = type(error).__name__
    return {"found": found, "missing": missing, "listed": sorted(file_system.find("sky/night"))}


def read_azure(order):
    """Read by Azure's own client, signed and as anybody."""
    from azure.core.exceptions import AzureError
    from azure.storage.blob import BlobServiceClient

    account = {"account_name": order["account"], "account_key": order["key"]}
    found, errors = {}, {}
    with BlobServiceClient(order["url"], credential=account) as service:
        for key in order["object_keys"]:
            blob = service.get_blob_client("sky", key)
            properties = blob.get_blob_properties()
            whole = blob.download_blob().readall()
            piece = blob.download_blob(offset=80, length=2800).readall()
            assert properties.size == len(whole)
            found[key] = [digest(whole), digest(piece)]
        container = service.get_container_client("sky")
        pages = container.list_blobs(name_starts_with="night/", results_per_page=3)
        listed = [blob.name for blob in pages]
        folders = [blob.name for blob in container.walk_blobs(name_starts_with="night/", delimiter="/")]
        shut = service.get_blob_client("shut", "private.fits").download_blob().readall()
        for what, container, key in (("no blob", "sky", "nothing"), ("no container", "nobody", "x")):
            try:
                service.get_blob_client(container, key).download_blob()
            except AzureError as error:
                errors[what] = str(error.error_code)
    with BlobServiceClient(order["url"]) as anybody:
        key = order["object_keys"][0]
        assert digest(anybody.get_blob_client("sky", key).download_blob().readall()) == found[key][0]
        try:
            anybody.get_blob_client("shut", "private.fits").download_blob()
        except AzureError as error:
            errors["private"] = str(error.error_code)
    return {"found": found, "errors": errors, "listed": listed, "folders": folders, "shut": digest(shut)}


def read_astropy(order):
    """Read headers and a section by astropy through fsspec, from links and from S3."""
    from astropy.io import fits

    answers = []
    for url, options in order["files"]:
        with fits.open(url, use_fsspec=True, fsspec_kwargs=options) as hdus:
            hdu = hdus[order["hdu"]]
            section = hdu.section[tuple(slice(*ends) for ends in order["section"])]
            headers = [each.header.tostring() for each in hdus]
            answers.append([digest("".join(headers).encode()), section.astype("f8").ravel().tolist()])
    return answers


ACTIONS = {
    action.__name__: action
    for action in (fill_azure, read_s3, read_s3fs, read_adlfs, read_azure, read_astropy)
}

if __name__ == "__main__":
    asked = json.load(sys.stdin)
    json.dump(ACTIONS[asked.pop("action")](asked), sys.stdout)
