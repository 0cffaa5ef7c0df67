"""PGIR (Palomar Gattini-IR), schema version 0.1."""

from __future__ import annotations

from typing import Any

from nuncius.alerts.surveys.base import CandidateSurvey


class Pgir(CandidateSurvey):
    """PGIR: J band alone, real/bogus score `drb`. The packets don't name the system of their magnitudes."""

    name = "pgir"
    catalog_prefix = "PGIR"
    schema_name = r"pgir\.alert"
    own_fields = frozenset(
        {"schemavsn", "publisher", "objectId", "candid", "candidate", "prv_candidates",
         "cutoutScience", "cutoutTemplate", "cutoutDifference"}
    )  # fmt: skip
    sentinels = frozenset({-99.0})
    score_fields = ("drb",)

    def band(self, raw: dict[str, Any]) -> str | None:
        """Return J: the camera has no other filter."""
        return "J"
