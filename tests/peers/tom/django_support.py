"""A TOM in one process, without a server: for the tests that run inside of the Toolkit's own environment.

`test_inside.py` starts them there, once for each version. By hand:

    PYTHON -m pytest -c /dev/null --rootdir tests/peers/tom --noconftest tests/peers/tom/test_services.py

with the interpreter of an environment that has tomtoolkit, nuncius and pytest.
"""

import atexit
import functools
import importlib.util
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

if importlib.util.find_spec("tom_dataservices") is None:
    pytest.skip(
        "tomtoolkit is not in this environment: test_inside.py runs these tests where it is",
        allow_module_level=True,
    )

FOLDER = Path(tempfile.mkdtemp(prefix="nuncius-tom-"))
ARCHIVE = FOLDER / "night.db"

URLS = """
from django.urls import include, path
urlpatterns = [path("", include("tom_common.urls"))]
if {legacy}:
    urlpatterns.append(path("alerts/", include("tom_alerts.urls", namespace="alerts")))
"""


@functools.cache
def toolkit(*, database=True):
    """Configure Django, make the database and an archive of alerts, and return the settings."""
    import django
    from django.conf import settings
    from django.core.management import call_command
    from django.test.utils import setup_test_environment
    from tom_common import default_settings

    atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
    os.environ["NUNCIUS_DATA_DIR"], os.environ["NUNCIUS_CONFIG_DIR"] = (
        str(FOLDER / "data"),
        str(FOLDER / "config"),
    )
    said = {name: value for name, value in vars(default_settings).items() if name.isupper()}
    apps = said.pop("TOMTOOLKIT_INSTALLED_APPS", None) or said.pop("TOMTOOKIT_INSTALLED_APPS")
    middleware = said.pop("TOMTOOLKIT_MIDDLEWARE", None) or said.pop("TOMTOOKIT_MIDDLEWARE")
    backends = said.pop("TOMTOOLKIT_AUTHENTICATION_BACKENDS", None) or [
        "django.contrib.auth.backends.ModelBackend",
        "guardian.backends.ObjectPermissionBackend",
    ]
    (FOLDER / "tom_urls.py").write_text(URLS.format(legacy="tom_alerts" not in apps))
    sys.path.insert(0, str(FOLDER))
    pack = "bootstrap5" if "crispy_bootstrap5" in apps else "bootstrap4"
    more = [name for name in ("tom_dataservices", "tom_alerts") if name not in apps]
    settings.configure(
        **(said | {
            "SECRET_KEY": "of a test",
            "ALLOWED_HOSTS": ["testserver"],
            "INSTALLED_APPS": [*apps, *more, "nuncius.tom"],
            "MIDDLEWARE": middleware,
            "AUTHENTICATION_BACKENDS": backends,
            "SITE_ID": 1,
            "ROOT_URLCONF": "tom_urls",
            "TEMPLATES": [_templates()],
            "CRISPY_TEMPLATE_PACK": pack,
            "DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": FOLDER / "tom.sqlite3"}},
            "DEFAULT_AUTO_FIELD": "django.db.models.AutoField",
            "CACHES": {"default": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": FOLDER / "cache"}},
            "TASKS": {"default": {"BACKEND": "django_tasks.backends.immediate.ImmediateBackend"}},
            "USE_TZ": True, "TIME_ZONE": "UTC", "STATIC_URL": "/static/", "MEDIA_ROOT": FOLDER / "media", "MEDIA_URL": "/data/",
            "LOGIN_URL": "/accounts/login/", "LOGIN_REDIRECT_URL": "/", "TARGET_TYPE": "SIDEREAL", "TOM_NAME": "Test",
            "PASSWORD_HASHERS": ["django.contrib.auth.hashers.MD5PasswordHasher"],
            "DATA_PRODUCT_TYPES": {name: (name, name) for name in ("photometry", "fits_file", "spectroscopy", "image_file")},
            "TOM_FACILITY_CLASSES": [], "FACILITIES": {}, "EXTRA_FIELDS": [], "HINTS_ENABLED": False, "HINT_LEVEL": 20,
            "AUTH_STRATEGY": "READ_ONLY", "OPEN_URLS": [], "TARGET_PERMISSIONS_ONLY": True, "MATCH_MANAGERS": {},
            "TARGET_DEFAULT_PERMISSION": "PRIVATE", "HOOKS": {}, "AUTO_THUMBNAILS": False, "THUMBNAIL_MAX_SIZE": (0, 0),
            "THUMBNAIL_DEFAULT_SIZE": (200, 200), "PLOTLY_THEME": "plotly_white",
            "TOM_ALERT_CLASSES": ["nuncius.tom.legacy.ArchiveBroker", "nuncius.tom.legacy.StreamBroker"],
            "DATA_SERVICES": {"Nuncius Archive": {"url": str(ARCHIVE)}},
        })
    )  # fmt: skip
    django.setup()
    setup_test_environment()
    if database:
        call_command("migrate", verbosity=0)
        _fill()
    return settings


def _templates():
    processors = ["debug", "request"]
    return {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                *(f"django.template.context_processors.{name}" for name in processors),
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }


def _fill():
    import nuncius
    from nuncius.sandbox import synthetic_alerts

    with nuncius.open_archive(ARCHIVE) as archive:
        archive.ingest(map(nuncius.Alert.from_bytes, synthetic_alerts(120)), progress=False)


@functools.cache
def user(name):
    """Return a user of the TOM."""
    toolkit()
    from django.contrib.auth.models import User

    return User.objects.create_user(name, f"{name}@example.org", "rubin-1928")


def browser(name=None):
    """Return Django's test client, logged in; an error of a view is an answer 500, as on a server."""
    toolkit()
    from django.test import Client

    client = Client(raise_request_exception=False)
    if name is not None:
        client.force_login(user(name), backend=toolkit().AUTHENTICATION_BACKENDS[0])
    return client


def ask(client, service, **values):
    """Send a query's form, follow to the results, and return the answer."""
    form = {"data_service": service, **values}
    answer = client.post("/tom_dataservices/query/create/", form, follow=True)
    assert answer.status_code == 200, answer.content[-2000:]
    return answer


def offered(answer):
    """Return the ids that the page offers for its rows."""
    return re.findall(r'name="selected_results" value="([^"]*)"', answer.content.decode())


def choose(client, service, ids):
    """Make targets of rows, and return the page that follows."""
    form = {"data_service": service, "query_id": "", "selected_results": ids}
    return client.post("/tom_dataservices/query/create_targets/", form, follow=True)


def objects(limit=5, **values):
    """Return objects of the archive as it gives them without any page."""
    import nuncius
    from nuncius.tom.asking import source_of
    from nuncius.tom.questions import Question

    with nuncius.open_archive(ARCHIVE, read_only=True) as archive:
        return source_of(archive).search(Question.of({"limit": limit, **values})).objects
