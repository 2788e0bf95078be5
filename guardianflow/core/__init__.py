"""The life of a run: settings, state, tracking, metrics, runners, registry."""
