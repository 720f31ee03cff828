"""Backups: taken, listed, verified, expired."""
