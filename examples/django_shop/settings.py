"""The shop's settings: its own database, which holds the outbox tables, too."""

import os
from urllib.parse import parse_qs, unquote, urlsplit

_url = urlsplit(os.environ.get("SHOP_DATABASE_URL", "sqlite:///var/outbox.db"))

if _url.scheme == "sqlite":
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": _url.path.removeprefix("/"),
            # A transaction that first reads and then writes would fail when another came in between.
            "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 10},
        }
    }
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": _url.path.removeprefix("/"),
            "USER": unquote(_url.username or ""),
            "PASSWORD": unquote(_url.password or ""),
            "HOST": _url.hostname or parse_qs(_url.query).get("host", [""])[0],
            "PORT": _url.port or "",
        }
    }

SECRET_KEY = os.environ.get("SHOP_SECRET_KEY", "for trying out only")
ALLOWED_HOSTS = ["localhost", "testserver"]
INSTALLED_APPS = ["orders"]
ROOT_URLCONF = "orders.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
