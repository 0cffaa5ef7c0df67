"""Where the pictures of the results are."""

from __future__ import annotations

from django.urls import path

from nuncius.tom import views

app_name = "nuncius_tom"

urlpatterns = [
    path("cutouts/<str:token>.png", views.cutouts, name="cutouts"),
    path("light-curve/<str:token>.svg", views.light_curve, name="light-curve"),
]
