"""A run's life: record, heartbeat, delivery, the one door to MLflow."""
