"""Generated from _async.py by tools/make_sync.py: do not edit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from nuncius._core.drivers import Driver
from nuncius._core.operations import Deadline
from nuncius._core.pages import Pages
from nuncius._core.progress import progress_bar
from nuncius.datasets import accounts, operations, questions
from nuncius.datasets.listing import LARGEST_PAGE, DataSetWalk, check_page_number
from nuncius.datasets.manifests import ManifestCache
from nuncius.datasets.service import DServerService, place
from nuncius.errors import FilterError, PartialResultError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from uuid import UUID

    from nuncius.datasets.graph import Graph
    from nuncius.datasets.listing import Question
    from nuncius.datasets.places import Item
    from nuncius.datasets.values import DataSet, DataSets, Details, Manifest, Readme, Record


class DServer:
    """A dserver: where data sets are looked up. `nuncius.open_dserver` makes one.

    Threads may share it, and connections are kept. A data set is named by its URI, or by what a search gave. Every method
    takes `timeout_s`: how long each request may take, with everything that is done for it.
    """

    def __init__(self, service: DServerService, driver: Driver, *, manifest_cache: bool = True) -> None:
        self._service = service
        self._driver = driver
        self._cache = ManifestCache() if manifest_cache else None

    @property
    def url(self) -> str:
        """Where it is."""
        return self._service.base

    @property
    def token_url(self) -> str | None:
        """Where tokens are got; None if no token generator is known."""
        return self._service.settings.token_url

    # Finding data sets ------------------------------------------------------------------------------------------------

    def search(
        self,
        free_text: str | None = None,
        *,
        creator_usernames: str | Iterable[str] | None = None,
        base_uris: str | Iterable[str] | None = None,
        uuids: str | UUID | Iterable[str | UUID] | None = None,
        tags: str | Iterable[str] | None = None,
        sort: str | Sequence[str] | None = "uri",
        page_number: int | None = None,
        page_size: int = LARGEST_PAGE,
        timeout_s: float | None = None,
    ) -> DataSets:
        """Return the data sets that meet all that is asked; all that you may see, if nothing is.

        Parameters
        ----------
        free_text : str, optional
            Words, of which one suffices; ``"a phrase"`` in quotes; ``-word`` that must not be there.
        creator_usernames, base_uris, uuids : str or list of str, optional
            Of which one has to fit.
        tags : str or list of str, optional
            Which all have to be there.
        sort : str or list of str
            Fields, with a minus downward: base_uri, created_at, creator_username, frozen_at, name, uri, uuid.
        page_number : int, optional
            Read only this page, and say in `pagination` what more there is. All pages by default.
        page_size : int
            How many are asked for at a time, 1 to 100.
        timeout_s : float, optional
            How long each page may take.

        Returns
        -------
        DataSets
            A list.

        Raises
        ------
        FilterError
            If the server does not understand what is asked.
        LoginError, ForbiddenError, UnreachableError, DeadlineError, ServerError
            As their names say.

        Examples
        --------
        >>> dserver.search("supernova", tags="spectrum").to_table()  # doctest: +SKIP
        """
        asked = questions.search(
            free_text,
            creator_usernames=creator_usernames,
            base_uris=base_uris,
            uuids=uuids,
            tags=tags,
            sort=sort,
        )
        return self._found(asked, page_number, page_size, timeout_s)

    def query(
        self,
        query: Mapping[str, Any] | str,
        *,
        creator_usernames: str | Iterable[str] | None = None,
        base_uris: str | Iterable[str] | None = None,
        uuids: str | UUID | Iterable[str | UUID] | None = None,
        tags: str | Iterable[str] | None = None,
        sort: str | Sequence[str] | None = None,
        page_number: int | None = None,
        page_size: int = LARGEST_PAGE,
        timeout_s: float | None = None,
    ) -> DataSets:
        """Return the data sets that meet a query in MongoDB's language, which the server's database answers.

        Parameters
        ----------
        query : mapping or str
            Such as ``{"readme.owners.name": {"$regex": "^Testing"}}``, or the same as JSON. The fields are base_uri, uri,
            uuid, name, creator_username, tags, and what is in the readme, manifest and annotations.
        creator_usernames, base_uris, uuids, tags, page_number, page_size, timeout_s
            See `search`.
        sort : str or list of str, optional
            Here, because the server doesn't sort; of one page only that page.

        Raises
        ------
        UnsupportedError
            If the server lacks the plugin (dserver-direct-mongo-plugin), or it is switched off.
        FilterError
            If it does not understand the query.
        ServerError
            If its database does not: it gives no reason.

        Notes
        -----
        A UUID is found however the data set was registered where ``uuid`` stands at the top of the query; deeper, as in
        ``$or``, servers find only those that were indexed from their storage.

        Examples
        --------
        >>> dserver.query({"readme.object": "ZTF26aaaaaab", "name": {"$regex": "spectrum"}})  # doctest: +SKIP
        """
        asked = questions.query(
            query, creator_usernames=creator_usernames, base_uris=base_uris, uuids=uuids, tags=tags
        )
        found = self._found(asked, page_number, page_size, timeout_s)
        return questions.sorted_by(found, sort)

    def iter_data_sets(
        self,
        free_text: str | None = None,
        *,
        query: Mapping[str, Any] | str | None = None,
        creator_usernames: str | Iterable[str] | None = None,
        base_uris: str | Iterable[str] | None = None,
        uuids: str | UUID | Iterable[str | UUID] | None = None,
        tags: str | Iterable[str] | None = None,
        sort: str | Sequence[str] | None = "uri",
        page_size: int = LARGEST_PAGE,
        timeout_s: float | None = None,
    ) -> Pages[DataSet]:
        """Return the same as `search` or `query` one by one, while the next page is already on its way.

        Nothing is asked before the first is wanted. `close` lets the page go that is on its way.

        Parameters
        ----------
        free_text, creator_usernames, base_uris, uuids, tags, sort, page_size, timeout_s
            See `search`.
        query : mapping or str, optional
            See `query`; then without `free_text`, and as the server sorts.

        Raises
        ------
        FilterError
            If both a free text and a query are given, or one of them is none.

        Examples
        --------
        >>> sizes = [found.size_in_bytes for found in dserver.iter_data_sets(tags="raw")]  # doctest: +SKIP
        """
        if query is None:
            asked = questions.search(
                free_text,
                creator_usernames=creator_usernames,
                base_uris=base_uris,
                uuids=uuids,
                tags=tags,
                sort=sort,
            )
        elif free_text is not None:
            raise FilterError(
                'a query has no free text beside it: write {"$text": {"$search": "words"}} in it'
            )
        else:
            asked = questions.query(
                query, creator_usernames=creator_usernames, base_uris=base_uris, uuids=uuids, tags=tags
            )
        self._deadline(timeout_s)  # what is wrong with it is said now
        walk = DataSetWalk(self._service, asked, page_size)
        return Pages(self._driver, walk, lambda: self._deadline(timeout_s))

    def aggregate(
        self, stages: Sequence[Mapping[str, Any]] | str, *, timeout_s: float | None = None
    ) -> list[Any]:
        """Run an aggregation on the server's database and return what comes.

        Parameters
        ----------
        stages : list of mapping or str
            Such as ``[{"$match": {"tags": "raw"}}, {"$count": "n"}]``, or the same as JSON.
        timeout_s : float, optional
            How long each page may take.

        Raises
        ------
        UnsupportedError
            If the server lacks the plugin, or does not allow it, as is the default there.
        """
        asked = questions.json_value(stages, "aggregation")
        return self._driver.run(
            operations.aggregate(self._service, asked, lambda: self._deadline(timeout_s))
        )

    def by_uuid(
        self,
        uuid: str | UUID | DataSet,
        *,
        sort: str | Sequence[str] | None = "uri",
        page_number: int | None = None,
        page_size: int = LARGEST_PAGE,
        timeout_s: float | None = None,
    ) -> DataSets:
        """Return all data sets of a UUID: one for each base URI at which there is a copy; none for an unknown one."""
        asked = questions.by_uuid(uuid, questions.order(sort))
        return self._found([asked], page_number, page_size, timeout_s)

    def data_set(self, uri: str | DataSet, *, timeout_s: float | None = None) -> DataSet:
        """Return what the server says of a data set.

        Raises
        ------
        NotFoundError
            If there is none of that URI.
        ForbiddenError
            If its base URI is unknown, or not yours to see: the server makes no difference.
        """
        return self._driver.run(
            operations.data_set(self._service, _uri(uri), self._deadline(timeout_s))
        )

    # What is in a data set --------------------------------------------------------------------------------------------

    def readme(self, uri: str | DataSet, *, timeout_s: float | None = None) -> Readme:
        """Return the readme of a data set: its text, which is a `str`, and in `data` what its YAML says.

        Raises
        ------
        NotFoundError, ForbiddenError
            See `data_set`.
        """
        return self._driver.run(operations.readme(self._service, _uri(uri), self._deadline(timeout_s)))

    def manifest(self, uri: str | DataSet, *, timeout_s: float | None = None) -> Manifest:
        """Return the manifest of a data set: a dictionary as the server gives it, and in `files` its items.

        What is frozen doesn't change. So a manifest that was read is kept, and for what a search gave (which says when it was
        frozen) it is not asked for again.

        Raises
        ------
        NotFoundError, ForbiddenError
            See `data_set`.
        """
        deadline = self._deadline(timeout_s)
        name, frozen_at = _named(uri)
        return self._driver.run(
            operations.manifest(self._service, name, deadline, self._cache, frozen_at)
        )

    def tags(self, uri: str | DataSet, *, timeout_s: float | None = None) -> list[str]:
        """Return the tags of a data set; errors as of `data_set`."""
        return self._driver.run(operations.tags(self._service, _uri(uri), self._deadline(timeout_s)))

    def annotations(
        self, uri: str | DataSet, *, raw: bool = False, timeout_s: float | None = None
    ) -> Record:
        """Return the annotations of a data set.

        dservercore 0.22.0 sends them as the text that Python prints; numbers, lists and dictionaries are read from it again.

        Parameters
        ----------
        uri : str or DataSet
            The data set.
        raw : bool
            Leave them as they are sent.
        timeout_s : float, optional
            How long it may take.

        Raises
        ------
        NotFoundError, ForbiddenError
            See `data_set`.
        """
        deadline = self._deadline(timeout_s)
        return self._driver.run(operations.annotations_of(self._service, _uri(uri), deadline, raw=raw))

    def get_many(
        self,
        uris: str | DataSet | Iterable[str | DataSet],
        what: str | Sequence[str] = ("readme",),
        *,
        limit: int = operations.SIDE_BY_SIDE,
        allow_partial: bool = False,
        progress: bool = True,
        timeout_s: float | None = None,
    ) -> list[Details]:
        """Return parts of many data sets, asked side by side.

        Parameters
        ----------
        uris : str, DataSet or list of them
            The data sets.
        what : str or list of str
            Of ``"readme"``, ``"manifest"``, ``"tags"``, ``"annotations"`` and ``"data_set"``.
        limit : int
            How many requests run at a time.
        allow_partial : bool
            Whether what failed only stands in the `errors` of each, instead of raising.
        progress : bool
            Show a bar where standard error is a terminal.
        timeout_s : float, optional
            How long each request may take.

        Returns
        -------
        list of Details
            In the order asked, each with `uri`, the parts, and `errors`, a dictionary by part.

        Raises
        ------
        PartialResultError
            If something failed; its `result` is the whole list, its `failures` the first error of each data set, by URI.

        Examples
        --------
        >>> found = dserver.search(tags="spectrum")
        >>> [details.readme.data["redshift"] for details in dserver.get_many(found)]  # doctest: +SKIP
        """
        named = _all_named(uris)
        parts = operations.check_parts(what, limit)
        self._deadline(timeout_s)
        with progress_bar("data sets", total=len(named) * len(parts), wanted=progress) as done:
            found = self._driver.run(
                operations.many(
                    self._service, named, parts, limit, lambda: self._deadline(timeout_s), self._cache, done
                )
            )
        failed = [details for details in found if details["errors"]]
        if failed and not allow_partial:
            raise _partial(
                found, {details["uri"]: next(iter(details["errors"].values())) for details in failed}
            )
        return found

    def items(self, uri: str | DataSet, *, timeout_s: float | None = None) -> list[Item]:
        """Return the items of a data set, each with its `url`; see `manifest`.

        Of a data set that is published on the web, the list of its addresses is read as well.
        """
        name, frozen_at = _named(uri)
        return self._driver.run(
            operations.items(self._service, name, lambda: self._deadline(timeout_s), self._cache, frozen_at)
        )

    def find_items(
        self,
        pattern: str,
        data_sets: str | DataSet | Iterable[str | DataSet] | None = None,
        *,
        free_text: str | None = None,
        creator_usernames: str | Iterable[str] | None = None,
        base_uris: str | Iterable[str] | None = None,
        uuids: str | UUID | Iterable[str | UUID] | None = None,
        tags: str | Iterable[str] | None = None,
        allow_partial: bool = False,
        progress: bool = True,
        timeout_s: float | None = None,
    ) -> list[Item]:
        """Return the items whose names match a pattern, of some data sets or of all that a search finds.

        Parameters
        ----------
        pattern : str
            Such as ``"*.fits"``, compared with the name of the file; with a slash in it (``"2026/*.fits"``) with the whole
            path in the data set. Capitals count.
        data_sets : str, DataSet or list of them, optional
            The data sets; else what is searched for, with the words of `search`.
        free_text, creator_usernames, base_uris, uuids, tags : optional
            See `search`.
        allow_partial : bool
            Leave out data sets whose manifest can't be read, instead of raising.
        progress : bool
            Show a bar where standard error is a terminal.
        timeout_s : float, optional
            How long each request may take.

        Raises
        ------
        PartialResultError
            If some manifests could not be read; its `result` has the items of the others, its `failures` the errors, by
            URI.
        FilterError
            If data sets are named and searched for at once.

        Examples
        --------
        >>> with dserver.find_items("*.fits", free_text="ZTF26aaaaaab")[0].open() as fits:  # doctest: +SKIP
        ...     fits.info()
        """
        if not isinstance(pattern, str):
            raise FilterError(f"a pattern is a text such as '*.fits', not {pattern!r}"[:300])
        named = self._chosen(
            data_sets,
            free_text=free_text,
            creator_usernames=creator_usernames,
            base_uris=base_uris,
            uuids=uuids,
            tags=tags,
            timeout_s=timeout_s,
        )
        with progress_bar("manifests", total=len(named), wanted=progress) as done:
            found, failed = self._driver.run(
                operations.find_items(
                    self._service, pattern, named, lambda: self._deadline(timeout_s), self._cache, done
                )
            )
        if failed and not allow_partial:
            raise _partial(found, failed)
        return found

    def graph(
        self,
        uuid: str | UUID | DataSet,
        *,
        dependency_keys: str | Iterable[str] | None = None,
        timeout_s: float | None = None,
    ) -> Graph:
        """Return what a data set was derived from, and what was derived from it.

        Parameters
        ----------
        uuid : str, UUID or DataSet
            The data set; of a URI the server is asked which UUID it has.
        dependency_keys : list of str, optional
            Where a data set says what it was derived from, such as ``"readme.derived_from.uuid"``; the server has defaults.
        timeout_s : float, optional
            How long each page may take.

        Raises
        ------
        UnsupportedError
            If the server lacks the plugin (dserver-dependency-graph-plugin), or its graph doesn't know this data set.
        NotFoundError
            If there is no such data set.
        """
        if isinstance(uuid, str) and "://" in uuid:
            uuid = self.data_set(uuid, timeout_s=timeout_s)
        name = questions.uuid_text(uuid)
        return self._driver.run(
            operations.graph(self._service, name, dependency_keys, lambda: self._deadline(timeout_s))
        )

    # Registering ------------------------------------------------------------------------------------------------------

    def register_data_set(self, values: Mapping[str, Any], *, timeout_s: float | None = None) -> bool:
        """Register a data set, or register it anew.

        Parameters
        ----------
        values : mapping
            ``uuid``, ``base_uri``, ``uri``, ``name``, ``type`` (``"dataset"``), ``readme`` (text), ``manifest``,
            ``creator_username``, ``frozen_at`` (seconds since 1970), ``annotations``, ``tags``; and, if it is known,
            ``created_at``. ``number_of_items`` and ``size_in_bytes`` are those of the manifest, unless they are given.
        timeout_s : float, optional
            How long it may take.

        Returns
        -------
        bool
            Whether it is new.

        Raises
        ------
        ConfigurationError
            If something is missing, or the server does not accept it.
        ForbiddenError
            If you may not register at that base URI.
        """
        deadline = self._deadline(timeout_s)
        new = self._driver.run(accounts.register_data_set(self._service, values, deadline))
        self._forget(values["uri"])
        return new

    def delete_data_set(self, uri: str | DataSet, *, timeout_s: float | None = None) -> None:
        """Take a data set off the server, which forgets it; its files stay. One that isn't there is no error.

        The searches of dservercore 0.22.0 go on finding it.

        Raises
        ------
        ForbiddenError
            If you may not register at its base URI.
        """
        name = _uri(uri)
        self._delete(f"uris/{place(name)}", f"the data set {name}", timeout_s)
        self._forget(name)

    # Users and base URIs ----------------------------------------------------------------------------------------------

    def me(self, *, timeout_s: float | None = None) -> Record:
        """Return who you are there, and at which base URIs you may search and register."""
        return self._record("me", "who you are", timeout_s)

    def user(self, username: str | None = None, *, timeout_s: float | None = None) -> Record:
        """Return a user: `username`, `is_admin`, and the base URIs; yourself without a name.

        Raises
        ------
        ForbiddenError
            If it isn't you, and you are no administrator.
        NotFoundError
            If there is none of that name.
        """
        return self._record(accounts.user_path(username), f"the user {username}", timeout_s)

    def users(self, *, sort: str = "username", timeout_s: float | None = None) -> list[Record]:
        """Return all users; for administrators."""
        self._deadline(timeout_s)
        return self._driver.run(
            accounts.records(self._service, "users", "username", sort, lambda: self._deadline(timeout_s))
        )

    def register_user(
        self, username: str, *, is_admin: bool = False, timeout_s: float | None = None
    ) -> bool:
        """Register a user, or change one; tell whether he is new. For administrators."""
        return self._put(
            accounts.user_path(username, own=False), {"is_admin": is_admin}, f"the user {username}", timeout_s
        )

    def delete_user(self, username: str, *, timeout_s: float | None = None) -> None:
        """Delete a user; one that isn't there is no error. For administrators."""
        self._delete(accounts.user_path(username, own=False), f"the user {username}", timeout_s)

    def summary(self, username: str | None = None, *, timeout_s: float | None = None) -> Record:
        """Return how many data sets and bytes a user may see, by base URI, creator and tag; yours without a name."""
        path = accounts.user_path(username, summary=True)
        return self._record(path, f"the summary of {username or 'yourself'}", timeout_s)

    def base_uris(self, *, sort: str = "base_uri", timeout_s: float | None = None) -> list[str]:
        """Return all base URIs; for administrators. Those that you may search are in `me`."""
        self._deadline(timeout_s)
        found = self._driver.run(
            accounts.records(self._service, "base-uris", "base_uri", sort, lambda: self._deadline(timeout_s))
        )
        return [str(row.get("base_uri")) for row in found]

    def base_uri(self, base_uri: str, *, timeout_s: float | None = None) -> Record:
        """Return who may search and who may register at a base URI; for administrators.

        Raises
        ------
        NotFoundError
            If the server doesn't know it.
        """
        return self._record(f"base-uris/{place(base_uri)}", f"the base URI {base_uri}", timeout_s)

    def register_base_uri(
        self,
        base_uri: str,
        *,
        search: str | Iterable[str] = (),
        register: str | Iterable[str] = (),
        timeout_s: float | None = None,
    ) -> bool:
        """Register a base URI, or say anew who may search and who may register there. For administrators.

        Parameters
        ----------
        base_uri : str
            Such as ``"s3://bucket"``.
        search, register : str or list of str
            User names; those that were allowed before and are not named are so no longer.
        timeout_s : float, optional
            How long it may take.

        Returns
        -------
        bool
            Whether it is new.
        """
        return self._put(
            f"base-uris/{place(base_uri)}",
            accounts.permissions(search, register),
            f"the base URI {base_uri}",
            timeout_s,
        )

    def delete_base_uri(self, base_uri: str, *, timeout_s: float | None = None) -> None:
        """Delete a base URI; one that isn't there is no error. For administrators."""
        self._delete(f"base-uris/{place(base_uri)}", f"the base URI {base_uri}", timeout_s)

    # The server -------------------------------------------------------------------------------------------------------

    def config(self, *, timeout_s: float | None = None) -> Record:
        """Return the settings of the server; what is secret in them it hides itself."""
        deadline = self._deadline(timeout_s)
        return self._driver.run(
            accounts.record(self._service, "config/info", deadline, what="its configuration", under="config")
        )

    def versions(self, *, timeout_s: float | None = None) -> dict[str, str]:
        """Return the versions of the server and its plugins, by the names of their modules; it takes no login."""
        return self._driver.run(self._service.versions(self._deadline(timeout_s)))

    def close(self) -> None:
        """Close the connections."""
        self._driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (type(self), self._service.public, self._cache is not None)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    # Underneath -------------------------------------------------------------------------------------------------------

    def _deadline(self, timeout_s: float | None) -> Deadline:
        return Deadline(self._service.check_timeout(timeout_s))

    def _found(
        self,
        asked: Sequence[Question],
        page_number: int | None,
        page_size: int,
        timeout_s: float | None,
    ) -> DataSets:
        if page_number is not None:
            check_page_number(page_number)
        # Where something is decided here, the pages of the server are not those of the answer.
        if page_number is not None and len(asked) == 1 and asked[0].keeps is None:
            deadline = self._deadline(timeout_s)
            return self._driver.run(
                operations.one_page(self._service, asked[0], page_number, page_size, deadline)
            )
        self._deadline(timeout_s)
        found = self._driver.run(
            operations.pages(self._service, asked, page_size, lambda: self._deadline(timeout_s))
        )
        return found if page_number is None else operations.cut_page(found, page_number, page_size)

    def _chosen(
        self,
        data_sets: str | DataSet | Iterable[str | DataSet] | None,
        *,
        free_text: str | None,
        creator_usernames: str | Iterable[str] | None,
        base_uris: str | Iterable[str] | None,
        uuids: str | UUID | Iterable[str | UUID] | None,
        tags: str | Iterable[str] | None,
        timeout_s: float | None,
    ) -> list[tuple[str, object]]:
        if data_sets is None:
            data_sets = self.search(
                free_text,
                creator_usernames=creator_usernames,
                base_uris=base_uris,
                uuids=uuids,
                tags=tags,
                timeout_s=timeout_s,
            )
        elif any(given is not None for given in (free_text, creator_usernames, base_uris, uuids, tags)):
            raise FilterError("name data sets, or search for them, but not both")
        return _all_named(data_sets)

    def _forget(self, uri: str) -> None:
        if self._cache is not None:
            self._cache.forget(uri)

    def _record(self, path: str, what: str, timeout_s: float | None) -> Record:
        deadline = self._deadline(timeout_s)
        return self._driver.run(accounts.record(self._service, path, deadline, what=what))

    def _put(self, path: str, body: Mapping[str, Any], what: str, timeout_s: float | None) -> bool:
        deadline = self._deadline(timeout_s)
        return self._driver.run(accounts.put(self._service, path, body, deadline, what))

    def _delete(self, path: str, what: str, timeout_s: float | None) -> None:
        deadline = self._deadline(timeout_s)
        self._driver.run(accounts.delete(self._service, path, deadline, what))


