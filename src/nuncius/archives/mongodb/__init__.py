"""MongoDB as an archive, through pymongo: for collections of the shape that Kowalski has, and for others."""

from nuncius.archives.mongodb.backend import MongoBackend

__all__ = ["MongoBackend"]
