"""Data sets: look them up on a dserver, and find the bytes of what is in them."""

from nuncius.datasets._async import AsyncDServer
from nuncius.datasets._sync import DServer
from nuncius.datasets.graph import Graph
from nuncius.datasets.opening import open_async_dserver, open_dserver
from nuncius.datasets.places import Item
from nuncius.datasets.values import DataSet, DataSets, Details, Manifest, Readme, Record

__all__ = [
    "AsyncDServer",
    "DServer",
    "DataSet",
    "DataSets",
    "Details",
    "Graph",
    "Item",
    "Manifest",
    "Readme",
    "Record",
    "open_async_dserver",
    "open_dserver",
]
