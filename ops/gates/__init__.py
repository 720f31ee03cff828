"""What lets a release pass: container health, and smoke requests through the proxy."""
