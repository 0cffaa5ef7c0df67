"""What can be asked of a dserver, as operations: each is one request, unless it says otherwise."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nuncius._core.jsontext import read_json
from nuncius._core.operations import Gather, Request
from nuncius._core.retry import send
from nuncius.datasets import questions
from nuncius.datasets.graph import Graph
from nuncius.datasets.listing import (
    LARGEST_PAGE,
    check_page_number,
    check_page_size,
    header,
    is_last,
    sorting_of,
    whole,
    whole_list,
)
from nuncius.datasets.service import parsed, place
from nuncius.datasets.values import DataSet, DataSets, Details, Manifest, Readme, Record, annotation
from nuncius.errors import (
    ConfigurationError,
    NotFoundError,
    NunciusError,
    ServerError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nuncius._core.operations import Deadline, Operation, Outcome
    from nuncius.datasets.listing import Question
    from nuncius.datasets.manifests import ManifestCache
    from nuncius.datasets.places import Item
    from nuncius.datasets.service import DServerService

PARTS = ("readme", "manifest", "tags", "annotations", "data_set")
SIDE_BY_SIDE = 8


# Data sets -------------------------------------------------------------------------------------------------------------


def pages(
    service: DServerService, asked: Sequence[Question], size: int, timeout: Callable[[], Deadline]
) -> Operation[DataSets]:
    """Read all pages of one or several questions; each data set comes once."""
    if len(asked) > 1:
        yield from service.pass_of(timeout())  # see many
    outcomes = yield Gather(
        [whole_list(service, question, size, timeout) for question in asked], SIDE_BY_SIDE
    )
    lists: list[tuple[list[DataSet], dict[str, int]]] = [outcome.result() for outcome in outcomes]
    found = {
        row["uri"] if isinstance(row.get("uri"), str) else id(row): row for rows, _ in lists for row in rows
    }
    if len(lists) == 1:
        return DataSets(found.values(), sorting=lists[0][1])
    # Each answer is sorted by the server, but not all of them together.
    return questions.sorted_by(DataSets(found.values()), asked[0].params.get("sort") if asked else None)


def one_page(
    service: DServerService, question: Question, number: int, size: int, deadline: Deadline
) -> Operation[DataSets]:
    """Read one page; one past the end is empty."""
    check_page_number(number)
    try:
        found, response = yield from question.page(service, number, check_page_size(size), deadline)
        pagination = header(response, "x-pagination")
    except NotFoundError:
        if number == 1:
            raise
        # That answer doesn't say how many there are: the first page does.
        _, response = yield from question.page(service, 1, size, deadline)
        said = header(response, "x-pagination")
        found, pagination = [], {name: said[name] for name in said if name not in {"page", "next_page"}}
    return DataSets(
        found, pagination=pagination, sorting=sorting_of(response), total=whole(pagination.get("total"))
    )


def cut_page(found: DataSets, number: int, size: int) -> DataSets:
    """Return one page of what was read whole."""
    begin = (check_page_number(number) - 1) * check_page_size(size)
    return DataSets(
        found[begin : begin + size],
        pagination=_pagination(len(found), number, size),
        sorting=found.sorting,
        total=len(found),
    )


def _pagination(total: int, number: int, size: int) -> dict[str, int]:
    """Return what a server would say of a page that was cut here."""
    last = -(-total // size)
    said = {"total": total, "total_pages": last}
    if total:
        said |= {"first_page": 1, "last_page": last}
    if number <= last:
        said["page"] = number
        if number > 1:
            said["previous_page"] = number - 1
        if number < last:
            said["next_page"] = number + 1
    return said


def data_set(service: DServerService, uri: str, deadline: Deadline) -> Operation[DataSet]:
    """Return what the server says of a data set."""
    answer, _ = yield from service.ask("GET", f"uris/{place(uri)}", deadline, what=uri)
    return DataSet(service.mapping(answer))


def readme(service: DServerService, uri: str, deadline: Deadline) -> Operation[Readme]:
    """Return a readme."""
    answer, _ = yield from service.ask("GET", f"readmes/{place(uri)}", deadline, what=uri)
    text = answer.get("readme") if isinstance(answer, dict) else None
    if not isinstance(text, str):
        raise service.strange("a readme", answer)
    return Readme(text)


def manifest(
    service: DServerService,
    uri: str,
    deadline: Deadline,
    cache: ManifestCache | None = None,
    frozen_at: object = None,
) -> Operation[Manifest]:
    """Return a manifest; one that was read before without any request, if it is known when the data set was frozen."""
    if cache is not None and frozen_at is not None and (body := cache.get(uri, frozen_at)) is not None:
        return Manifest((yield from parsed(body)), uri, service.config_file)
    answer, response = yield from service.ask("GET", f"manifests/{place(uri)}", deadline, what=uri)
    found = Manifest(service.mapping(answer), uri, service.config_file)
    if cache is not None and frozen_at is not None:
        cache.put(uri, frozen_at, response.body)
    return found


def tags(service: DServerService, uri: str, deadline: Deadline) -> Operation[list[str]]:
    """Return the tags of a data set."""
    answer, _ = yield from service.ask("GET", f"tags/{place(uri)}", deadline, what=uri)
    found = answer.get("tags") if isinstance(answer, dict) else None
    if not isinstance(found, list):
        raise service.strange("a list of tags", answer)
    return found


def annotations_of(
    service: DServerService, uri: str, deadline: Deadline, *, raw: bool = False
) -> Operation[Record]:
    """Return the annotations of a data set; raw ones as the server writes them."""
    answer, _ = yield from service.ask("GET", f"annotations/{place(uri)}", deadline, what=uri)
    found = service.mapping(answer, "annotations")
    return Record(found if raw else {name: annotation(value) for name, value in found.items()})


def check_parts(what: str | Sequence[str], limit: int) -> tuple[str, ...]:
    """Return which parts are wanted, each once.

    Raises
    ------
    ConfigurationError
        If there is no such part, or the limit is none.
    """
    parts = tuple(dict.fromkeys([what] if isinstance(what, str) or not isinstance(what, Iterable) else what))
    if not parts or not all(part in PARTS for part in parts):
        raise ConfigurationError(f"what={what!r}: parts of a data set are {', '.join(PARTS)}")
    if not isinstance(limit, int) or limit < 1:
        raise ConfigurationError(f"limit={limit!r}: at least 1 request runs at a time")
    return parts


def many(
    service: DServerService,
    uris: Sequence[tuple[str, object]],
    what: Sequence[str],
    limit: int,
    timeout: Callable[[], Deadline],
    cache: ManifestCache | None,
    done: Callable[[int], None],
) -> Operation[list[Details]]:
    """Return parts of many data sets, asked side by side, in the order asked; one request a part."""
    asks: dict[str, Callable[[str, object], Operation[Any]]] = {
        "readme": lambda uri, _: readme(service, uri, timeout()),
        "manifest": lambda uri, frozen_at: manifest(service, uri, timeout(), cache, frozen_at),
        "tags": lambda uri, _: tags(service, uri, timeout()),
        "annotations": lambda uri, _: annotations_of(service, uri, timeout()),
        "data_set": lambda uri, _: data_set(service, uri, timeout()),
    }

    def part_of(uri: str, frozen_at: object, part: str) -> Operation[Any]:
        return (yield from asks[part](uri, frozen_at))  # its time begins when it does

    wanted = [(uri, frozen_at, part) for uri, frozen_at in uris for part in what]
    if wanted:
        # A login that is refused is refused once, not once for each: accounts are locked for less.
        yield from service.pass_of(timeout())
    outcomes: list[Outcome] = yield Gather(
        [_told(part_of(uri, frozen_at, part), done) for uri, frozen_at, part in wanted], limit
    )
    found = [Details(uri=uri, errors={}) for uri, _ in uris]
    for number, outcome in enumerate(outcomes):
        details, part = found[number // len(what)], what[number % len(what)]
        if outcome.error is None:
            details[part] = outcome.value
        elif isinstance(outcome.error, NunciusError):
            details["errors"][part] = outcome.error
        else:
            raise outcome.error
    return found


def _told(operation: Operation[Any], done: Callable[[int], None]) -> Operation[Any]:
    """Run an operation and tell that it has ended."""
    try:
        return (yield from operation)
    finally:
        done(1)


# Items -----------------------------------------------------------------------------------------------------------------


def items(
    service: DServerService,
    uri: str,
    timeout: Callable[[], Deadline],
    cache: ManifestCache | None,
    frozen_at: object = None,
) -> Operation[list[Item]]:
    """Return the items of a data set; of one that is published on the web, its list of addresses is read as well."""
    files = (yield from manifest(service, uri, timeout(), cache, frozen_at)).files
    if uri.partition("://")[0].lower() not in {"http", "https"} or not files:
        return files
    links = yield from _published(service, uri, timeout())
    return [replace(item, link=links.get(item.identifier)) for item in files]


def _published(service: DServerService, uri: str, deadline: Deadline) -> Operation[dict[str, str]]:
    """Return where the items of a published data set are, by identifier; nobody's token is sent there."""
    url = f"{uri.rstrip('/')}/http_manifest.json"
    response = yield from send(Request("GET", url, timeout_s=service.timeout_s), deadline, reads=True)
    try:
        links = read_json(response.body)["item_urls"] if response.status == 200 else {}
        return {
            str(name): link
            for name, link in links.items()
            # A stranger's list may not point at our own files or buckets.
            if isinstance(link, str) and link.lower().startswith(("https://", "http://"))
        }
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ServerError(f"{url} is not what dtool publishes: it has no item_urls", url=url) from error


