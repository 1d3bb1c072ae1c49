"""What agent.yaml does at its limits: a full queue, a full disk, an end while it is blocked; and how it is mended."""

from __future__ import annotations

import pytest
from load import Load, in_bill, record
from running import Collector, basic, htpasswd, logs, post

from openai_metering.cli import main
from waiting import wait_for

# A file system of its own with 6 MiB, in a namespace that ends with the process; no rights are needed.
SMALL_DISK = ("unshare", "-Urm", "sh", "-c", 'mount -t tmpfs -o size=6m none "$0" && exec "$@"')


@pytest.fixture
def gateway(collector_binary, tmp_path):
    folder = tmp_path / "gateway"
    folder.mkdir()
    htpasswd(folder / "htpasswd", ["agent"])
    (folder / "principals.csv").write_text("principal,organizations\nagent,*\n")
    (folder / "lookup.csv").write_text("credential,subscriber,organization\n")
    made = Collector(collector_binary, folder, "gateway.yaml", STORE_DIR=str(folder / "store"))
    yield made
    made.kill()


@pytest.fixture
def agent(collector_binary, tmp_path, gateway):
    (tmp_path / "ledger").mkdir(mode=0o700)
    made = Collector(
        collector_binary,
        tmp_path / "agent",
        "agent.yaml",
        GATEWAY_ENDPOINT=gateway.http_endpoint,
        GATEWAY_AUTHORIZATION=basic("agent"),
        LEDGER_DIR=str(tmp_path / "ledger"),
        QUEUE_DIR=str(tmp_path / "agent" / "queue"),
        QUEUE_RECORDS="1000",
    )
    yield made
    made.kill()


def test_an_end_while_blocked_is_mended_by_replay(gateway, agent, tmp_path, capsys):
    """With the gateway away and the queue full, lines of the ledger are passed over; the ledger has them, replay sends them.

    What was acknowledged over OTLP is not touched by the end.
    """
    agent.start()
    load = Load(agent, tmp_path / "ledger")
    acknowledged = set()
    for number in range(100):
        batch = [f"otlp-{number}-{place}" for place in range(20)]
        if post(agent.http_endpoint, "logs", logs(*map(record, batch))) == 200:
            acknowledged.update(batch)
    assert 500 < len(acknowledged) < 2000, "the queue was to be full"
    for number in range(500):
        load.keep(f"ledger-{number}")
    wait_for(lambda: "sending queue is full" in agent.log, "the ledger's lines to be refused", timeout=30)
    agent.stop()
    agent.start()
    gateway.start()
    wait_for(lambda: acknowledged <= set(in_bill(gateway)), "what was acknowledged", timeout=60)
    passed_over = load.taken - set(in_bill(gateway))
    arguments = ["--endpoint", gateway.http_endpoint, "--header", f"authorization={basic('agent')}"]
    assert main(["replay", str(tmp_path / "ledger"), *arguments]) == 0
    wait_for(lambda: load.taken | acknowledged <= set(in_bill(gateway)), "everything", timeout=60)
    with capsys.disabled():
        found = in_bill(gateway)
        print(
            f"\nblocked, then SIGTERM: {len(acknowledged)} acknowledged, 0 lost; of {len(load.taken)} lines of the ledger "
            f"{len(passed_over)} passed over, 0 after replay; {len(found) - len(set(found))} twice"
        )


def test_a_full_disk_refuses_and_the_ledger_has_everything(gateway, agent, tmp_path, capsys):
    """The sender hears of a full disk; whatever the queue on it makes of that, replay of the ledger makes the bill whole."""
    (tmp_path / "agent" / "queue").mkdir(parents=True)
    agent.within = (*SMALL_DISK, agent.variables["QUEUE_DIR"])
    agent.variables["QUEUE_RECORDS"] = "1000000"
    agent.start()
    load = Load(agent, tmp_path / "ledger")
    acknowledged, refused = set(), 0
    for number in range(400):
        batch = [f"otlp-{number}-{place}" for place in range(50)]
        many = logs(*({**record(one), "attribution.tag.padding": "x" * 800} for one in batch))
        if post(agent.http_endpoint, "logs", many) == 200:
            acknowledged.update(batch)
        else:
            refused += 1
        load.keep(f"ledger-{number}")
        if refused == 5:
            break
    assert refused == 5
    assert "no space left on device" in agent.log
    gateway.start()
    arguments = ["--endpoint", gateway.http_endpoint, "--header", f"authorization={basic('agent')}"]
    assert main(["replay", str(tmp_path / "ledger"), *arguments]) == 0
    wait_for(lambda: load.taken <= set(in_bill(gateway)), "all lines of the ledger", timeout=60)
    with capsys.disabled():
        print(f"\ndisk of the queue full: of {len(load.taken)} lines of the ledger 0 lost, after replay")
