"""The examples of astro-cloud's documentation, with another import line and another host, against a store on loopback.

The last one writes its file to a folder of the test.
"""

from __future__ import annotations

import io

import numpy as np
import pytest
from astropy.io import fits

from nuncius.sandbox.fits_files.cubes import tess_cube

TESS = "tess/public/mast/tess-s0022-4-4-cube.fits"

COUNT_KEYS = """
#!/usr/bin/env python

from astro_cloud.fits import load_headers, CloudService, PaymentSolution

url = 'https://s3.us-east-1.amazonaws.com/stpubdata/tess/public/mast/tess-s0022-4-4-cube.fits'
for header in load_headers(url, CloudService.S3, PaymentSolution.AWSRequestPayer):
    if header.fits.get('SIMPLE', False) is True:
        header_keys = [key for key in header.fits.keys()]
        print(f'Primary Header: {len(header_keys)}')

    else:
        xtension = header.fits['XTENSION']
        header_keys = [key for key in header.fits.keys()]
        print(f'{xtension} Header Key Length: {len(header_keys)}')
"""

KINDS = """
#!/usr/bin/env python

from astro_cloud.fits import load_headers, CloudService, PaymentSolution

url = 'https://s3.us-east-1.amazonaws.com/stpubdata/tess/public/mast/tess-s0022-4-4-cube.fits'
for header in load_headers(url, CloudService.S3, PaymentSolution.AWSRequestPayer):
    print(header.fits.get('XTENSION'))
"""

DOWNLOAD = """
#!/usr/bin/env python
import os
import requests

from astro_cloud.auth.aws import AWSAuth

from astropy.io import fits

CHUNK_SIZE = 1024
ENCODING = 'utf-8'
url = 'https://s3.amazonaws.com/datum-storage.org/fits-files/502nmos.fits'
filename = os.path.basename(url)
filepath = f'/tmp/{filename}'

response = requests.get(url, auth=AWSAuth(request_payer=True), headers={
    'Range': 'bytes=0-2779',
})
assert response.status_code == 206

primary_header = fits.Header.fromstring(response.content.decode(ENCODING))
assert primary_header['SIMPLE'] is True

# Save the file to the file-system and load it with `fits.io`
streaming_response = requests.get(url, auth=AWSAuth(request_payer=True), headers={}, stream=True)
assert streaming_response.status_code == 200
with open(filepath, 'wb') as file_stream:
    for part in streaming_response.iter_content(CHUNK_SIZE):
        file_stream.write(part)

fits_file = fits.open(filepath)
print(fits_file.info())
"""


def run(text, store, tmp_path):
    """Run an example; return the names that it leaves."""
    for host in ("s3.us-east-1.amazonaws.com", "s3.amazonaws.com"):
        text = text.replace(f"https://{host}", store.s3_endpoint)
    text = text.replace("from astro_cloud", "from nuncius.compat.astro_cloud").replace(
        "/tmp/", f"{tmp_path}/"
    )
    assert "amazonaws" not in text
    namespace = {"__name__": "__main__"}
    exec(compile(text, "example", "exec"), namespace)
    return namespace


@pytest.fixture
def tess(login):
    login.put(TESS, tess_cube(), bucket="stpubdata", requester_pays=True)
    return login


def test_headers_of_a_cube_of_44_gigabytes(tess, tmp_path, capsys):
    found = run(COUNT_KEYS, tess, tmp_path)
    cube = tess_cube()
    assert cube.size > 44e9
    lengths = [
        len(fits.Header.fromstring(cube.read(offset, offset + length)))
        for offset, length in ((0, 2880), (2880, 2880), (found["header"].offset, 9 * 2880))
    ]
    assert capsys.readouterr().out.splitlines() == [
        f"Primary Header: {lengths[0]}",
        f"IMAGE Header Key Length: {lengths[1]}",
        f"BINTABLE Header Key Length: {lengths[2]}",
    ]
    # One request is refused, because nothing in the store's name tells that it is one.
    assert [noted.status for noted in tess.log] == [403, 206, 206]
    assert tess.stats.bytes < 100_000


def test_kinds_of_extensions(tess, tmp_path, capsys):
    run(KINDS, tess, tmp_path)
    assert capsys.readouterr().out.split() == ["None", "IMAGE", "BINTABLE"]


def test_a_whole_file_by_requests(login, tmp_path, capsys):
    image = fits.PrimaryHDU(np.arange(1600 * 1600, dtype="f4").reshape(1600, 1600))
    image.header["FILTER"] = "F502N"
    written = io.BytesIO()
    image.writeto(written)
    login.put("fits-files/502nmos.fits", written.getvalue(), bucket="datum-storage.org", requester_pays=True)
    found = run(DOWNLOAD, login, tmp_path)
    found["fits_file"].close()
    assert found["primary_header"]["FILTER"] == "F502N"
    assert (tmp_path / "502nmos.fits").read_bytes() == written.getvalue()
    assert "(1600, 1600)" in capsys.readouterr().out
