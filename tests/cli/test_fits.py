"""`nuncius fits` on files of the sandbox's store."""

import gzip
import io
import json
import signal
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from click.testing import CliRunner

from nuncius import open_fits
from nuncius.cli import main
from nuncius.sandbox.fits_files.cubes import tess_cube
from nuncius.sandbox.fits_files.images import sky_image, tan_wcs
from nuncius.sandbox.fits_files.many import decam_fz, night_file
from nuncius.sandbox.fits_files.tables import all_columns, large_table, variable_length
from nuncius.sandbox.store import SandboxStore

CUBE = tess_cube()


def exposure():
    """Return a file with two images of the name SCI, a scaled one, and a table with missing values."""
    rng = np.random.default_rng(3)
    primary = fits.PrimaryHDU()
    primary.header.update({"TELESCOP": "Zwicky", "OBSMJD": 61234.123456789})
    images = []
    for version in (1, 2):
        image = fits.ImageHDU(rng.integers(0, 65535, (80, 120)).astype("u2"), name="SCI", ver=version)
        image.header.update(tan_wcs((80, 120), ra=10.0 * version, dec=-30.25))
        image.header.update(
            {"INHERIT": True, "DATASEC": "[1:120,1:80]", "DATAMAX": 65535, "CRPIX1A": 7.0, "LTV2": -3.0}
        )
        image.header["HISTORY"] = "flattened"
        images.append(image)
    scaled = fits.ImageHDU(rng.integers(-9, 9, (1, 40, 50)).astype("i2"), name="WEIGHT")
    scaled.header.update({"BSCALE": 0.5, "BZERO": 10.0})
    columns = [
        fits.Column("id", "K", array=np.arange(30) + 2**53),
        fits.Column("flux", "D", unit="Jy", array=np.arange(30) / 7),
        fits.Column("flag", "I", null=-99, array=np.where(np.arange(30) % 3 == 0, -99, np.arange(30))),
        fits.Column("word", "6A", array=[f"star{number}" for number in range(30)]),
        fits.Column("pair", "2E", array=np.arange(60).reshape(30, 2)),
    ]
    table = fits.BinTableHDU.from_columns(columns, name="CAT")
    file = io.BytesIO()
    fits.HDUList([primary, *images, scaled, table]).writeto(file)
    return file.getvalue()


EXPOSURE = exposure()


def truth():
    return fits.open(io.BytesIO(EXPOSURE))


@pytest.fixture(scope="module")
def kept():
    """A store with all files of these tests."""
    with SandboxStore() as store:
        store.put("cube.fits", CUBE)
        store.put("exposure.fits", EXPOSURE)
        store.put("exposure.fits[1]", EXPOSURE)
        store.put("sky.fits", sky_image((300, 400)))
        store.put("mosaic.fits.fz", decam_fz())
        store.put("all.fits", all_columns())
        store.put("variable.fits", variable_length())
        store.put("large.fits", large_table(5000))
        store.put("exposure.fits.gz", gzip.compress(EXPOSURE))
        store.put("secret.fits", EXPOSURE, public=False)
        for number in range(4):
            store.put(f"night/{number}.fits", night_file(number))
        store.put("night/notes.txt", b"clouds")
        store.put("bad/page.fits", b"<html>not here</html>".ljust(3000))
        store.put("bad/good.fits", EXPOSURE)
        yield store


@pytest.fixture
def store(kept):
    kept.reset()
    return kept


@pytest.fixture
def run(cli, store, monkeypatch):
    """Run `nuncius fits`; S3 is that of the store, with its key in the environment.

    With `alone` it is a process of its own, as users start it; without, it is called here, which takes a tenth of the time.
    """
    monkeypatch.chdir(cli.folder)

    def call(*arguments, code=0, stdin="", alone=False, **environment):
        keys = {"AWS_ACCESS_KEY_ID": store.access_key, "AWS_SECRET_ACCESS_KEY": store.secret_key}
        # Nothing that this machine knows of Amazon.
        nowhere = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}  # fmt: skip
        if any(str(argument).startswith("s3:") for argument in arguments):
            arguments = (*arguments, "--endpoint", store.s3_endpoint)
        how = in_a_process if alone else in_this_process
        done = how(
            ["fits", *map(str, arguments)], stdin, {**cli.environment, **keys, **nowhere, **environment}
        )
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        assert "Warning" not in done.stderr
        return done

    call.folder = cli.folder
    return call


