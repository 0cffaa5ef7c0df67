"""What a query gives back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuncius.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class Answer(dict[str, Any]):
    """The answer of one instance to one query: `status`, `message`, and `data` where there are any.

    A loop over it gives the answer itself, once, as a loop over a list of answers gives each of them. So these lines merge
    the answers of all instances, whether one query was asked or many::

        for instance, instance_results in response.items():
            for result in instance_results:
                data.append(result.get("data"))

    Parameters
    ----------
    content : mapping
        What the server said.
    index : int, optional
        Which of several queries it answers.
    error : Exception, optional
        What went wrong, if the status is ``"error"``.

    Attributes
    ----------
    index : int or None
        Which of several queries it answers.
    error : Exception or None
        What went wrong, as a typed error.
    """

    __slots__ = ("error", "index")

    def __init__(
        self, content: Mapping[str, Any], *, index: int | None = None, error: Exception | None = None
    ) -> None:
        super().__init__(content)
        self.index = index
        self.error = error

    def __iter__(self) -> Iterator[Answer]:  # type: ignore[override]
        yield self

    @classmethod
    def failed(cls, error: Exception) -> Answer:
        """Return the answer that stands in the place of one that never came."""
        return cls({"status": "error", "message": str(error)}, error=error)


class Answers(dict[str, "Answer | list[Answer]"]):
    """The answers of all instances that were asked, by their names; a lone instance is named ``"default"``.

    One query has one `Answer` of each instance, several queries have a list of them. If there is just one answer, its own
    keys are found as well: ``response.get("data")`` is ``response.get("default").get("data")``.
    """

    __slots__ = ()

    def __missing__(self, key: str) -> Any:
        only = self._only()
        if only is None or key not in only:
            raise KeyError(key)
        return only[key]

    def __contains__(self, key: object) -> bool:
        only = self._only()
        return super().__contains__(key) or (only is not None and key in only)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the answers of an instance, or a part of the only answer."""
        try:
            return self[key]
        except KeyError:
            return default

    def _only(self) -> Answer | None:
        first = next(iter(self.values()), None)
        return first if len(self) == 1 and isinstance(first, Answer) else None


def merged(parts: Sequence[Answer]) -> Answer:
    """Put together the answers to one question that was asked in parts: for some of the positions, or of the catalogs.

    Raises
    ------
    ServerError
        If a part holds something else than documents by catalog and position.
    """
    failed = next((part for part in parts if part.error is not None), None)
    if failed is not None or len(parts) == 1:
        return failed or parts[0]
    data: dict[str, dict[str, Any]] = {}
    for part in parts:
        found = part.get("data")
        if not isinstance(found, dict) or not all(isinstance(objects, dict) for objects in found.values()):
            raise ServerError(
                f"the answer to a part of the positions is not sorted by catalog and position but is {type(found).__name__}"
            )
        for catalog, objects in found.items():
            data.setdefault(catalog, {}).update(objects)
    return Answer({**parts[0], "data": data}, index=parts[0].index)
