"""Pitt-Google as users of tom_pittgoogle know it.

Where a program has ``from tom_pittgoogle.consumer_stream_python import ConsumerStreamPython``, write::

    from nuncius.compat.tom_pittgoogle.consumer_stream_python import ConsumerStreamPython

and nothing else changes; in a TOM, name ``nuncius.compat.tom_pittgoogle.broker_stream_python.BrokerStreamPython`` in
``TOM_ALERT_CLASSES``. The interface is the documented one, and it does what its documentation says:

- ``max_results`` is exact: so many alerts are acknowledged, and all others are available to everybody at once.
- A callback that raises, or that returns ``{"ack": False}``, gets its message again after 1 s, 2 s, 4 s …, at most 60 s.
- Each call has a list of its own; ``max_results=None`` and ``timeout=None`` mean no limit.
- What can't be read is kept in a quarantine, and the stream goes on. JSON, Avro and Rubin's framed Avro are recognised.
- What is wrong with the login, the topic or the connection is raised, typed, from the call that waits.
- Neither Django nor Cloud Logging is needed. Who wants Cloud Logging attaches its handler to the logger
  ``nuncius.pittgoogle``.

New programs have more from `nuncius.open_stream`: filters, sinks, batches, ``async``.
"""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.11"  # the last release of the package whose documented interface is offered here