def in_a_process(arguments, stdin, environment):
    command = [sys.executable, "-m", "nuncius.cli", *arguments]
    return subprocess.run(
        command, env=environment, input=stdin, capture_output=True, text=True, timeout=120, check=False
    )


def in_this_process(arguments, stdin, environment):
    done = CliRunner().invoke(main, arguments, input=stdin, env=environment)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def lines(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("command", [(), ("ls",), ("header",), ("cutout",), ("table",), ("scan",)])
def test_each_command_explains_itself(run, command):
    assert len(run(*command, "--help").stdout.split()) > 40


# ls --------------------------------------------------------------------------------------------------------------------


def test_ls_of_one_file_shows_hdus_and_cost(run, store):
    done = run("ls", store.http_url("cube.fits"), alone=True)
    assert "3 HDUs, 45,523,497,600 bytes" in done.stdout
    assert "2078 x 2136 x 1282 x 2" in done.stdout
    assert "1,282 rows x 104 columns" in done.stdout
    assert store.stats.requests == 2
    assert f"{store.stats.bytes:,} bytes read in 2 requests, of 45,523,497,600" in done.stderr
    assert store.stats.bytes < 100_000


def test_ls_as_json_is_what_astropy_says(run, store):
    (found,) = lines(run("ls", store.s3_url("exposure.fits"), "--json"))
    with truth() as file:
        told = [hdu.fileinfo() for hdu in file]
        names = [hdu.name for hdu in file]
        shapes = [list(hdu.shape) for hdu in file[1:4]]
    assert (found["size"], found["truncated"], found["trailing_bytes"]) == (len(EXPOSURE), False, 0)
    assert [hdu["header_offset"] for hdu in found["hdus"]] == [info["hdrLoc"] for info in told]
    assert [hdu["data_offset"] for hdu in found["hdus"]] == [info["datLoc"] for info in told]
    assert [hdu["name"] for hdu in found["hdus"]] == names
    assert [hdu["shape"] for hdu in found["hdus"][1:4]] == shapes
    assert found["requests"] == store.stats.requests
    assert found["bytes_read"] == store.stats.bytes


def test_ls_of_a_folder_has_a_line_for_each_fits_file(run):
    done = run("ls", "s3://sky/night/")
    said = [line.split() for line in done.stdout.splitlines()[1:]]
    assert [words[2] for words in said] == [f"s3://sky/night/{number}.fits" for number in range(4)]
    assert [words[:2] for words in said] == [[f"{night_file(n).size:,}", "3"] for n in range(4)]
    found = lines(run("ls", "s3://sky/ni*/[12].fits", "--json"))
    assert [file["url"] for file in found] == ["s3://sky/night/1.fits", "s3://sky/night/2.fits"]
    assert run("ls", "s3://sky/night/[12].fits", "--hdus").stdout.count("PRIMARY") == 2


def test_ls_goes_on_after_a_file_that_is_none(run, store):
    done = run("ls", store.http_url("bad/page.fits"), store.http_url("bad/good.fits"), code=1)
    assert "bad/good.fits" in done.stdout
    assert "is no FITS file" in done.stderr
    assert "1 file could not be read" in done.stderr


# header ----------------------------------------------------------------------------------------------------------------


def test_header_of_an_hdu_is_its_text(run, store):
    with truth() as file:
        first, second = (file[index].header.tostring("\n", padding=False) for index in (1, 2))
    url = store.http_url("exposure.fits")
    same = [line.rstrip() for line in first.split("\n")]
    assert run("header", f"{url}[1]", alone=True).stdout.splitlines() == same
    assert run("header", f"{url}[sci]").stdout.splitlines() == same
    assert run("header", url, "--hdu", "SCI,1").stdout.splitlines() == same
    other = [line.rstrip() for line in second.split("\n")]
    assert run("header", f"{url}[SCI,2]").stdout.splitlines() == other


def test_header_of_all_hdus(run, store):
    done = run("header", store.http_url("exposure.fits"))
    titles = [line for line in done.stdout.splitlines() if line.startswith("# ")]
    assert titles == [f"# HDU {number} of {store.http_url('exposure.fits')}" for number in range(5)]
    assert done.stdout.count("\nEND") == 5


def test_brackets_that_are_part_of_the_name(run):
    assert "NAXIS   =                    2" in run("header", "s3://sky/exposure.fits[1]", "--hdu", "2").stdout
    assert "no HDU 7" in run("header", "s3://sky/exposure.fits[1]", "--hdu", "7", code=1).stderr


def test_an_hdu_that_is_not_there_is_said_with_those_that_are(run, store):
    said = run("header", f"{store.http_url('exposure.fits')}[SKY]", code=1).stderr
    assert "there is no HDU 'SKY'" in said
    assert "PRIMARY, SCI, SCI,2, WEIGHT, CAT" in said


def test_keywords_as_a_table_and_as_json(run, store):
    url = store.http_url("exposure.fits")
    keys = ("-k", "OBSMJD", "-k", "CRVAL*", "-k", "inherit")
    said = run("header", url, *keys).stdout.splitlines()
    assert said[0].split() == ["hdu", "name", "OBSMJD", "CRVAL1", "CRVAL2", "INHERIT"]
    assert said[1].split() == ["0", "PRIMARY", "61234.123456789"], "numbers are not rounded"
    assert said[3].split() == ["2", "SCI", "20.0", "-30.25", "T"]
    found = lines(run("header", url, *keys, "--json"))
    assert found[1] == {"hdu": 1, "name": "SCI", "keys": {"CRVAL1": 10.0, "CRVAL2": -30.25, "INHERIT": True}}


def test_a_keyword_that_is_nowhere(run, store):
    done = run("header", store.http_url("exposure.fits"), "-k", "TELESCOP", "-k", "FILTER", code=1)
    assert "Zwicky" in done.stdout
    assert "in no header: FILTER" in done.stderr


def test_header_as_json_has_all_cards(run, store):
    (found,) = lines(run("header", f"{store.http_url('exposure.fits')}[1]", "--json"))
    with fits.open(io.BytesIO(EXPOSURE), do_not_scale_image_data=True) as file:
        cards = [
            [card.keyword, str(card.value) if card.keyword == "HISTORY" else card.value, card.comment]
            for card in file[1].header.cards
        ]
    assert found["cards"] == cards
    assert ["BZERO", 32768, ""] in [[*card[:2], ""] for card in cards]


# cutout ----------------------------------------------------------------------------------------------------------------


def test_a_cutout_at_a_position(run, store):
    url = store.http_url("exposure.fits")
    done = run(
        "cutout",
        f"{url}[SCI,2]",
        "--ra",
        "20.0",
        "--dec",
        "-30.25",
        "--size",
        "5",
        "-o",
        "cut.fits",
        alone=True,
    )
    with truth() as file, fits.open(run.folder / "cut.fits") as cut:
        whole, header = file["SCI", 2].data, cut[0].header
        x, y = header["ORIG_X"] - 1, header["ORIG_Y"] - 1
        height, width = cut[0].data.shape
        assert (height, width) == (19, 19)  # 5 arcsec / 0.263 arcsec
        assert np.array_equal(cut[0].data, whole[y : y + height, x : x + width])
        assert cut[0].data.dtype == whole.dtype
        before, after = WCS(file["SCI", 2].header), WCS(header)
        assert np.allclose(after.all_pix2world(3, 4, 0), before.all_pix2world(3 + x, 4 + y, 0), atol=1e-12)
        middle = after.all_world2pix(20.0, -30.25, 0)
    assert np.all(np.abs(np.array(middle) - (width - 1) / 2) <= 0.5)
    assert f"wrote cut.fits: {width} x {height} pixels of HDU 2 (SCI)" in done.stderr
    assert f"{store.stats.bytes:,} bytes read" in done.stderr


def test_the_header_of_a_cutout_says_what_is_true_of_it(run, store):
    run("cutout", f"{store.http_url('exposure.fits')}[1]", "--pixel", 60, 40, "--size-pixels", 11, "-o", "cut.fits")  # fmt: skip
    with fits.open(run.folder / "cut.fits") as cut:
        header = cut[0].header
    assert (header["ORIG_FLE"], header["ORIG_EXT"]) == (store.http_url("exposure.fits"), 1)
    assert (header["ORIG_X"], header["ORIG_Y"]) == (56, 36)
    assert (header["CRPIX1A"], header["LTV2"]) == (7.0 - 55, -3.0 - 35)
    assert (header["TELESCOP"], header["EXTNAME"]) == ("Zwicky", "SCI"), "what it inherited is there"
    assert {"DATASEC", "DATAMAX", "INHERIT", "CHECKSUM"}.isdisjoint(header)
    assert header["HISTORY"][0] == "flattened"


def test_a_cutout_of_scaled_values_that_keeps_its_axis_of_length_one(run, store):
    run("cutout", f"{store.http_url('exposure.fits')}[WEIGHT]", "--pixel", 0, 0, "--size-pixels", 10, "-o", "cut.fits")  # fmt: skip
    with truth() as file, fits.open(run.folder / "cut.fits") as cut:
        assert np.array_equal(cut[0].data, file["WEIGHT"].data[:, :5, :5])
        assert (cut[0].header["ORIG_X"], cut[0].header["ORIG_Y"]) == (1, 1)


def test_a_cutout_at_the_edge_says_so(run, store):
    done = run("cutout", store.http_url("sky.fits"), "--pixel", 0, 0, "--size-pixels", 20, "-o", "edge.fits")
    assert "wrote edge.fits: 10 x 10 pixels (of 20 x 20: cut off at the image's edge)" in done.stderr


def test_a_cutout_of_a_compressed_image_reads_the_first_headers_only(run, store):
    run("cutout", store.http_url("mosaic.fits.fz"), "--pixel", 30, 20, "--size-pixels", 16, "-o", "cut.fits")
    with fits.open(io.BytesIO(decam_fz())) as file, fits.open(run.folder / "cut.fits") as cut:
        assert np.array_equal(cut[0].data, file[1].data[12:28, 22:38])
        assert len(cut) == 1


def test_a_picture(run, store):
    run("cutout", store.http_url("sky.fits"), "--pixel", 200, 150, "--size-pixels", 60, "-o", "cut.png", MPLBACKEND="agg", alone=True)  # fmt: skip
    written = (run.folder / "cut.png").read_bytes()
    assert written.startswith(b"\x89PNG")
    assert min(struct.unpack(">II", written[16:24])) > 300


def test_what_is_there_is_not_overwritten(run, store):
    (run.folder / "cut.fits").write_bytes(b"dear")
    arguments = (
        "cutout",
        store.http_url("sky.fits"),
        "--pixel",
        20,
        20,
        "--size-pixels",
        5,
        "-o",
        "cut.fits",
    )
    assert "cut.fits is there already" in run(*arguments, code=1).stderr
    assert (run.folder / "cut.fits").read_bytes() == b"dear"
    assert store.stats.requests == 0, "nothing was read in vain"
    run(*arguments, "--overwrite")
    assert (run.folder / "cut.fits").read_bytes().startswith(b"SIMPLE")
    assert [path.name for path in run.folder.iterdir() if path.suffix == ".part"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", "5"), "where?"),
        (("--ra", "1", "--size", "5"), "where?"),
        (("--ra", "1", "--dec", "2", "--pixel", "1", "2", "--size", "5"), "where?"),
        (("--ra", "1", "--dec", "2"), "how large?"),
        (("--ra", "1", "--dec", "95", "--size", "5"), "is no position"),
        (("--ra", "1", "--dec", "2", "--size", "5 m"), "is no angle"),
        (("--ra", "1", "--dec", "2", "--size", "0"), "above 0"),
        (("--pixel", "nan", "1", "--size-pixels", "5"), "two numbers"),
    ],
)
def test_cutouts_that_make_no_sense(arguments, message):
    # Nothing is read, so no process of its own is needed.
    done = CliRunner().invoke(main, ["fits", "cutout", "image.fits", *arguments, "-o", "cut.fits"])
    assert done.exit_code == 2
    assert message in done.stderr


