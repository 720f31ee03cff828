"""Gatekeeper's API: events that signed webhooks bring, questions that agents answer, and files."""
