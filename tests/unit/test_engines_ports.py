"""What `docker ps` says of published ports."""

from __future__ import annotations

from ops.engines.ports import Published, published_ports


def test_addresses_ranges_and_protocols_are_read_and_what_is_not_published_is_left_out():
    text = "0.0.0.0:80->8080/tcp, [::]:80->8080/tcp, 5432/tcp\n127.0.0.1:5000-5002->5000-5002/udp\n\n"
    assert published_ports(text) == (
        Published("0.0.0.0", range(80, 81), "tcp"),
        Published("::", range(80, 81), "tcp"),
        Published("127.0.0.1", range(5000, 5003), "udp"),
    )
