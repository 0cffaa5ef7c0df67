"""What can be asked: the documented functions, as operations on a conversation, from which all other forms are made.

Of each list one page is asked for, and only one. Lists take:

``page_number`` (1), ``page_size`` (10)
    Which page, from 1 on, and how long, up to 100.
``sort_fields``, ``sort_order``
    By which field, or fields, it is sorted, and `ASCENDING` (1) or `DESCENDING` (-1): one for all, or one for each.
``pagination``, ``sorting``
    Dictionaries of yours, which are emptied and filled with what the server says: such as
    ``{"total": 38, "total_pages": 4, "first_page": 1, "last_page": 4, "page": 1, "next_page": 2}`` and
    ``{"sort": {"uri": 1}}``.

Everything raises a `LookupServerError`, which is also the kind of `nuncius.errors` that says what is wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuncius._core.operations import Deadline
from nuncius.compat.dtool_lookup_api.paging import ASCENDING, Page, listed
from nuncius.datasets import accounts, operations, questions
from nuncius.datasets.listing import Question, header
from nuncius.datasets.service import place

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping, Sequence

    from nuncius._core.operations import Operation
    from nuncius.compat.dtool_lookup_api.service import LookupService

_URI = ("uri",)
_UPWARD = (ASCENDING,)


# The server ------------------------------------------------------------------------------------------------------------


def get_config(service: LookupService) -> Operation[dict[str, Any]]:
    """Return the settings of the server."""
    return (yield from _record(service, "config/info", "its configuration", under="config"))


def get_versions(service: LookupService) -> Operation[dict[str, str]]:
    """Return the versions of the server and its plugins; it takes no login."""
    return (yield from service.versions(Deadline(None)))


# Data sets -------------------------------------------------------------------------------------------------------------


def get_datasets(
    service: LookupService,
    free_text: str | None = None,
    creator_usernames: str | Iterable[str] | None = None,
    base_uris: str | Iterable[str] | None = None,
    uuids: str | Iterable[str] | None = None,
    tags: str | Iterable[str] | None = None,
    page_number: int = 1,
    page_size: int = 10,
    sort_fields: str | Sequence[str] = _URI,
    sort_order: int | Sequence[int] = _UPWARD,
    pagination: MutableMapping[str, Any] | None = None,
    sorting: MutableMapping[str, Any] | None = None,
) -> Operation[list[dict[str, Any]]]:
    """Return the data sets that meet all that is asked; all that you may see, if nothing is.

    Parameters
    ----------
    free_text : str, optional
        Words, of which one suffices; ``"a phrase"`` in quotes; ``-word`` that must not be there.
    creator_usernames, base_uris, uuids : list of str, optional
        Of which one has to fit.
    tags : list of str, optional
        Which all have to be there.
    page_number, page_size, sort_fields, sort_order, pagination, sorting : optional
        Which page, and in which order.

    Returns
    -------
    list of dict
        As the server gives them.
    """
    page = Page(page_number, page_size, sort_fields, sort_order, pagination, sorting)
    asked = questions.search(
        free_text,
        creator_usernames=creator_usernames,
        base_uris=base_uris,
        uuids=uuids,
        tags=tags,
        sort=page.fields,
    )
    return (yield from listed(service, asked, page))


def get_dataset(service: LookupService, uri: str) -> Operation[dict[str, Any]]:
    """Return what the server says of the data set with a URI."""
    return dict((yield from operations.data_set(service, uri, Deadline(None))))


def get_datasets_by_uuid(
    service: LookupService,
    uuid: str,
    page_number: int = 1,
    page_size: int = 10,
    sort_fields: str | Sequence[str] = _URI,
    sort_order: int | Sequence[int] = _UPWARD,
    pagination: MutableMapping[str, Any] | None = None,
    sorting: MutableMapping[str, Any] | None = None,
) -> Operation[list[dict[str, Any]]]:
    """Return the data sets with a UUID: one for each base URI at which there is a copy; none for an unknown one."""
    page = Page(page_number, page_size, sort_fields, sort_order, pagination, sorting)
    return (yield from listed(service, [questions.by_uuid(uuid)], page))


def register_dataset(
    service: LookupService,
    uri: str,
    base_uri: str,
    readme: str,
    manifest: Mapping[str, Any],
    uuid: str,
    name: str,
    type: str,  # noqa: A002 - the documented name
    creator_username: str,
    frozen_at: float | str,
    created_at: float | str | None,
    annotations: Mapping[str, Any],
    tags: Sequence[str],
    number_of_items: int | None,
    size_in_bytes: int | None,
) -> Operation[bool]:
    """Register a data set, or register it anew.

    Parameters
    ----------
    uri, base_uri, uuid, name, creator_username : str
        What it is called, and whose it is.
    readme : str
        Its readme.
    manifest : mapping
        Its manifest.
    type : str
        ``"dataset"``.
    frozen_at, created_at : float
        When, in seconds since 1970.
    annotations : mapping
        Its annotations.
    tags : list of str
        Its tags.
    number_of_items, size_in_bytes : int
        How large it is.

    Returns
    -------
    bool
        True.
    """
    values = {
        "uri": uri,
        "base_uri": base_uri,
        "readme": readme,
        "manifest": manifest,
        "uuid": uuid,
        "name": name,
        "type": type,
        "creator_username": creator_username,
        "frozen_at": frozen_at,
        "annotations": annotations,
        "tags": tags,
    }
    sizes = {"created_at": created_at, "number_of_items": number_of_items, "size_in_bytes": size_in_bytes}
    values |= {name: value for name, value in sizes.items() if value is not None}
    yield from accounts.register_data_set(service, values, Deadline(None))
    return True


def delete_dataset(service: LookupService, uri: str) -> Operation[bool]:
    """Take a data set off the server; its files stay. True, also where it wasn't there."""
    return (yield from _delete(service, f"uris/{place(uri)}", f"the data set {uri}"))


