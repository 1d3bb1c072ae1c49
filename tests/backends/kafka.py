"""Apache Kafka as one process: broker and controller, that can be killed and started again."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import uuid
from typing import TYPE_CHECKING, Any

import fetched
from running import free_ports

from waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={folder}/logs
num.partitions=6
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
"""


class Kafka:
    """One broker in a folder of its own, with six partitions for each topic."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.java = folder, ["java", "-Xmx512m", "-cp", f"{fetched.kafka()}/*"]
        folder.mkdir(parents=True)
        broker, controller = free_ports(2)
        self.address = f"127.0.0.1:{broker}"
        self.settings = folder / "server.properties"
        self.settings.write_text(SETTINGS.format(broker=broker, controller=controller, folder=folder))
        identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "x")
        self.tool("kafka.tools.StorageTool", "format", "-t", identity, "-c", str(self.settings), "--standalone")
        self.process: subprocess.Popen[bytes] | None = None

    def tool(self, name: str, *arguments: str, check: bool = True) -> str:
        """Run one of Kafka's own command line tools."""
        done = subprocess.run(
            [*self.java, name, *arguments], cwd=self.folder, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done.stdout

    def start(self) -> None:
        with (self.folder / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.java, "kafka.Kafka", str(self.settings)], cwd=self.folder, stdout=log, stderr=log
            )
        wait_for(self._ready, "the broker", timeout=60)

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "broker.log").read_text()[-3000:]
        host, port = self.address.split(":")
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """End it as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
            self.process = None

    def messages(self, topic: str) -> list[tuple[int, Any]]:
        """Everything in a topic whose messages are JSON: partition, content."""
        printed = self.tool(
            "org.apache.kafka.tools.consumer.ConsoleConsumer",
            *("--bootstrap-server", self.address, "--topic", topic, "--from-beginning", "--timeout-ms", "4000"),
            *("--property", "print.partition=true", "--property", "key.separator=|"),
            check=False,
        )
        found = []
        for line in printed.splitlines():
            place, content = line.split("|", 1)
            found.append((int(place.removeprefix("Partition:")), json.loads(content)))
        return found

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
