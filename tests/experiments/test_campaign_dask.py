"""A campaign on a real Dask cluster of two workers, one of which is killed midway."""

import os
from unittest import mock

import pytest
from test_campaign_processes import QUICK, kill_when_started, log, of, some, started  # noqa: F401 (log is a fixture)

from tutorial_lib.experiments.campaign import NotAlone, run_all, table

pytestmark = pytest.mark.slow

distributed = pytest.importorskip("distributed", reason="Dask is optional: `pip install dask distributed`")


@pytest.fixture
def cluster(tmp_path, log):  # noqa: F811
    def start(**more):
        return distributed.Client(
            distributed.LocalCluster(
                **{"n_workers": 2, "threads_per_worker": 1, "processes": True, **more},
                dashboard_address="127.0.0.1:0",
                local_directory=str(tmp_path),
            )
        )

    with mock.patch.dict(os.environ):  # Dask leaves MKL_NUM_THREADS=1 and more behind, for every later child process
        os.environ["OMP_NUM_THREADS"] = "1"
        yield start


def test_a_worker_that_is_killed_midway_loses_nothing_and_nothing_counts_twice(tmp_path, log, cluster):  # noqa: F811
    settings = [*some("tiny", 5), of("slow"), of("dies-once")]
    file, seen = tmp_path / "file", []

    def tell(done, total, text):
        seen.append(table(file)["setting"].nunique())

    with cluster() as client:
        workers = set(client.run(os.getpid).values())
        killing = kill_when_started(log, "slow")
        rows = run_all(settings, file, client.get_executor(), tell=tell, **QUICK)
        killing.join()
    assert len(workers) == 2
    assert len(started(log, "slow")) >= 2
    assert len(started(log, "dies_once")) >= 2
    assert rows["setting"].nunique() == len(settings)
    assert len(rows) == 2 * len(settings)
    assert rows["error"].isna().all()
    assert seen == list(range(1, len(settings) + 1)), "the table grows by one setting at a time"
    assert len(file.read_text().splitlines()) == 1 + len(settings)
    assert (rows["threads"] == 1).all()


def test_a_setting_that_kills_every_worker_is_a_row(tmp_path, log, cluster):  # noqa: F811
    with cluster() as client:
        client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 1))
        rows = run_all([of("dies"), of("tiny")], tmp_path / "file", client.get_executor(), retries=0, **QUICK)
    by_model = rows.groupby("model").first()
    assert by_model.loc["dies", "error"].startswith("its process ended early 1 times: KilledWorker")
    assert by_model["error"].isna()["tiny"]


def test_workers_of_several_threads_are_refused(tmp_path, log, cluster):  # noqa: F811
    with cluster(n_workers=1, threads_per_worker=2) as client, pytest.raises(NotAlone, match="threads_per_worker=1"):
        run_all([of("slow"), of("slow", 5)], tmp_path / "file", client.get_executor(), **QUICK)


def test_a_cluster_inside_this_process_is_refused(tmp_path, log, cluster):  # noqa: F811
    with cluster(n_workers=1, processes=False) as client, pytest.raises(NotAlone, match="in the process that waits"):
        run_all([of("tiny")], tmp_path / "file", client.get_executor(), **QUICK)
