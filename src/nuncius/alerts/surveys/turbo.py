"""TURBO, schema version 0.1 (test packets so far)."""

from __future__ import annotations

from nuncius.alerts.surveys.base import CandidateSurvey


class Turbo(CandidateSurvey):
    """TURBO. Its outer alert ids repeat, so the object id belongs to the key. The magnitudes' system is not named."""

    name = "turbo"
    catalog_prefix = "TURBO"
    schema_name = r"turbo\.alert"
    own_fields = frozenset(
        {"schemavsn", "publisher", "objectId", "candid", "candidate", "prv_candidates",
         "cutoutScience", "cutoutTemplate", "cutoutDifference"}
    )  # fmt: skip
    unique_alert_ids = False
    bands = {0: "Y", 1: "J", 2: "H", 3: "K"}
