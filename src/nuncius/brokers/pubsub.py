"""Google Pub/Sub: any subscription, of which nothing more is known."""

from __future__ import annotations

import os
from typing import ClassVar

from nuncius.brokers.profile import Profile
from nuncius.streams.pubsub.login import is_login_kept


class PubSub(Profile):
    """A subscription that is there, with packets that say themselves what they are."""

    name = "pubsub"
    title = "Google Pub/Sub"
    servers = "pubsub.googleapis.com:443"
    port = 443
    mechanism = "GOOGLE"
    login_required = True
    tls = True
    login_help = (
        "a key file named by GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth application-default login`, or "
        "`nuncius login pittgoogle`"
    )
    topics_help = "pubsub://PROJECT/SUBSCRIPTION"

    topic_projects: ClassVar[tuple[tuple[str, str], ...]] = ()
    """In which project a topic is, by the beginning of its name; none where subscriptions are named themselves."""

    def has_login(self, host: str) -> bool:
        """See `Profile.has_login`. A machine in Google's cloud may have one that nothing here tells of."""
        return bool(os.environ.get("PUBSUB_EMULATOR_HOST")) or is_login_kept()
