"""mongomock in the place of MongoDB, with what the plugins of a dserver need and mongomock has not.

To be imported before the server: it replaces `pymongo.MongoClient` by clients that all share one store, and fills four gaps:
UUIDs as values, `$text`, the stage `$unset`, and views. It unwinds faster, too.
"""

import copy
import functools
import re
import threading
import unicodedata

import bson
import mongomock
import mongomock.aggregate
import mongomock.collection
import mongomock.database
import mongomock.filtering
import pymongo
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from mongomock.store import ServerStore

_STANDARD = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)
_STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this"
        " to was will with",
    )
)


# UUIDs as values --------------------------------------------------------------------------------------------------------


class _StandardBson:
    """What mongomock asks whether a document could be stored at all."""

    @staticmethod
    def encode(document, *, check_keys=False):
        return bson.encode(document, check_keys, _STANDARD)


# Text -------------------------------------------------------------------------------------------------------------------


def _stem(word):
    """Cut the commonest endings of English; MongoDB has Snowball's stemmer."""
    for ending in ("ings", "ing", "edly", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def _folded(text):
    """Return a text without capitals and accents, which don't count."""
    return "".join(
        each for each in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(each)
    )


def _terms(text):
    return {_stem(word) for word in re.findall(r"\w+", _folded(text)) if word not in _STOP_WORDS}


def _strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _strings(inner)


def _found_by_text(document, search):
    """Say whether one of the words is in it, all "phrases" and no -word."""
    texts = list(_strings(document))
    has = set().union(*map(_terms, texts))
    phrases = re.findall(r'"([^"]*)"', search)
    words = re.sub(r'"[^"]*"', " ", search).split()
    unwanted = {term for word in words if word.startswith("-") for term in _terms(word[1:])}
    wanted = {term for word in words if not word.startswith("-") for term in _terms(word)}
    wanted |= {term for phrase in phrases for term in _terms(phrase)}
    return (
        bool(wanted & has)
        and not unwanted & has
        and all(any(_folded(phrase) in _folded(text) for text in texts) for phrase in phrases)
    )


def _with_text(apply):
    @functools.wraps(apply)
    def applied(self, search_filter, document):
        if isinstance(search_filter, dict) and "$text" in search_filter:
            rest = {key: value for key, value in search_filter.items() if key != "$text"}
            return _found_by_text(document, search_filter["$text"]["$search"]) and apply(self, rest, document)
        return apply(self, search_filter, document)

    return applied


# $unset -----------------------------------------------------------------------------------------------------------------


def _remove(value, names):
    if isinstance(value, list):
        return [_remove(inner, names) for inner in value]
    if not isinstance(value, dict):
        return value
    first, *rest = names
    if not rest:
        return {key: inner for key, inner in value.items() if key != first}
    return {key: _remove(inner, rest) if key == first else inner for key, inner in value.items()}


def _unset(documents, _database, names):
    for name in [names] if isinstance(names, str) else names:
        documents = [_remove(document, name.split(".")) for document in documents]
    return documents


# $unwind ----------------------------------------------------------------------------------------------------------------


def _without_copies_of_the_list(unwind):
    """Return a handler that copies for each element that element, and not the whole list: a graph has long ones."""

    def unwound(documents, database, options):
        path = options["path"] if isinstance(options, dict) else options
        if (
            not isinstance(path, str)
            or "." in path
            or (isinstance(options, dict) and "includeArrayIndex" in options)
        ):
            return unwind(documents, database, options)
        name, found = path[1:], []
        for document in documents:
            elements = document.get(name)
            if not isinstance(elements, list) or not elements:
                found += unwind([document], database, options)
                continue
            rest = {key: value for key, value in document.items() if key != name}
            found += [copy.deepcopy(rest) | {name: copy.deepcopy(element)} for element in elements]
        return found

    return unwound


# Views ------------------------------------------------------------------------------------------------------------------


class _Views:
    """Collections that are filled anew from their pipelines whenever somebody looks something up in them."""

    def __init__(self, command, aggregate):
        self._command, self._aggregate = command, aggregate
        self._views = {}
        self._lock = threading.RLock()

    def command(self, database, command, *arguments, viewOn=None, pipeline=None, **options):  # noqa: N803
        if command != "create" or viewOn is None:
            return self._command(database, command, *arguments, **options)
        (name,) = arguments
        with self._lock:
            list(
                self._aggregate(database[viewOn], pipeline)
            )  # a pipeline that can't be is refused here already
            database.create_collection(name)
            self._views[database.name, name] = viewOn, pipeline
        return {"ok": 1.0}

    def aggregate(self, collection, pipeline, *arguments, **options):
        looked_up = {
            what["from"]
            for stage in pipeline
            for what in stage.values()
            if isinstance(what, dict) and "from" in what
        }
        with self._lock:
            for name in looked_up:
                self._fill(collection.database, name)
            return self._aggregate(collection, pipeline, *arguments, **options)

    def _fill(self, database, name):
        if (database.name, name) in self._views:
            source, pipeline = self._views[database.name, name]
            database[name].delete_many({})
            if documents := list(self._aggregate(database[source], pipeline)):
                database[name].insert_many(documents)


# All of it --------------------------------------------------------------------------------------------------------------


def _put_in_place():
    store = ServerStore()
    views = _Views(mongomock.database.Database.command, mongomock.collection.Collection.aggregate)
    pymongo.MongoClient = functools.partial(mongomock.MongoClient, _store=store)
    mongomock.collection.BSON = _StandardBson
    mongomock.filtering._Filterer.apply = _with_text(mongomock.filtering._Filterer.apply)
    handlers = mongomock.aggregate._PIPELINE_HANDLERS
    handlers |= {"$unset": _unset, "$unwind": _without_copies_of_the_list(handlers["$unwind"])}

    # Functions, so that they are bound to the database and the collection.
    def command(database, *given, **options):
        return views.command(database, *given, **options)

    def aggregate(collection, *given, **options):
        return views.aggregate(collection, *given, **options)

    mongomock.database.Database.command = command
    mongomock.collection.Collection.aggregate = aggregate


_put_in_place()
