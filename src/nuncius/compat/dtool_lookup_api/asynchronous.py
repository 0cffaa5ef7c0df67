"""The documented functions as coroutines, over one client that is shared (`calls.py` says what each of them does).

They work in any event loop: ``await query(...)`` in a notebook, ``asyncio.run(query(...))`` in a script, as often as one
likes. Connections are kept as long as their loop runs.
"""

from __future__ import annotations

from nuncius.compat.dtool_lookup_api import calls, deprecated
from nuncius.compat.dtool_lookup_api.errors import LookupServerError
from nuncius.compat.dtool_lookup_api.paging import ASCENDING, DESCENDING
from nuncius.compat.dtool_lookup_api.sharing import awaited

__all__ = [
    "ASCENDING",
    "DESCENDING",
    "LookupServerError",
    "aggregate",
    "all",
    "by_query",
    "by_uuid",
    "config",
    "delete_base_uri",
    "delete_dataset",
    "delete_user",
    "get_annotations",
    "get_base_uri",
    "get_base_uris",
    "get_config",
    "get_dataset",
    "get_datasets",
    "get_datasets_by_mongo_aggregation",
    "get_datasets_by_mongo_query",
    "get_datasets_by_uuid",
    "get_graph_by_uuid",
    "get_manifest",
    "get_me",
    "get_my_summary",
    "get_readme",
    "get_summary",
    "get_tags",
    "get_user",
    "get_users",
    "get_versions",
    "graph",
    "list_base_uris",
    "list_users",
    "lookup",
    "manifest",
    "query",
    "readme",
    "register_base_uri",
    "register_dataset",
    "register_user",
    "search",
    "summary",
    "user_info",
    "versions",
]

get_config = awaited(calls.get_config)
get_versions = awaited(calls.get_versions)
get_datasets = awaited(calls.get_datasets)
get_dataset = awaited(calls.get_dataset)
register_dataset = awaited(calls.register_dataset)
delete_dataset = awaited(calls.delete_dataset)
get_datasets_by_uuid = awaited(calls.get_datasets_by_uuid)
get_readme = awaited(calls.get_readme)
get_manifest = awaited(calls.get_manifest)
get_tags = awaited(calls.get_tags)
get_annotations = awaited(calls.get_annotations)
get_users = awaited(calls.get_users)
get_user = awaited(calls.get_user)
get_me = awaited(calls.get_me)
register_user = awaited(calls.register_user)
delete_user = awaited(calls.delete_user)
get_summary = awaited(calls.get_summary)
get_my_summary = awaited(calls.get_my_summary)
get_base_uris = awaited(calls.get_base_uris)
get_base_uri = awaited(calls.get_base_uri)
register_base_uri = awaited(calls.register_base_uri)
delete_base_uri = awaited(calls.delete_base_uri)
get_datasets_by_mongo_query = awaited(calls.get_datasets_by_mongo_query)
get_datasets_by_mongo_aggregation = awaited(calls.get_datasets_by_mongo_aggregation)
get_graph_by_uuid = awaited(calls.get_graph_by_uuid)

# Out of date, and still documented.
config = awaited(deprecated.config)
versions = awaited(deprecated.versions)
all = awaited(deprecated.all)  # noqa: A001 - the documented name
search = awaited(deprecated.search)
lookup = awaited(deprecated.lookup)
by_uuid = awaited(deprecated.by_uuid)
readme = awaited(deprecated.readme)
manifest = awaited(deprecated.manifest)
list_users = awaited(deprecated.list_users)
user_info = awaited(deprecated.user_info)
summary = awaited(deprecated.summary)
list_base_uris = awaited(deprecated.list_base_uris)
aggregate = awaited(deprecated.aggregate)
query = awaited(deprecated.query)
by_query = awaited(deprecated.by_query)
graph = awaited(deprecated.graph)
