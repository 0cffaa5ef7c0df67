"""A sky that does not exist, observed as ZTF would: the same alerts for the same seed.

It holds variable stars, supernovae and asteroids. A telescope visits its fields every other night, twice a night; what
differs from the reference image by more than five sigma becomes an alert in a packet shaped like ZTF's schema 4.01,
with a history that agrees with the alerts before it and cutouts that agree with its magnitude.
"""

from nuncius.sandbox.sky.objects import Host, SkyObject
from nuncius.sandbox.sky.survey import SyntheticSky, synthetic_alerts

__all__ = ["Host", "SkyObject", "SyntheticSky", "synthetic_alerts"]
