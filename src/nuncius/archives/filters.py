"""The filter language; it stands in `nuncius.archives.language`."""

from nuncius.archives.language import *  # noqa: F403
