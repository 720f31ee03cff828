"""What a terminal shows while a stream goes on."""

import io

from rich.console import Console

from ops.runs.phases import Phase
from ops.runs.reporting import Within, metered
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


def test_a_run_within_another_shows_its_steps_and_bytes_in_the_phase_of_that_one():
    live = Live(str)
    try:
        live.phase(Phase.BACKUP)
        inner = Within(live)
        for phase in (Phase.CHECK, Phase.SWITCH):
            inner.phase(phase)
        inner.step("db1", "pg_dump of shop")
        inner.moved("db1", 12_000_000)
        assert "taking a backup" in drawn(live)
        assert "pg_dump of shop" in drawn(live)
        assert "12.0 MB, " in drawn(live)
        inner.finished("db1", "dumped")
        inner.close()
        live.step("db1", "the next")  # the outer one goes on
        assert "the next" in drawn(live)
    finally:
        live.close()
