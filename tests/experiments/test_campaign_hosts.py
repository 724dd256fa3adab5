"""A campaign over two hosts, one of which is slow and then lost, and whose scheduler restarts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
pytest.importorskip("distributed", reason="Dask is optional: `pip install dask distributed`")
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "campaign_hosts.py"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="two hosts of one machine are made on Linux alone")
def test_nothing_is_lost_or_there_twice_when_a_worker_and_the_scheduler_go(tmp_path):
    file = tmp_path / "found.json"
    command = [sys.executable, str(SCRIPT), "--settings", "9", "--json", str(file)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(file.read_text())
    assert (found["lost"], found["twice"], found["failed"]) == (0, 0, []), found["log"]
    assert found["exit code of the second client"] == 0
    assert found["the client said so"]
    assert found["kept after that"] >= found["done before the scheduler went"] >= 3
    if found["hosts"] == "two network namespaces":
        assert set(found["measured by"]) <= {"host-a", "host-b"}
