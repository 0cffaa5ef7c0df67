"""Names that are out of date and still documented. Each says by which other name it is replaced."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from nuncius.compat.dtool_lookup_api import calls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, MutableMapping

    from nuncius._core.operations import Operation
    from nuncius.compat.dtool_lookup_api.service import LookupService

P = ParamSpec("P")
T = TypeVar("T")


def _replaced_by(
    replacement: Callable[..., Any],
) -> Callable[
    [Callable[Concatenate[LookupService, P], Operation[T]]],
    Callable[Concatenate[LookupService, P], Operation[T]],
]:
    """Note what is to be used instead."""

    def mark(
        operation: Callable[Concatenate[LookupService, P], Operation[T]],
    ) -> Callable[Concatenate[LookupService, P], Operation[T]]:
        operation.replacement = replacement.__name__  # type: ignore[attr-defined]
        return operation

    return mark


def _old_name(
    name: str,
    operation: Callable[Concatenate[LookupService, P], Operation[T]],
    replacement: Callable[..., Any] | None = None,
) -> Callable[Concatenate[LookupService, P], Operation[T]]:
    """Return an operation under another name."""

    def renamed(service: LookupService, /, *args: P.args, **options: P.kwargs) -> Operation[T]:
        return operation(service, *args, **options)

    renamed.__name__, renamed.__doc__ = name, operation.__doc__
    renamed.__signature__ = inspect.signature(operation)  # type: ignore[attr-defined]
    return _replaced_by(replacement or operation)(renamed)


config = _old_name("config", calls.get_config)
versions = _old_name("versions", calls.get_versions)
readme = _old_name("readme", calls.get_readme)
manifest = _old_name("manifest", calls.get_manifest)
query = _old_name("query", calls.get_datasets_by_mongo_query)
by_query = _old_name("by_query", calls.get_datasets_by_mongo_query)
aggregate = _old_name("aggregate", calls.get_datasets_by_mongo_aggregation)


@_replaced_by(calls.get_datasets)
def all(  # noqa: A001 - the documented name
    service: LookupService,
    page_number: int = 1,
    page_size: int = 20,
    pagination: MutableMapping[str, Any] | None = None,
) -> Operation[list[dict[str, Any]]]:
    """Return the data sets that you may see."""
    return calls.get_datasets(service, page_number=page_number, page_size=page_size, pagination=pagination)


@_replaced_by(calls.get_datasets)
def search(
    service: LookupService,
    keyword: str,
    page_number: int = 1,
    page_size: int = 10,
    pagination: MutableMapping[str, Any] | None = None,
) -> Operation[list[dict[str, Any]]]:
    """Return the data sets that a free text finds."""
    return calls.get_datasets(
        service, keyword, page_number=page_number, page_size=page_size, pagination=pagination
    )


@_replaced_by(calls.get_datasets_by_uuid)
def lookup(
    service: LookupService,
    uuid: str,
    page_number: int = 1,
    page_size: int = 10,
    pagination: MutableMapping[str, Any] | None = None,
) -> Operation[list[dict[str, Any]]]:
    """Return the data sets with a UUID."""
    return calls.get_datasets_by_uuid(service, uuid, page_number, page_size, pagination=pagination)


by_uuid = _old_name("by_uuid", lookup, calls.get_datasets_by_uuid)


@_replaced_by(calls.get_users)
def list_users(
    service: LookupService,
    page_number: int = 1,
    page_size: int = 10,
    pagination: MutableMapping[str, Any] | None = None,
) -> Operation[list[dict[str, Any]]]:
    """Return the users; for administrators."""
    return calls.get_users(service, page_number, page_size, pagination=pagination)


@_replaced_by(calls.get_user)
def user_info(service: LookupService, username: str) -> Operation[dict[str, Any]]:
    """Return a user."""
    return calls.get_user(service, username)


@_replaced_by(calls.get_summary)
def summary(service: LookupService) -> Operation[dict[str, Any]]:
    """Return how many data sets and bytes you may see."""
    return calls.get_summary(service)


@_replaced_by(calls.get_base_uris)
def list_base_uris(
    service: LookupService,
    page_number: int = 1,
    page_size: int = 10,
    pagination: MutableMapping[str, Any] | None = None,
) -> Operation[list[dict[str, Any]]]:
    """Return the base URIs; for administrators."""
    return calls.get_base_uris(service, page_number, page_size, pagination=pagination)


@_replaced_by(calls.get_graph_by_uuid)
def graph(
    service: LookupService,
    uuid: str,
    dependency_keys: str | Iterable[str] | None = None,
    page_number: int = 1,
    page_size: int = 10,
    pagination: MutableMapping[str, Any] | None = None,
) -> Operation[list[dict[str, Any]]]:
    """Return the data sets that a data set was derived from, and those that were derived from it."""
    return calls.get_graph_by_uuid(
        service, uuid, dependency_keys, page_number, page_size, pagination=pagination
    )