def find_items(
    service: DServerService,
    pattern: str,
    data_sets: Sequence[tuple[str, object]],
    timeout: Callable[[], Deadline],
    cache: ManifestCache | None,
    done: Callable[[int], None],
) -> Operation[tuple[list[Item], dict[str, NunciusError]]]:
    """Return the items of data sets whose names match a pattern, and what went wrong, by URI."""
    if data_sets:
        yield from service.pass_of(timeout())  # see many

    def fitting(uri: str, frozen_at: object) -> Operation[list[Item]]:
        found = yield from items(service, uri, timeout, cache, frozen_at)
        return [item for item in found if matches(item, pattern)]  # the others are let go at once

    outcomes = yield Gather([_told(fitting(*named), done) for named in data_sets], SIDE_BY_SIDE)
    found: list[Item] = []
    failed: dict[str, NunciusError] = {}
    for (uri, _), outcome in zip(data_sets, outcomes, strict=True):
        if isinstance(outcome.error, NunciusError):
            failed[uri] = outcome.error
        else:
            found += outcome.result()
    return found, failed


def matches(item: Item, pattern: str) -> bool:
    """Tell whether a pattern matches the name of an item; with a slash in it, its whole path."""
    return fnmatch.fnmatchcase(item.relpath if "/" in pattern else item.name, pattern)


