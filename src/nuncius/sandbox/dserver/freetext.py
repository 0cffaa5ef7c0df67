"""Free text as MongoDB's text indexes find it: any of the words, all of the phrases, none of what has a minus.

Words are compared by their stems, without case and accents. The stems are those of the first steps of Porter's
algorithm (plurals, -ed, -ing); MongoDB's go further.

Sources: the MongoDB manual, "$text"; M. F. Porter, "An algorithm for suffix stripping", Program 14 (1980) 130.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_WORD = re.compile(r"\w+")
_PART = re.compile(r'(-?)"([^"]*)"|(\S+)')
_STOP_WORDS = """
    a about above after again all am an and any are as at be because been before being below between both but by can did
    do does doing down during each few for from further had has have having he her here hers him his how i if in into is
    it its just me more most my no nor not now of off on once only or other our ours out over own same she so some such
    than that the their theirs them then there these they this those through to too under until up very was we were what
    when where which while who whom why will with you your yours
"""
_VOWEL = re.compile("[aeiouy]")
_NO_MEANING = frozenset(_STOP_WORDS.split())


def folded(text: str) -> str:
    """Return a text without case and accents."""
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in parts if not unicodedata.combining(letter))


@lru_cache(maxsize=4096)
def stem(word: str) -> str:
    """Return the stem of a word.

    Examples
    --------
    >>> stem("testing"), stem("galaxies"), stem("observed"), stem("glass")
    ('test', 'galaxi', 'observ', 'glass')
    """
    if word.endswith(("sses", "ies")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith("ss") and len(word) > 3:
        word = word[:-1]
    for ending in ("ing", "ed"):
        left = word.removesuffix(ending)
        if left != word and _VOWEL.search(left):
            word = left[:-1] if left[-2:-1] == left[-1:] and left[-1] not in "lsz" else left
            break
    if word.endswith("e") and len(word) > 4:
        word = word[:-1]
    return word[:-1] + "i" if word.endswith("y") and len(word) > 3 else word


class TextIndex:
    """The words of one document.

    Parameters
    ----------
    document : mapping
        The document; all texts in it count.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._texts = [folded(text) for text in _texts(document)]
        self._stems = {stem(word) for text in self._texts for word in _WORD.findall(text)}

    def meets(self, search: str) -> bool:
        """Tell whether the document is found."""
        words: set[str] = set()
        phrased = False
        for minus, phrase, plain in _PART.findall(folded(search)):
            if phrase.strip():
                if any(phrase in text for text in self._texts) == bool(minus):
                    return False
                phrased = phrased or not minus
            elif plain.startswith("-"):
                if self._stems & _stems(plain):
                    return False
            else:
                words |= _stems(plain)
        return phrased or bool(words & self._stems)


def _stems(text: str) -> set[str]:
    return {stem(word) for word in _WORD.findall(text) if word not in _NO_MEANING}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
