"""What can be advised because of an alert: one file an action."""