def _reopened(kind: type[DServer], options: Mapping[str, Any], manifest_cache: bool) -> DServer:
    """Open again what was pickled: by its address and settings; a login is looked for where it is opened."""
    service = DServerService.found(**options)
    return kind(service, Driver(verify=service.settings.verify), manifest_cache=manifest_cache)


def _uri(given: str | DataSet) -> str:
    return _named(given)[0]


def _all_named(given: str | DataSet | Iterable[str | DataSet]) -> list[tuple[str, object]]:
    """Return the same of several data sets; one may be given alone."""
    several = isinstance(given, Iterable) and not isinstance(given, (str, Mapping))
    names: Iterable[Any] = given if several else [given]
    return [_named(name) for name in names]


def _named(given: str | DataSet) -> tuple[str, object]:
    """Return the URI of a data set, and when it was frozen, if that is known; also of a plain dictionary that says so."""
    if isinstance(given, Mapping) and isinstance(given.get("uri"), str):
        return given["uri"], given.get("frozen_at")
    if not isinstance(given, str) or not given:
        raise FilterError(
            f"a data set is named by its URI, such as 's3://bucket/UUID', not by {given!r}"[:300]
        )
    if "://" not in given:
        raise FilterError(
            f"{given[:100]!r} is no URI, such as 's3://bucket/UUID'. A search finds data sets by words of their names, "
            "by_uuid by their UUIDs",
            position=given,
        )
    return given, None


def _partial(found: Any, failed: Mapping[str, Exception]) -> PartialResultError:
    first = next(iter(failed))
    error = PartialResultError(
        f"{len(failed)} of the data sets could not be read; the first is {first}: {failed[first]}. What was read is in the "
        "error's result; with allow_partial=True nothing is raised"
    )
    error.result, error.failures = found, failed
    return error
