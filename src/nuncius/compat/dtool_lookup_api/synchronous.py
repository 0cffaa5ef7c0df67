"""The documented functions, which wait for the answer, over one client that is shared (`calls.py` says what each does).

They work in a script, in threads and where an event loop is running, such as a notebook. Connections are kept.
"""

from __future__ import annotations

from nuncius.compat.dtool_lookup_api import calls, deprecated
from nuncius.compat.dtool_lookup_api.errors import LookupServerError
from nuncius.compat.dtool_lookup_api.paging import ASCENDING, DESCENDING
from nuncius.compat.dtool_lookup_api.sharing import blocking

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

get_config = blocking(calls.get_config)
get_versions = blocking(calls.get_versions)
get_datasets = blocking(calls.get_datasets)
get_dataset = blocking(calls.get_dataset)
register_dataset = blocking(calls.register_dataset)
delete_dataset = blocking(calls.delete_dataset)
get_datasets_by_uuid = blocking(calls.get_datasets_by_uuid)
get_readme = blocking(calls.get_readme)
get_manifest = blocking(calls.get_manifest)
get_tags = blocking(calls.get_tags)
get_annotations = blocking(calls.get_annotations)
get_users = blocking(calls.get_users)
get_user = blocking(calls.get_user)
get_me = blocking(calls.get_me)
register_user = blocking(calls.register_user)
delete_user = blocking(calls.delete_user)
get_summary = blocking(calls.get_summary)
get_my_summary = blocking(calls.get_my_summary)
get_base_uris = blocking(calls.get_base_uris)
get_base_uri = blocking(calls.get_base_uri)
register_base_uri = blocking(calls.register_base_uri)
delete_base_uri = blocking(calls.delete_base_uri)
get_datasets_by_mongo_query = blocking(calls.get_datasets_by_mongo_query)
get_datasets_by_mongo_aggregation = blocking(calls.get_datasets_by_mongo_aggregation)
get_graph_by_uuid = blocking(calls.get_graph_by_uuid)

# Out of date, and still documented.
config = blocking(deprecated.config)
versions = blocking(deprecated.versions)
all = blocking(deprecated.all)  # noqa: A001 - the documented name
search = blocking(deprecated.search)
lookup = blocking(deprecated.lookup)
by_uuid = blocking(deprecated.by_uuid)
readme = blocking(deprecated.readme)
manifest = blocking(deprecated.manifest)
list_users = blocking(deprecated.list_users)
user_info = blocking(deprecated.user_info)
summary = blocking(deprecated.summary)
list_base_uris = blocking(deprecated.list_base_uris)
aggregate = blocking(deprecated.aggregate)
query = blocking(deprecated.query)
by_query = blocking(deprecated.by_query)
graph = blocking(deprecated.graph)