# MongoDB, graph --------------------------------------------------------------------------------------------------------


def aggregate(service: DServerService, stages: Any, timeout: Callable[[], Deadline]) -> Operation[list[Any]]:
    """Run an aggregation on the server's MongoDB; its result comes in pages too."""
    found: list[Any] = []
    number = 1
    while True:
        params = {"page": number, "page_size": LARGEST_PAGE}
        answer, response = yield from service.ask(
            "POST",
            "mongo/aggregate",
            timeout(),
            json={"aggregation": stages},
            params=params,
            what="an aggregation",
        )
        if not isinstance(answer, list):
            raise service.strange("a list", answer)
        found += answer
        if is_last(header(response, "x-pagination"), number, len(answer), LARGEST_PAGE):
            return found
        number += 1


def graph(
    service: DServerService,
    uuid: str,
    dependency_keys: str | Iterable[str] | None,
    timeout: Callable[[], Deadline],
) -> Operation[Graph]:
    """Return what a data set was derived from, and what from it; where there is nothing, one more request says why."""
    found = yield from pages(service, [questions.graph(uuid, dependency_keys)], LARGEST_PAGE, timeout)
    rows = [row for row in found if row.get("uuid") is not None]
    if rows:
        return Graph(rows, uuid)
    known = yield from pages(service, [questions.by_uuid(uuid)], LARGEST_PAGE, timeout)
    if not known:
        raise NotFoundError(f"{service.base} has no data set {uuid}", url=service.base, position=uuid)
    raise UnsupportedError(
        f"{service.base} has the data set {uuid}, but its dependency graph doesn't know it: the servers of that version "
        "leave out data sets that were registered over HTTP. What it was derived from stands in its readme or annotations",
        service=service.service,
        url=service.base,
    )
