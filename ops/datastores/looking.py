"""Datastores are asked about themselves, those of all servers side by side."""

from __future__ import annotations

from collections.abc import Mapping

from ops.datastores.base import Datastore, Looked
from ops.errors import FailedUnchanged, gathered
from ops.hosts import Host
from ops.hosts.fleet import each, together

__all__ = ["look"]


def look(stores: Mapping[str, Datastore], hosts: Mapping[str, Host]) -> dict[str, Looked]:
    """Ask each datastore about itself; all that cannot answer are told together."""

    def ask(host: Host) -> dict[str, Looked]:
        found, faults = {}, []
        for name, store in stores.items():
            if store.server != host.name:
                continue
            result = host.run(store.look())
            if result.ok:
                found[name] = store.read(result.stdout)
            else:
                faults.append(FailedUnchanged(f"datastore {name}: {result.last_lines}", target=host.name))
        if faults:
            raise gathered(faults)
        return found

    servers = {store.server: hosts[store.server] for store in stores.values()}
    return {name: looked for found in together(each(servers, ask)).values() for name, looked in found.items()}
