"""``nuncius antares``: the command line of antares-client."""

from nuncius.compat.antares_client.program import command

__all__ = ["command"]
