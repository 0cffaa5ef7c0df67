"""The class `Kowalski` of penquins, on the engine of nuncius."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn, Self

from nuncius._core.drivers import Driver
from nuncius._core.progress import progress_bar
from nuncius.compat.penquins.answers import Answers
from nuncius.compat.penquins.errors import InstanceNameError
from nuncius.compat.penquins.instances import HOST, connected
from nuncius.compat.penquins.sharing import Part, ask_all, collated, divide, named, threads
from nuncius.compat.penquins.splitting import check_query
from nuncius.errors import ConfigurationError, PartialResultError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from nuncius._core.operations import Outcome
    from nuncius.compat.penquins.answers import Answer
    from nuncius.compat.penquins.instances import Instance

log = logging.getLogger("nuncius.penquins")

_TIMEOUT_S = 60.0


class Kowalski:
    """One or several Kowalski instances, asked in their own language.

    Parameters
    ----------
    username, password, token : str, optional
        The login. A token is enough; with a user name and a password it is renewed when it dies. What is not given is
        looked for in the environment, in ``credentials.toml`` and in netrc (`nuncius.credentials`).
    protocol, host, port : optional
        Where it is.
    verbose : bool
        Show a progress bar for several queries (where standard error is a terminal), and log each query as information.
    instances : mapping of str to mapping, optional
        Several instances by name, each with host, protocol, port, token or username and password, and optionally timeout
        and verify. Without it there is one, whose name is ``"default"``.
    timeout : float
        Seconds that a request may take. The server is told (``max_time_ms``), unless a query says otherwise.
    verify : bool or str
        How servers are verified: by the system's certificates, by those of a file or folder, or not at all.
    pool_connections, pool_maxsize, max_retries, backoff_factor, pool_block : optional
        Accepted from programs that have them, and without effect: connections are pooled as they are needed, and what is
        safe to send again is sent again up to three times.

    Raises
    ------
    ConfigurationError, LoginError, UnreachableError, DeadlineError, ServerError
        If an instance can't be asked. All of them are a `ValueError` too.

    Examples
    --------
    >>> kowalski = Kowalski(token=token, protocol="https", host="kowalski.example.org", port=443)  # doctest: +SKIP
    >>> query = {"query_type": "info", "query": {"command": "catalog_names"}}
    >>> kowalski.query(query=query).get("default").get("data")  # doctest: +SKIP
    ['ZTF_alerts_aux', 'ZTF_alerts']
    """

    def __init__(
        self,
        username: str | None = None,
        password: str | None = None,
        token: str | None = None,
        protocol: str = "https",
        host: str = HOST,
        port: int = 443,
        verbose: bool = False,
        instances: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        timeout: float = _TIMEOUT_S,
        verify: bool | str = True,
        pool_connections: int = 10,
        pool_maxsize: int = 10,
        max_retries: int = 3,
        backoff_factor: float = 1,
        pool_block: bool = False,
    ) -> None:
        self.v = verbose
        self.instances: dict[str, Instance] = {}
        self._timeout_s, self._verify = timeout, verify
        self._driver = Driver()
        if instances is None:
            login = {"username": username, "password": password, "token": token}
            instances = {"default": {**login, "protocol": protocol, "host": host, "port": port}}
        elif not isinstance(instances, Mapping):
            raise ConfigurationError(
                f"instances is a mapping of names to settings, not a {type(instances).__name__}"
            )
        elif any(value is not None for value in (username, password, token)):
            log.warning("with instances= the login given beside it is not used: each instance has its own")
        try:
            for name, config in instances.items():
                self.add(name, config)
        except BaseException:
            self.close_all()
            raise

    # Instances --------------------------------------------------------------------------------------------------------

    @property
    def multiple_instances(self) -> bool:
        """Whether there are several instances, so that many methods need the name of one."""
        return len(self.instances) > 1

    @property
    def token(self) -> str:
        """The token, to be used again; a secret. Of several instances each has its own: ``instances[name]["token"]``.

        Raises
        ------
        ConfigurationError
            If there are several instances.
        """
        if self.multiple_instances:
            raise ConfigurationError(
                "Please specify instance name when using multiple instances: each has a token of its own, "
                f"kowalski.instances[name]['token'], with a name of {', '.join(self.instances)}"
            )
        return self._instance(None).token

    def add(
        self,
        name: str,
        cfg: Mapping[str, Any],
        *,
        timeout: float | None = None,
        verify: bool | str | None = None,
        pool_connections: int = 10,
        pool_maxsize: int = 10,
        max_retries: int = 3,
        backoff_factor: float = 1,
        pool_block: bool = False,
    ) -> None:
        """Add an instance, log in there if it has no token, and learn which catalogs it has.

        Parameters
        ----------
        name : str
            What it is called.
        cfg : mapping
            protocol, host, port, username and password or token, timeout, verify.
        timeout, verify, pool_connections, pool_maxsize, max_retries, backoff_factor, pool_block : optional
            As those of the class.

        Raises
        ------
        ConfigurationError
            If there is one of that name, or with the same address and login.
        NunciusError
            If it can't be asked. It is a `ValueError` too.
        """
        if name in self.instances:
            raise ConfigurationError(f"Instance {name} already exists")
        timeout_s = self._timeout_s if timeout is None else timeout
        checks = self._verify if verify is None else verify
        instance = connected(name, cfg, timeout_s=timeout_s, verify=checks)
        for other, known in self.instances.items():
            if instance.is_same(known):
                instance.close()
                raise ConfigurationError(f"Instance {name} seems to be a duplicate of {other}")
        self.instances[name] = instance

    def remove(self, name: str) -> None:
        """Close an instance and forget it.

        Raises
        ------
        NotFoundError
            If there is none of that name. It is a `ValueError` and a `KeyError` too.
        """
        if name not in self.instances:
            raise InstanceNameError(f"Instance {name} does not exist")
        self.instances.pop(name).close()

    def rename(self, name: str, old_name: str | None = None) -> None:
        """Give an instance another name; it is then the last.

        Raises
        ------
        ConfigurationError
            If another one has that name.
        """
        instance = self._instance(old_name)
        if self.instances.get(name, instance) is not instance:
            raise ConfigurationError(f"Instance {name} already exists")
        others = {key: value for key, value in self.instances.items() if value is not instance}
        self.instances = {**others, name: instance}

    def close(self, name: str | None = None) -> bool:
        """Close the connections of an instance; they are opened again when they are needed."""
        self._instance(name).close()
        return True

    def close_all(self) -> dict[str, bool]:
        """Close the connections of all instances."""
        return {name: self.close(name) for name in self.instances}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close_all()

    def __repr__(self) -> str:
        return f"<Kowalski: {', '.join(f'{name} at {i.base_url}' for name, i in self.instances.items()) or 'no instances'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Kowalski holds connections and secrets and is not pickled; make one in each process"
        )

    # Simple questions -------------------------------------------------------------------------------------------------

    def authenticate(self, name: str | None = None) -> str:
        """Log in again and return the new token.

        Raises
        ------
        LoginError
            If the login is refused, or there is only a token.
        """
        return self._instance(name).log_in()

    def ping(self, name: str | None = None) -> bool:
        """Tell whether there is such an instance, and it answers and knows us."""
        return (name is None or name in self.instances) and self._instance(name).ping()

    def api(
        self,
        method: str,
        endpoint: str,
        data: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> Answer:
        """Call any address of an instance.

        Parameters
        ----------
        method : str
            get, post, put, patch, delete or head.
        endpoint : str
            Such as ``"/api/users"``.
        data : mapping, optional
            The query string of get and head; the JSON body of the others.
        name : str, optional
            Which instance.

        Returns
        -------
        Answer
            A refusal (4xx) has the status ``"error"``. A text is the message. Any other file, such as a cutout, is
            ``{"status": "success", "message": its media type, "data": its bytes}``.

        Raises
        ------
        ServerError, UnreachableError, DeadlineError
            If it fails.

        Examples
        --------
        >>> answer = kowalski.api("get", f"/api/cutouts/ztf/{candid}/science/fits")  # doctest: +SKIP
        >>> hdus = astropy.io.fits.open(io.BytesIO(answer["data"]))  # doctest: +SKIP
        """
        return self._instance(name).call(method, endpoint, data)

    def get_catalogs(self, name: str | None = None) -> list[str]:
        """Ask an instance for the names of its catalogs."""
        return self._instance(name).refresh()

    def get_catalogs_all(self) -> dict[str, list[str]]:
        """Ask all instances for the names of their catalogs."""
        return {name: instance.refresh() for name, instance in self.instances.items()}

    def instance_has_catalog(self, catalog: str, name: str | None = None) -> bool:
        """Tell whether an instance had a catalog when it was last asked for its catalogs."""
        return catalog in self._instance(name).catalogs

    # Queries ----------------------------------------------------------------------------------------------------------

    def query(
        self,
        query: Mapping[str, Any] | None = None,
        queries: Iterable[Mapping[str, Any]] | None = None,
        name: str | None = None,
        use_batch_query: bool = False,
        max_n_threads: int = 4,
    ) -> Answers:
        """Ask one query, or several.

        Parameters
        ----------
        query : mapping
            One query: query_type, query and kwargs.
        queries : iterable of mapping
            Several of them.
        name : str, optional
            Which instance. Otherwise each catalog is asked of an instance that has it, and of another if that one fails.
        use_batch_query : bool
            Ask side by side; else one after the other.
        max_n_threads : int
            How many at a time, at most 32.

        Returns
        -------
        Answers
            For one query ``{instance: answer}``; for several ``{instance: [answers]}``, each list in the order asked and
            each answer with its `index`. The answer to a query that failed has the status ``"error"`` and the `error`.

        Raises
        ------
        FilterError, ConfigurationError, NotFoundError
            If a query can't be meant so, or nobody has the catalog; nothing was asked then. `ValueError` too.
        PartialResultError
            If only some of the instances that share one query answered; its `result` has their answers.
        NunciusError
            If one query failed.

        Examples
        --------
        >>> responses = kowalski.query(queries=queries, use_batch_query=True, max_n_threads=4)  # doctest: +SKIP
        >>> answers = [answer for several in responses.values() for answer in several]  # doctest: +SKIP
        >>> answers.sort(key=lambda answer: answer.index)  # doctest: +SKIP
        """
        if query is None and queries is None:
            raise ConfigurationError("Please specify query or queries")
        if query is not None and queries is not None:
            raise ConfigurationError("Please specify either query or queries, not both")
        limit = threads(max_n_threads) if use_batch_query else 1
        if query is not None:
            return self._one(check_query(query), name, limit)
        wanted = [check_query(one) for one in queries or ()]
        lists: dict[str, list[Answer]] = {}
        if use_batch_query:  # then those that get no query are named too
            lists = {key: [] for key in (self.instances if name is None else [name])}
        parts = divide(self.instances, wanted, name)
        for found in collated(parts, self._ask(parts, limit)):
            for key, answer in found.items():
                lists.setdefault(key, []).append(answer)
        return Answers(lists)

    def prepare_query(
        self,
        query: Mapping[str, Any],
        name: str | None = None,
        instances_load: Mapping[str, int] | None = None,
    ) -> tuple[dict[str, dict[str, Any] | None], dict[str, int]]:
        """Divide a query among the instances.

        Parameters
        ----------
        query : mapping
            The query.
        name : str, optional
            The instance that it is for.
        instances_load : mapping of str to int, optional
            How much each has to do already.

        Returns
        -------
        tuple
            The part for each instance, None for those that get none; and how much each has to do then.
        """
        load = {key: instance.asked for key, instance in self.instances.items()} | dict(instances_load or {})
        parts = {part.name: part.query for part in divide(self.instances, [check_query(query)], name, load)}
        return {key: parts.get(key) for key in self.instances}, load

    def prepare_queries(
        self, queries: Iterable[Mapping[str, Any]], name: str | None = None
    ) -> dict[str, list[dict[str, Any]]]:
        """Divide queries among the instances, or give them all to one."""
        parts = divide(self.instances, [check_query(one) for one in queries], name)
        divided: dict[str, list[dict[str, Any]]] = {
            key: [] for key in (self.instances if name is None else [name])
        }
        for part in parts:
            divided[part.name].append(part.query)
        return divided

    def single_query(self, query: tuple[Mapping[str, Any], str]) -> Answers:
        """Ask one instance, given as (query, name)."""
        asked, name = query
        return Answers({name: self._instance(name).ask(check_query(asked))})

    def batch_query(
        self, queries: Mapping[str, Sequence[Mapping[str, Any]]], n_threads: int = 4
    ) -> list[Answers]:
        """Ask instances side by side, each the queries that are listed for it.

        Returns
        -------
        list of Answers
            ``{instance: answer}`` for each query, in the order of the lists.
        """
        asked = [(name, check_query(query)) for name, several in queries.items() for query in several]
        parts = [
            Part(index, name, named(self.instances, name), query, movable=False)
            for index, (name, query) in enumerate(asked)
        ]
        return [Answers(found) for found in collated(parts, self._ask(parts, threads(n_threads)))]

    def _one(self, query: dict[str, Any], name: str | None, limit: int) -> Answers:
        parts = divide(self.instances, [query], name)
        outcomes = self._ask(parts, limit)
        errors = [outcome.error for outcome in outcomes if outcome.error is not None]
        if len(errors) == len(outcomes):
            raise errors[0]
        (found,) = collated(parts, outcomes)
        if errors:
            failed = ", ".join(key for key, answer in found.items() if answer.error in errors)
            partial = PartialResultError(
                f"a part of the query failed, that of {failed} ({errors[0]}); the result of this error has the others"
            )
            partial.result = Answers(found)
            raise partial from errors[0]
        return Answers(found)

    def _ask(self, parts: Sequence[Part], limit: int) -> list[Outcome]:
        level = logging.INFO if self.v else logging.DEBUG
        log.log(level, "%d queries, %d at a time", len(parts), limit)
        with progress_bar("queries", total=len(parts), wanted=self.v and len(parts) > 1) as advance:
            return ask_all(self.instances, parts, self._driver, limit=limit, advance=advance)

    def _instance(self, name: str | None) -> Instance:
        """Return the instance of a name, or the only one."""
        if name is not None:
            return named(self.instances, name)
        if len(self.instances) == 1:
            return next(iter(self.instances.values()))
        raise ConfigurationError(
            "Please specify instance name when using multiple instances"
            if self.instances
            else "there is no instance to ask; add one"
        )
