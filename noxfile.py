"""Checks in environments of their own: `nox -l` lists them, `nox -s NAME` runs one.

`.ci/run` runs the same sessions in one environment that it has made (`--no-venv --no-install`).
"""

from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["lint", "types", "imports", "docs", "tests"]
nox.options.error_on_missing_interpreters = False

PYTHONS = ["3.11", "3.12", "3.13"]
PEERS = ["kafka", "penquins", "mongodb", "hop", "antares", "dserver", "lsdb", "stores", "stores_google",
         "pittgoogle", "tom"]  # fmt: skip
TOOLS = nox.project.load_toml("pyproject.toml")["project"]["optional-dependencies"]["dev"]


def tool(name):
    """Return the requirement of one tool, as pyproject.toml has it."""
    return next(requirement for requirement in TOOLS if requirement.startswith(name))


@nox.session
def lint(session):
    """Style, form, and the sync twins of the async modules."""
    session.install(tool("ruff"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("python", "tools/make_sync.py", "--check")


@nox.session
def types(session):
    """Types, strictly."""
    session.install("-e", ".", tool("mypy"))
    session.run("mypy")


@nox.session
def imports(session):
    """Who may import whom."""
    session.install("-e", ".", "import-linter")
    session.run("lint-imports", "--no-cache")


@nox.session(python=PYTHONS)
def tests(session):
    """All tests, on each Python that is there; further arguments go to pytest."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(python="3.11")
def lowest(session):
    """The unit tests with the lowest versions of all dependencies."""
    session.install("-c", "tests/lowest.txt", "-e", ".[test]")
    session.run("python", "-m", "pytest", "tests/unit", *session.posargs)


@nox.session
def docs(session):
    """The documentation, warnings being errors; it is then in docs/_build/html."""
    session.install("-e", ".[docs]")
    session.run("sphinx-build", "-W", "--keep-going", "-q", "-E", "-b", "html", "docs", "docs/_build/html")


@nox.session(python="3.11")
def fuzz(session):
    """The compiled decoder under sanitizers, for 3 minutes or as many seconds as are given (needs clang and Python.h)."""
    session.install("-e", ".", "atheris>=3")
    session.run("python", "tests/fuzz/run_fuzzer.py", *(session.posargs or ["180"]))


@nox.session
def bounds(session):
    """Each bound of the compiled decoder taken out: a test must fail each time (needs a C compiler, takes minutes)."""
    session.install("-e", ".[test]")
    files = ("tests/unit/test_avro_mutants.py", "tests/unit/test_avro_references.py")
    session.run("python", "-m", "pytest", *files, env={"NUNCIUS_TEST_BOUNDS": "1"})


@nox.session
def benchmarks(session):
    """How fast it is; the figures are printed and judged by a reader."""
    session.install("-e", ".[test]", "aiohttp", "s3fs>=2024", "fitsio", "dtool-lookup-api==0.10.3")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def package(session):
    """What would be published: built, checked, installed and imported."""
    session.install(tool("build"), tool("twine"))
    folder = Path(session.create_tmp()).absolute() / "dist"
    for old in folder.glob("*"):
        old.unlink()
    session.run("python", "-m", "build", "--outdir", str(folder))
    session.run("twine", "check", "--strict", *map(str, folder.iterdir()))
    session.install(*map(str, folder.glob("*.whl")))
    session.chdir(folder)  # so that it is the wheel that is imported
    session.run("nuncius", "--help", silent=True)


@nox.session
def kafka(session):
    """Against a real Apache Kafka (needs Java 17 and Maven)."""
    session.install("-e", ".[test]")
    run_peer(session, "kafka")


@nox.session
def penquins(session):
    """The real penquins against our server, and the same calls through ours."""
    session.install("-e", ".[test]", "penquins==2.4.2")
    run_peer(session, "penquins")


@nox.session
def mongodb(session):
    """Against a server with MongoDB's protocol, FerretDB (needs Go)."""
    session.install("-e", ".[test]")
    run_peer(session, "mongodb")


@nox.session
def hop(session):
    """What the real hop-client serialises, read as a Hopskotch stream."""
    session.install("-e", ".[test]", "hop-client==0.13.0", "six")  # which it needs and doesn't ask for
    run_peer(session, "hop")


@nox.session
def antares(session):
    """The real antares-client on the sandbox's ANTARES."""
    session.install("-e", ".[test]")
    run_peer(session, "antares")


@nox.session
def dserver(session):
    """The same questions to the real dserver, in an environment of its own, and to the sandbox's."""
    session.install("-e", ".[test]")
    run_peer(session, "dserver")


@nox.session
def lsdb(session):
    """What is exported, read and cross-matched by lsdb on a Dask cluster."""
    session.install("-e", ".[test]", "lsdb>=0.6")
    run_peer(session, "lsdb")


@nox.session
def pittgoogle(session):
    """The real pittgoogle-client on the sandbox's Pub/Sub server."""
    session.install("-e", ".[test]", "pittgoogle-client==0.3.23")
    run_peer(session, "pittgoogle")


@nox.session
def tom(session):
    """Real TOM projects on three generations of the TOM Toolkit, in a real browser (chromium)."""
    session.install("-e", ".[test]", "uv", "playwright")
    run_peer(session, "tom", "3")  # a process for each generation


@nox.session
def stores(session):
    """Real stores and clients: moto, Azurite (needs node and npm), boto3, s3fs, adlfs, astropy with fsspec."""
    session.install("-e", ".[test]")
    run_peer(session, "stores")


@nox.session
def stores_google(session):
    """Against a server with the interfaces of Google's store, fake-gcs-server (needs Go; its build takes minutes)."""
    session.install("-e", ".[test]")
    folder = Path(session.create_tmp()).absolute()
    go = {"GOBIN": str(folder)}
    session.run("go", "install", "github.com/fsouza/fake-gcs-server@v1.56.1", env=go, external=True)
    env = {"NUNCIUS_TEST_STORES": "1", "NUNCIUS_FAKE_GCS": str(folder / "fake-gcs-server")}
    session.run(
        "python", "-m", "pytest", "-n", "0", "tests/peers/stores/test_google.py", *session.posargs, env=env
    )


def run_peer(session, name, processes="0"):
    """Run the tests in tests/peers of that name."""
    env = {f"NUNCIUS_TEST_{name.upper()}": "1"}
    session.run("python", "-m", "pytest", "-n", processes, f"tests/peers/{name}", *session.posargs, env=env)


@nox.session
def nightly(session):
    """All that takes too long for every change: every Python, lowest versions, peers, an hour of fuzzing, benchmarks."""
    for python in PYTHONS:
        session.notify(f"tests-{python}")
    for name in ("lowest", *PEERS, "package", "benchmarks"):
        session.notify(name)
    session.notify("fuzz", posargs=["3600"])