# What is in a data set -------------------------------------------------------------------------------------------------


def get_readme(service: LookupService, uri: str) -> Operation[str]:
    """Return the readme of a data set: a text, mostly YAML."""
    return str((yield from operations.readme(service, uri, Deadline(None))))


def get_manifest(service: LookupService, uri: str) -> Operation[dict[str, Any]]:
    """Return the manifest of a data set."""
    return dict((yield from operations.manifest(service, uri, Deadline(None))))


def get_tags(service: LookupService, uri: str) -> Operation[list[str]]:
    """Return the tags of a data set."""
    return (yield from operations.tags(service, uri, Deadline(None)))


def get_annotations(service: LookupService, uri: str) -> Operation[dict[str, Any]]:
    """Return the annotations of a data set, as the server gives them."""
    return dict((yield from operations.annotations_of(service, uri, Deadline(None), raw=True)))


# Users and base URIs ---------------------------------------------------------------------------------------------------


def get_users(
    service: LookupService,
    page_number: int = 1,
    page_size: int = 10,
    sort_fields: str | Sequence[str] = ("username",),
    sort_order: int | Sequence[int] = _UPWARD,
    pagination: MutableMapping[str, Any] | None = None,
    sorting: MutableMapping[str, Any] | None = None,
) -> Operation[list[dict[str, Any]]]:
    """Return the users; for administrators."""
    page = Page(page_number, page_size, sort_fields, sort_order, pagination, sorting)
    return (yield from listed(service, [Question("GET", "users", what="the list of users")], page))


def get_user(service: LookupService, username: str | None = None) -> Operation[dict[str, Any]]:
    """Return a user, and at which base URIs he may search and register; yourself without a name."""
    return (yield from _record(service, accounts.user_path(username), f"the user {username}"))


