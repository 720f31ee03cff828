"""Stand-in servers: real `sh`, real files, and a `docker` of a few hundred lines behind a pipe.

Each server is a folder; the scripts of Opsbook run in it unchanged but for the base path. What `docker` answers is
computed in the test's own process, so that a test can look into it, break it, and count what it lost.
"""
