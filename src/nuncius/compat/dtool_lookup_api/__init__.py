"""dserver as users of dtool-lookup-api know it.

Where a program has ``from dtool_lookup_api import query``, write::

    from nuncius.compat.dtool_lookup_api import query

and nothing else changes: the same functions, here and in `synchronous` and, to be awaited, in `asynchronous`; the same
classes in `core.LookupClient`, and `core.config.Config`. What is better:

- The functions that wait work in notebooks too, where an event loop is running, and in threads.
- Connections are kept, a token is renewed when it ends, and nothing is asked only to try a token: a call is one request.
- What goes wrong is raised, typed (`nuncius.errors`), and is still a `LookupServerError`, or the RuntimeError of before.
- ``DSERVER_TOKEN`` and ``DSERVER_DISABLE_AUTHENTICATION`` work in the environment. dtool's configuration file is never
  written; what is assigned to `Config` lasts as long as the program.
- URIs with spaces, pluses and other alphabets; two fields sorted by one order; `pagination` that doesn't leak.

New programs have more from `nuncius.open_dserver`: all pages, many at a time, parsed readmes, the items and their pixels.
"""

from __future__ import annotations

from nuncius.compat.dtool_lookup_api import asynchronous, synchronous
from nuncius.compat.dtool_lookup_api.errors import LookupServerError
from nuncius.compat.dtool_lookup_api.paging import ASCENDING, DESCENDING
from nuncius.compat.dtool_lookup_api.synchronous import (
    aggregate,
    all,  # noqa: A004 - the documented name
    by_query,
    by_uuid,
    config,
    delete_base_uri,
    delete_dataset,
    delete_user,
    get_annotations,
    get_base_uri,
    get_base_uris,
    get_config,
    get_dataset,
    get_datasets,
    get_datasets_by_mongo_aggregation,
    get_datasets_by_mongo_query,
    get_datasets_by_uuid,
    get_graph_by_uuid,
    get_manifest,
    get_me,
    get_my_summary,
    get_readme,
    get_summary,
    get_tags,
    get_user,
    get_users,
    get_versions,
    graph,
    list_base_uris,
    list_users,
    lookup,
    manifest,
    query,
    readme,
    register_base_uri,
    register_dataset,
    register_user,
    search,
    summary,
    user_info,
    versions,
)

__all__ = [
    "ASCENDING",
    "DESCENDING",
    "LookupServerError",
    "__version__",
    "aggregate",
    "all",
    "asynchronous",
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
    "synchronous",
    "user_info",
    "versions",
]

__version__ = "0.10.3"  # of the interface that is offered here