def test_cutouts_that_are_not_on_the_image(run, store):
    for place in (("--ra", 1, "--dec", 2, "--size", 5), ("--pixel", 4000, 1, "--size-pixels", 5)):
        said = run("cutout", store.http_url("sky.fits"), *place, "-o", "cut.fits", code=1).stderr
        assert "is not on HDU 0" in said
        assert "an image of 400 x 300 pixels" in said
    no_sky = run("cutout", f"{store.http_url('exposure.fits')}[WEIGHT]", "--ra", 1, "--dec", 2, "--size", 5, "-o", "cut.fits", code=1)  # fmt: skip
    assert "has no WCS" in no_sky.stderr
    assert list(run.folder.iterdir()) == []


def test_a_picture_without_a_sky(run, store):
    run("cutout", f"{store.http_url('exposure.fits')}[WEIGHT]", "--pixel", 20, 20, "--size-pixels", 10, "-o", "w.png", MPLBACKEND="agg", alone=True)  # fmt: skip
    assert (run.folder / "w.png").read_bytes().startswith(b"\x89PNG")


def test_outputs_that_can_not_be(run, store):
    cut = ("cutout", store.http_url("sky.fits"), "--pixel", 1, 1, "--size-pixels", 5, "-o")
    assert "it can be .fits, .fit, .fts, .png" in run(*cut, "cut.gif", code=2).stderr
    assert "there is no folder" in run(*cut, "nowhere/cut.fits", code=1).stderr
    cube = run(
        "cutout", store.http_url("cube.fits"), "--pixel", 1, 1, "--size-pixels", 5, "-o", "c.fits", code=1
    )
    assert "has no image of two axes" in cube.stderr


