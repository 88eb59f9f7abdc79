"""How tasks run: the Celery app, queues, dispatch, one run, leases, rescue, beat."""
