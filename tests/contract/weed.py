"""A real S3 service on 127.0.0.1: SeaweedFS, with one user and one bucket, its data in a folder of its own."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

ACCESS, SECRET = "tester", "a long secret key"
BUCKET = "backups"


def binary() -> str | None:
    """Return the path of `weed`, beside this Python or on the PATH."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.is_file() else shutil.which("weed")


class Weed:
    """One SeaweedFS: master, volume, filer and S3 in a process, with room for `volumes` times 128 MB."""

    def __init__(self, folder: Path, volumes: int = 50) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        users = {
            "identities": [
                {
                    "name": "tester",
                    "credentials": [{"accessKey": ACCESS, "secretKey": SECRET}],
                    "actions": ["Admin", "Read", "Write", "List", "Tagging"],
                }
            ]
        }
        (folder / "s3.json").write_text(json.dumps(users))
        master, volume, filer, s3 = _ports(4)
        weed = binary()
        assert weed is not None
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(
                        weed,
                        "-logtostderr",
                        "server",
                        "-ip=127.0.0.1",
                        "-ip.bind=127.0.0.1",
                        f"-dir={folder}",
                    ),
                    *(f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}"),
                    *(
                        "-master.volumeSizeLimitMB=128",
                        f"-volume.max={volumes}",
                        "-master.volumePreallocate=false",
                    ),
                    *(
                        "-filer",
                        "-s3",
                        f"-s3.port={s3}",
                        f"-s3.config={folder / 's3.json'}",
                        "-s3.port.iceberg=0",
                        "-s3.port.lance=0",
                    ),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.endpoint = f"http://127.0.0.1:{s3}"
        self._wait()

    def _wait(self) -> None:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError

        deadline = time.monotonic() + 60
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCESS,
            aws_secret_access_key=SECRET,
        )
        while True:
            try:
                client.create_bucket(Bucket=BUCKET)
                client.put_object(Bucket=BUCKET, Key="ready", Body=b"x")
                client.delete_object(Bucket=BUCKET, Key="ready")
                return
            except (BotoCoreError, ClientError) as error:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise AssertionError(
                        f"weed did not start: {error}\n{self.log.read_text()[-2000:]}"
                    ) from error
            time.sleep(0.1)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait(30)


def _ports(count: int) -> list[int]:
    """Return free ports whose companions 10,000 above, where SeaweedFS speaks gRPC, are free as well."""
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < count:
            one = held.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            if port + 10_000 > 65_535:
                continue
            with socket.socket() as other:
                if other.connect_ex(("127.0.0.1", port + 10_000)):
                    found.append(port)
    return found