# table -----------------------------------------------------------------------------------------------------------------


def test_rows_are_shown_and_only_they_are_read(run, store):
    done = run(
        "table",
        store.http_url("cube.fits"),
        "--rows",
        "700:702",
        "--columns",
        "ffi_file,DQUALITY",
        alone=True,
    )
    said = [line.split() for line in done.stdout.splitlines()]
    assert said[0] == ["FFI_FILE", "DQUALITY"]
    assert said[-2:] == [["tess-s0022-4-4-000700_ffic.fits", "0"], ["tess-s0022-4-4-000701_ffic.fits", "0"]]
    assert store.stats.bytes < 100_000


def test_the_first_twenty_rows_unless_more_are_asked_for(run, store):
    done = run("table", store.http_url("large.fits"), "--json")
    assert len(lines(done)) == 20
    assert "rows 0:20 of 5,000" in done.stderr
    assert len(lines(run("table", store.http_url("large.fits"), "--json", "--rows", "-3:"))) == 3
    assert "0:100, 1000: or -10:" in run("table", store.http_url("large.fits"), "--rows", "5", code=2).stderr


def test_json_rows(run, store):
    found = lines(run("table", store.http_url("exposure.fits"), "--rows", "3:5", "--json"))
    assert found == [
        {"id": 2**53 + 3, "flux": 3 / 7, "flag": None, "word": "star3", "pair": [6.0, 7.0]},
        {"id": 2**53 + 4, "flux": 4 / 7, "flag": 4, "word": "star4", "pair": [8.0, 9.0]},
    ]
    (letters,) = lines(
        run("table", store.http_url("variable.fits"), "--columns", "vA", "--rows", "1:2", "--json")
    )
    assert letters == {"vA": "light"}


