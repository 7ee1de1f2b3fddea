"""The service process: REST API and pages, on FastAPI."""
