"""The dependency graph: what a data set is derived from, and what is derived from it, as far as it goes.

The rows are those of the aggregation of the real plugin, with its oddities: a row of null where nothing is found, one
hit for each UUID, and the same UUID several times in `derived_from`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nuncius.sandbox.dserver.world import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KEYS = ("readme.derived_from.uuid", "annotations.source_dataset_uuid")
_HEX = "[0-9a-fA-F]"
_VERSION_4 = re.compile(f"{_HEX}{{8}}-{_HEX}{{4}}-4{_HEX}{{3}}-[89abAB]{_HEX}{{3}}-{_HEX}{{12}}")


def dependency_rows(
    documents: Sequence[Mapping[str, Any]], uuid: str, keys: Sequence[str], base_uris: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the data sets that are connected with one, sorted by UUID.

    Parameters
    ----------
    documents : sequence of mapping
        The documents of the direct plugin.
    uuid : str
        Where to begin; what came by PUT has no UUID in text and is never found.
    keys : sequence of str
        Where the documents say what they are derived from.
    base_uris : sequence of str
        What the user may search. The way may lead through other data sets, but those are not shown.
    """
    links: dict[str, set[str]] = defaultdict(set)
    for document in documents:
        for source in _sources(document, keys):
            if _is_node(document["uuid"]) and isinstance(source, str):
                links[document["uuid"]].add(source)
                links[source].add(document["uuid"])
    begins = [each for each in documents if each["uuid"] == uuid and each["base_uri"] in base_uris]
    connected = _connected(links, uuid) if begins and _is_node(uuid) else set()
    hits: dict[str, dict[str, Any]] = {}
    for document in documents:
        name = document["uuid"]
        if name in connected and document["base_uri"] in base_uris:
            before = hits.get(name, {}).get("derived_from", [])
            sources = [*_sources(document, keys)] * len(begins)
            hits[name] = {**shown(document), "derived_from": [*before, *sources]}
    return [hits[name] for name in sorted(hits)] or [{"uuid": None, "derived_from": []}]


def _is_node(uuid: Any) -> bool:
    return isinstance(uuid, str) and _VERSION_4.search(uuid) is not None


def _connected(links: Mapping[str, set[str]], start: str) -> set[str]:
    reached, waiting = {start}, [start]
    while waiting:
        news = {name for name in links.get(waiting.pop(), ()) if _is_node(name)} - reached
        reached |= news
        waiting.extend(news)
    return reached


def _sources(document: Mapping[str, Any], keys: Sequence[str]) -> Iterator[Any]:
    for key in keys:
        yield from _at(document, key.split("."))


def _at(value: Any, names: Sequence[str]) -> Iterator[Any]:
    """Give the values at a path, of lists each element."""
    for item in value if isinstance(value, list) else [value]:
        if not names:
            yield item
        elif isinstance(item, Mapping) and names[0] in item:
            yield from _at(item[names[0]], names[1:])
