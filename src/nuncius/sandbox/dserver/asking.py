"""A request as the routes see it: who asks, for what; and the switches of the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from nuncius.sandbox.dserver.answers import RefusedError
from nuncius.sandbox.dserver.fields import body_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from starlette.responses import Response

    from nuncius.sandbox.dserver.fields import Check, Query
    from nuncius.sandbox.dserver.tokens import Tokens
    from nuncius.sandbox.dserver.world import World

    Handler: TypeAlias = Callable[["Asked"], Response]
    Routes: TypeAlias = list[tuple[str, str, Handler]]

DEFAULT_USER = "testuser"
DIRECT, GRAPH, NOTIFICATION = (
    "dserver_direct_mongo_plugin",
    "dserver_dependency_graph_plugin",
    "dserver_notification_plugin",
)
PLUGINS = {
    "dserver_search_plugin_mongo": "0.4.2",
    "dserver_retrieve_plugin_mongo": "0.4.2",
    DIRECT: "0.4.2",
    GRAPH: "0.4.2",
    NOTIFICATION: "0.4.3",
}


class Switches:
    """What an operator of the server decides; each may be changed while it runs.

    Attributes
    ----------
    authenticate : bool
        Whether requests need a token; if not, all are those of the default user.
    allow_direct_query, allow_aggregation : bool
        Whether MongoDB queries and aggregations are answered.
    dynamic_dependency_keys : bool
        Whether one may name other keys than those of the server for a dependency graph.
    plugins : dict
        The plugins and their versions, by the names of their modules. The routes of one that is taken out are gone:
        ``del plugins["dserver_direct_mongo_plugin"]``.
    bucket_to_base_uri : dict
        The base URIs of the buckets that may send notifications.
    """

    def __init__(self) -> None:
        self.authenticate = True
        self.allow_direct_query = True
        self.allow_aggregation = False
        self.dynamic_dependency_keys = True
        self.plugins = dict(PLUGINS)
        self.bucket_to_base_uri = {"bucket": "s3://bucket"}


@dataclass(frozen=True)
class Asked:
    """A request.

    Parameters
    ----------
    path : mapping
        The parts of the path that vary.
    query : mapping
        The values of each key of the query string, in their order.
    headers : mapping
        The headers, their names in small letters.
    body : bytes
        The body.
    world, tokens, switches
        What there is to be asked.
    """

    path: Mapping[str, str]
    query: Query
    headers: Mapping[str, str]
    body: bytes
    world: World
    tokens: Tokens
    switches: Switches

    def fields(self, fields: Mapping[str, Check]) -> dict[str, Any]:
        """Return the checked fields of the body; the real one checks them before it asks for a token."""
        return body_fields(self.body, self.headers.get("content-type", ""), fields)

    def identity(self) -> str:
        """Return who asks, registered or not.

        Raises
        ------
        RefusedError
            401 without a valid token; 422 if it is no token.
        """
        if self.switches.authenticate:
            return self.tokens.username(self.headers.get("authorization", ""))
        return DEFAULT_USER

    def user(self) -> str:
        """Return who asks; 401 if the user is not registered."""
        name = self.identity()
        if name not in self.world.users:
            raise RefusedError(401)
        return name

    def admin(self) -> str:
        """Return who asks, if it is an admin; else 403."""
        name = self.user()
        if not self.world.users[name]:
            raise RefusedError(403)
        return name

    def uri(self) -> str:
        """Return the URI in the path, which may be written ``s3/bucket/uuid`` for ``s3://bucket/uuid``."""
        given = self.path["uri"]
        try:
            return urlunsplit(urlsplit(given if "://" in given else given.replace("/", "://", 1)))
        except ValueError:
            raise RefusedError(500) from None

    def readable_uri(self) -> str:
        """Return the URI in the path, if it is at a base URI that the user may search; else 403."""
        name, uri = self.user(), self.uri()
        if uri.rpartition("/")[0] not in self.world.searchable(name):
            raise RefusedError(403)
        return uri

    def base_uris(self, username: str, wanted: Mapping[str, Any]) -> list[str]:
        """Return the base URIs to search: all that the user may search, or those that are wanted of them."""
        allowed = self.world.searchable(username)
        return [each for each in wanted["base_uris"] if each in allowed] if "base_uris" in wanted else allowed

    def needs(self, *plugins: str) -> None:
        """Make sure that plugins are there; else there is no such route."""
        if any(plugin not in self.switches.plugins for plugin in plugins):
            raise RefusedError(404)