@pytest.mark.parametrize("name", ["all.fits", "variable.fits", "exposure.fits"])
def test_a_table_as_fits_is_what_it_was(run, store, name):
    run("table", store.http_url(name), "-o", "rows.fits")
    data = {"all.fits": all_columns, "variable.fits": variable_length, "exposure.fits": exposure}[name]()
    hdu = "CAT" if name == "exposure.fits" else 1
    expected, found = (
        Table.read(file, hdu=h) for file, h in ((io.BytesIO(data), hdu), (run.folder / "rows.fits", 1))
    )
    assert found.colnames == expected.colnames
    for column in expected.colnames:
        if column not in {
            "vA",
            "snull",
        }:  # texts of any length become plain ones; astropy ignores TNULL of scaled values
            assert found[column].tolist().__repr__() == expected[column].tolist().__repr__(), column
            assert found[column].unit == expected[column].unit
    assert found.meta["ORIG_FLE"] == store.http_url(name)


def test_a_table_as_parquet_csv_and_ecsv(run, store):
    parquet = pytest.importorskip("pyarrow.parquet")
    url = store.http_url("exposure.fits")
    for ending in ("parquet", "ecsv"):
        run("table", url, "--rows", "0:6", "-o", f"rows.{ending}", alone=True)
    run("table", url, "--rows", "0:6", "--columns", "id,flag,word,flux", "-o", "rows.csv")
    with truth() as file:
        expected = Table.read(file, hdu="CAT")[:6]
    found = parquet.read_table(run.folder / "rows.parquet")
    assert found["flag"].to_pylist() == expected["flag"].tolist(), "what is missing is null"
    assert found["id"].to_pylist() == expected["id"].tolist()
    assert found["word"].to_pylist() == [f"star{number}" for number in range(6)]
    assert found["pair"].to_pylist() == expected["pair"].tolist()
    assert found.schema.field("flux").metadata == {b"unit": b"Jy"}
    for name in ("rows.csv", "rows.ecsv"):
        again = Table.read(run.folder / name)
        assert again["id"].tolist() == expected["id"].tolist()
        assert again["flag"].tolist() == expected["flag"].tolist()
        assert np.array_equal(again["flux"], expected["flux"])


