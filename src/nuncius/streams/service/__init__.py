"""A stream as a service: keeping alerts for years, and telling those who watch how it goes."""

from nuncius.streams.service.disk import DiskGuard, parse_size
from nuncius.streams.service.logs import Redactor, logging_to_stderr
from nuncius.streams.service.metrics import MetricsServer
from nuncius.streams.service.monitor import Monitor
from nuncius.streams.service.running import Service, is_temporary
from nuncius.streams.service.status import Snapshot, read_verdict
from nuncius.streams.service.stopping import Stopping

__all__ = [
    "DiskGuard",
    "MetricsServer",
    "Monitor",
    "Redactor",
    "Service",
    "Snapshot",
    "Stopping",
    "is_temporary",
    "logging_to_stderr",
    "parse_size",
    "read_verdict",
]
