"""What an alert is, whatever the survey: bytes in, values out, no network."""

from nuncius.alerts.alert import Alert, read_packets
from nuncius.alerts.cutouts import Cutout, Cutouts
from nuncius.alerts.lightcurve import LightCurve, Point
from nuncius.alerts.notice import Notice
from nuncius.alerts.origin import Origin

__all__ = ["Alert", "Cutout", "Cutouts", "LightCurve", "Notice", "Origin", "Point", "read_packets"]
