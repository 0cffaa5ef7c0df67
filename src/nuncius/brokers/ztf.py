"""ZTF's own stream, public and for partners: a topic a night and programme."""

from __future__ import annotations

import re

from nuncius.brokers.profile import Profile


class Ztf(Profile):
    """ZTF: Avro containers, topics such as ``ztf_20261121_programid1``."""

    name = "ztf"
    title = "ZTF"
    login_help = "none: servers let in the addresses that they know (partners: partnership.alerts.ztf.uw.edu)"
    topics_help = (
        "programid1 (public), programid2 (partners), programid3 (Caltech): tonight and what is not read yet of the "
        "nights before; or one night, ztf_20261121_programid1"
    )

    def topic(self, name: str) -> str:
        """Turn a programme into its topics, one a night."""
        return f"ztf_{{date}}_{name}" if re.fullmatch(r"programid\d", name) else name
