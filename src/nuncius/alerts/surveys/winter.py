"""WINTER, the near-infrared survey at Palomar, schema version 0.1."""

from __future__ import annotations

from nuncius.alerts.surveys.base import CandidateSurvey


class Winter(CandidateSurvey):
    """WINTER. The packets don't name the system of their magnitudes, so there is no flux.

    The numbers of the filters follow the text in the packets' own schema (0 = Y, 1 = J, 2 = H, 3 = K). Kowalski uses
    another table (1 = Y, 2 = J, 3 = H, 4 = dark): look at `packet["candidate"]["fid"]` where it matters.
    """

    name = "winter"
    catalog_prefix = "WNTR"
    schema_name = r"winter\.alert"
    own_fields = frozenset(
        {"schemavsn", "publisher", "objectid", "candid", "candidate", "prv_candidates", "cutout_science",
         "cutout_template", "cutout_difference"}
    )  # fmt: skip
    object_id_field = "objectid"
    bands = {0: "Y", 1: "J", 2: "H", 3: "K"}
    cutout_fields = ("cutout_science", "cutout_template", "cutout_difference")
