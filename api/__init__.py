"""The service process: dashboard, REST API, export and erasure."""
