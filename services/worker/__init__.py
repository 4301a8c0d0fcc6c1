"""The ready-made Celery worker; it loads the task modules that its settings name."""
