"""What delivers: the engine and its parts, alerts, replay, the command line. It knows no Celery."""
