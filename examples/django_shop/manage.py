"""The shop's commands.

pip install django
python -m worker db upgrade
python examples/django_shop/manage.py migrate
python examples/django_shop/manage.py runserver
curl -d number=SO-1001 -d sku=SKU-1 -d quantity=2 localhost:8000/orders
"""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
    execute_from_command_line(sys.argv)
