"""Backups as they stand in a storage: manifests, and the streams between a server and the storage."""
