"""Servers before any stack runs on them: whom to trust, what is there, what is missing."""