def get_me(service: LookupService) -> Operation[dict[str, Any]]:
    """Return who you are there."""
    return (yield from get_user(service))


def register_user(service: LookupService, username: str, is_admin: bool = False) -> Operation[bool]:
    """Register a user, or change one; for administrators. True."""
    values = {"username": username, "is_admin": is_admin}
    return (yield from _put(service, accounts.user_path(username, own=False), values, f"the user {username}"))


def delete_user(service: LookupService, username: str) -> Operation[bool]:
    """Delete a user; for administrators. True, also where there was none."""
    return (yield from _delete(service, accounts.user_path(username, own=False), f"the user {username}"))


def get_summary(service: LookupService, username: str | None = None) -> Operation[dict[str, Any]]:
    """Return how many data sets and bytes a user may see, by base URI, creator and tag; yours without a name."""
    path = accounts.user_path(username, summary=True)
    return (yield from _record(service, path, f"the summary of {username or 'yourself'}"))


def get_my_summary(service: LookupService) -> Operation[dict[str, Any]]:
    """Return how many data sets and bytes you may see."""
    return (yield from get_summary(service))


def get_base_uris(
    service: LookupService,
    page_number: int = 1,
    page_size: int = 10,
    sort_fields: str | Sequence[str] = ("base_uri",),
    sort_order: int | Sequence[int] = _UPWARD,
    pagination: MutableMapping[str, Any] | None = None,
    sorting: MutableMapping[str, Any] | None = None,
) -> Operation[list[dict[str, Any]]]:
    """Return the base URIs, each as ``{"base_uri": ...}``; for administrators."""
    page = Page(page_number, page_size, sort_fields, sort_order, pagination, sorting)
    return (yield from listed(service, [Question("GET", "base-uris", what="the list of base URIs")], page))


def get_base_uri(service: LookupService, base_uri: str) -> Operation[dict[str, Any]]:
    """Return who may search and who may register at a base URI."""
    return (yield from _record(service, f"base-uris/{place(base_uri)}", f"the base URI {base_uri}"))


def register_base_uri(
    service: LookupService,
    base_uri: str,
    users_with_search_permissions: Iterable[str] = (),
    users_with_register_permissions: Iterable[str] = (),
) -> Operation[bool]:
    """Register a base URI, or say anew who may search and register there; for administrators. True."""
    values = accounts.permissions(users_with_search_permissions, users_with_register_permissions)
    return (yield from _put(service, f"base-uris/{place(base_uri)}", values, f"the base URI {base_uri}"))


def delete_base_uri(service: LookupService, base_uri: str) -> Operation[bool]:
    """Delete a base URI; for administrators. True, also where there was none."""
    return (yield from _delete(service, f"base-uris/{place(base_uri)}", f"the base URI {base_uri}"))


# What plugins of the server answer -------------------------------------------------------------------------------------


def get_datasets_by_mongo_query(
    service: LookupService,
    query: Mapping[str, Any] | str,
    creator_usernames: str | Iterable[str] | None = None,
    base_uris: str | Iterable[str] | None = None,
    uuids: str | Iterable[str] | None = None,
    tags: str | Iterable[str] | None = None,
    page_number: int = 1,
    page_size: int = 10,
    sort_fields: str | Sequence[str] = _URI,
    sort_order: int | Sequence[int] = _UPWARD,
    pagination: MutableMapping[str, Any] | None = None,
    sorting: MutableMapping[str, Any] | None = None,
) -> Operation[list[dict[str, Any]]]:
    """Return the data sets that meet a query in MongoDB's language.

    The server does not sort them. Where all fit on one page they are sorted here, and `sorting` says so.

    Parameters
    ----------
    query : mapping or str
        Such as ``{"readme.owners.name": {"$regex": "^Testing"}}``, or the same as JSON.
    creator_usernames, base_uris, uuids, tags : list of str, optional
        See `get_datasets`.
    page_number, page_size, sort_fields, sort_order, pagination, sorting : optional
        Which page, and in which order.

    Returns
    -------
    list of dict
        As the server gives them.
    """
    page = Page(page_number, page_size, sort_fields, sort_order, pagination, sorting)
    asked = questions.query(
        query, creator_usernames=creator_usernames, base_uris=base_uris, uuids=uuids, tags=tags
    )
    return (yield from listed(service, asked, page))


