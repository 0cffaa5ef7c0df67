"""A FITS file in memory that counts how it is read, and the operations run by hand: no socket, no loop."""

from __future__ import annotations

from nuncius._core.operations import Call, Gather, Outcome, Piece, ReadRange
from nuncius.cloudfits.ranges import Reader, Stats
from nuncius.cloudfits.walk import walk
from nuncius.errors import FileChangedError


class MemoryFile:
    """A source of bytes; `ranges` is what was asked for, `waves` how much of it side by side."""

    url = "memory://sky/file.fits"

    def __init__(self, data, etag="v1"):
        self.data = data
        self.etag = etag
        self.ranges = []
        self.waves = []

    def answer(self, need):
        self.ranges.append((need.start, need.end))
        if need.etag not in (None, self.etag):
            raise FileChangedError("replaced", url=self.url)
        end = len(self.data) if need.end is None else need.end
        return Piece(bytes(self.data[need.start : end]), len(self.data), self.etag)


def run(operation, file):
    """Run an operation, answering what it asks of a file."""
    result = error = None
    try:
        while True:
            need = operation.send(result) if error is None else operation.throw(error)
            result = error = None
            try:
                result = _meet(need, file)
            except Exception as problem:
                error = problem
    except StopIteration as end:
        return end.value


def _meet(need, file):
    match need:
        case ReadRange():
            return file.answer(need)
        case Call():
            return need.function(*need.args)
        case Gather():
            file.waves.append(len(need.operations))
            outcomes = []
            for operation in need.operations:
                try:
                    outcomes.append(Outcome(run(operation, file)))
                except Exception as problem:
                    outcomes.append(Outcome(error=problem))
            return outcomes
        case _:
            raise AssertionError(f"nothing reads files by {need!r}")


def opened(data, **options):
    """Walk through a file; return its description, a reader for its data, and the source."""
    source, stats = MemoryFile(data), Stats()
    walked = run(walk(source, stats=stats, **options), source)
    reader = Reader(source, size=len(data), etag=walked.file.etag, head=walked.head, stats=stats)
    return walked.file, reader, source
