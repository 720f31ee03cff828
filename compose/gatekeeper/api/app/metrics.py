"""What the API counts, for Prometheus."""

from prometheus_client import Counter, Histogram

requests = Counter("http_requests_total", "Requests by route and status.", ["method", "route", "status"])
duration = Histogram("http_request_duration_seconds", "Time to answer, by route.", ["route"])
webhooks = Counter("webhook_events_total", "Events by what became of them.", ["result"])
queries = Counter("agent_queries_total", "Questions that agents have answered.")
failures = Counter("agent_queries_failed_total", "Questions that agents gave up.")