def get_datasets_by_mongo_aggregation(
    service: LookupService,
    aggregation: Sequence[Mapping[str, Any]] | str,
    page_number: int = 1,
    page_size: int = 10,
    sort_fields: str | Sequence[str] = _URI,
    sort_order: int | Sequence[int] = _UPWARD,
    pagination: MutableMapping[str, Any] | None = None,
    sorting: MutableMapping[str, Any] | None = None,
) -> Operation[list[Any]]:
    """Run an aggregation on the server's MongoDB; how the result is sorted, its stages say.

    Parameters
    ----------
    aggregation : list of mapping or str
        Such as ``[{"$match": {"tags": "raw"}}, {"$count": "n"}]``, or the same as JSON.
    page_number, page_size, sort_fields, sort_order, pagination, sorting : optional
        Which page.

    Returns
    -------
    list
        What comes.
    """
    page = Page(page_number, page_size, sort_fields, sort_order, pagination, sorting)
    body = {"aggregation": questions.json_value(aggregation, "aggregation")}
    answer, response = yield from service.ask(
        "POST", "mongo/aggregate", Deadline(None), json=body, params=page.params, what="an aggregation"
    )
    if not isinstance(answer, list):
        raise service.strange("a list", answer)
    page.tell(header(response, "x-pagination"), header(response, "x-sort"), len(answer))
    return answer


def get_graph_by_uuid(
    service: LookupService,
    uuid: str,
    dependency_keys: str | Iterable[str] | None = None,
    page_number: int = 1,
    page_size: int = 10,
    sort_fields: str | Sequence[str] = _URI,
    sort_order: int | Sequence[int] = _UPWARD,
    pagination: MutableMapping[str, Any] | None = None,
    sorting: MutableMapping[str, Any] | None = None,
) -> Operation[list[dict[str, Any]]]:
    """Return the data sets that a data set was derived from, and those that were derived from it.

    Parameters
    ----------
    uuid : str
        The data set.
    dependency_keys : list of str, optional
        Where a data set says what it was derived from, such as ``"readme.derived_from.uuid"``; the server has defaults.
    page_number, page_size, sort_fields, sort_order, pagination, sorting : optional
        Which page, and in which order.

    Returns
    -------
    list of dict
        With ``derived_from``, a list of UUIDs, each once. It is empty for a UUID that the server's graph doesn't know.
    """
    page = Page(page_number, page_size, sort_fields, sort_order, pagination, sorting)
    rows = yield from listed(service, [questions.graph(uuid, dependency_keys)], page)
    found = [row for row in rows if row.get("uuid") is not None]
    if rows and not found:  # for "nothing" dservercore 0.22.0 has a row of null
        page.tell({"total": 0, "total_pages": 0}, {}, 0)
    for row in found:
        sources = row.get("derived_from")
        if isinstance(sources, list):
            row["derived_from"] = [uuid for n, uuid in enumerate(sources) if uuid not in sources[:n]]
    return found


def _record(
    service: LookupService, path: str, what: str, under: str | None = None
) -> Operation[dict[str, Any]]:
    return dict((yield from accounts.record(service, path, Deadline(None), what=what, under=under)))


def _put(service: LookupService, path: str, values: Mapping[str, Any], what: str) -> Operation[bool]:
    yield from accounts.put(service, path, values, Deadline(None), what)
    return True


def _delete(service: LookupService, path: str, what: str) -> Operation[bool]:
    yield from accounts.delete(service, path, Deadline(None), what)
    return True