def test_columns_that_a_kind_of_file_can_not_have(run, store):
    url = store.http_url("exposure.fits")
    assert "columns have several: pair" in run("table", url, "-o", "rows.csv", code=1).stderr
    complex_ = run("table", store.http_url("all.fits"), "-o", "rows.parquet", code=1).stderr
    assert "complex numbers" in complex_
    assert (
        "can't be written as .ecsv"
        in run("table", store.http_url("all.fits"), "-o", "rows.ecsv", code=1).stderr
    )
    assert list(run.folder.iterdir()) == []


def test_no_table_and_no_such_column(run, store):
    assert "has no table" in run("table", store.http_url("sky.fits"), code=1).stderr
    assert (
        "did you mean flux"
        in run("table", store.http_url("exposure.fits"), "--columns", "fluxx", code=1).stderr
    )
    assert "is no table" in run("table", f"{store.http_url('exposure.fits')}[1]", code=1).stderr


# scan ------------------------------------------------------------------------------------------------------------------


def test_a_scan_is_an_index(run, store):
    pytest.importorskip("pyarrow")
    (run.folder / "urls.txt").write_text(f"# tonight\n{store.http_url('sky.fits')}\n\n")
    done = run("scan", "s3://sky/night/", "-", "--from-file", "urls.txt", "-k", "TELESCOP", "-o", "headers.parquet",
               stdin=store.http_url("exposure.fits") + "\n", alone=True)  # fmt: skip
    assert "wrote headers.parquet: 6 files, 18 HDUs" in done.stderr
    store.reset()
    url = store.http_url("exposure.fits")
    with open_fits(url, index=run.folder / "headers.parquet") as file:
        assert file["SCI"].header["CRVAL1"] == 10.0
    assert store.stats.requests == 0
    assert "is there already" in run("scan", url, "-o", "headers.parquet", code=1).stderr


