"""What a terminal shows while a stream goes on."""

import io

from rich.console import Console

from ops.runs.phases import Phase
from ops.runs.reporting import metered
from ops.tasks.live import Live


def drawn(live):
    out = io.StringIO()
    Console(file=out, width=100).print(live._draw())
    return out.getvalue()


def test_bytes_and_their_rate_stand_behind_the_step_that_they_go_through():
    live = Live(lambda text: text.replace("secret", "***"))
    try:
        live.phase(Phase.BACKUP)
        live.step("web1", "pg_dump of secret")
        assert "B/s" not in drawn(live)
        assert sum(map(len, metered([b"x" * 3_000_000] * 4, live, "web1"))) == 12_000_000
        assert "pg_dump of ***" in drawn(live)
        assert "12.0 MB, " in drawn(live)
        assert "B/s" in drawn(live)
        live.step("web1", "the next")
        assert "B/s" not in drawn(live)
    finally:
        live.close()