def test_a_scan_in_which_files_fail(run, store):
    pytest.importorskip("pyarrow")
    done = run("scan", store.http_url("bad/page.fits"), store.http_url("bad/good.fits"), store.http_url("gone.fits"),
               "-o", "headers.parquet", code=1)  # fmt: skip
    assert "wrote headers.parquet: 1 file, 5 HDUs" in done.stderr
    assert "2 files could not be read" in done.stderr
    assert f"{store.http_url('gone.fits')}: NotFoundError" in done.stderr
    assert (run.folder / "headers.parquet").exists()


def test_scans_that_make_no_sense(run, store):
    assert "which files?" in run("scan", "-o", "headers.parquet", code=2).stderr
    assert "which cluster?" in run("scan", "x.fits", "--backend", "dask", "-o", "h.parquet", code=2).stderr
    assert "belongs to --backend dask" in run("scan", "x.fits", "--scheduler", "tcp://x:1", "-o", "h.parquet", code=2).stderr  # fmt: skip


# How it is reached -----------------------------------------------------------------------------------------------------


def test_a_presigned_link_on_standard_input(run, store):
    link = store.presigned_url("secret.fits")
    done = run("ls", "-", stdin=link + "\n", alone=True)
    assert "5 HDUs" in done.stdout
    secret = link.partition("?")[2]
    assert secret not in done.stdout + done.stderr
    assert "Signature" not in done.stdout + done.stderr
    assert "SCI" in run("header", "-", "--hdu", "1", stdin=link).stdout
    assert "no URL on standard input" in run("ls", "-", code=2).stderr


def test_a_password_on_the_command_line_is_refused(run, store):
    for command in (("ls",), ("header",), ("table",), ("scan", "-o", "h.parquet")):
        done = run(*command, "http://vera:stars@127.0.0.1/x.fits", code=2)
        assert "list of processes" in done.stderr
        assert "stars" not in done.stderr


def test_credentials_of_the_environment_and_none(run):
    assert "5 HDUs" in run("ls", "s3://sky/secret.fits", alone=True).stdout
    refused = run("ls", "s3://sky/secret.fits", "--anon", code=1).stderr
    assert "403" in refused
    assert "--requester-pays" in refused, "errors speak of options, not of arguments"
    assert "credentials=" not in refused
    nobody = run("ls", "s3://sky/sky.fits", AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    assert "no credentials were found for S3" in nobody.stderr


def test_the_whole_file_only_when_it_is_asked_for(run, store):
    store.ranges = "ignored"
    url = store.http_url("exposure.fits")
    assert "--whole-file" in run("header", f"{url}[1]", "-k", "CRVAL1", code=1).stderr
    assert "10.0" in run("header", f"{url}[1]", "-k", "CRVAL1", "--whole-file").stdout
    store.ranges = "ok"
    packed = store.http_url("exposure.fits.gz")
    assert "--whole-file" in run("ls", packed, code=1).stderr
    assert "5 HDUs" in run("ls", packed, "--whole-file").stdout
    run("cutout", packed, "--pixel", 50, 50, "--size-pixels", 8, "-o", "cut.fits", "--whole-file")
    with truth() as file, fits.open(run.folder / "cut.fits") as cut:
        assert np.array_equal(cut[0].data, file[1].data[46:54, 46:54])


def test_nothing_that_strangers_write_reaches_the_terminal_as_a_command(run, store):
    header = fits.PrimaryHDU().header
    header["OBJECT"] = "[/bold] [red]star"
    text = header.tostring().replace("red]star", "red]\x1b[2J")
    store.put("odd.fits", text.encode())
    done = run("header", store.http_url("odd.fits"), alone=True)
    assert "\x1b" not in done.stdout
    assert "[/bold] [red]?[2J" in done.stdout


def test_ctrl_c_ends_it_at_once(cli, store):
    store.latency_s = 30
    command = [sys.executable, "-m", "nuncius.cli", "fits", "ls", store.http_url("sky.fits")]
    with subprocess.Popen(command, env=cli.environment, stderr=subprocess.PIPE, text=True) as process:
        while not store.stats.max_in_flight:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert time.monotonic() - begun < 10  # no wait for what was asked; the machine may be busy
