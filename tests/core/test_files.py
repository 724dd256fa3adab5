"""What is found out once and kept in the cache folder."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tutorial_lib.core.files import remembered


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TUTORIAL_LIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_who_asks_at_once_waits_for_the_first_and_has_its_answer():
    start, asked = threading.Barrier(4), []

    def find():
        asked.append(len(asked))
        time.sleep(0.05)
        return asked[-1]

    def ask():
        start.wait()
        return remembered("answers.json", "key", find)

    with ThreadPoolExecutor(4) as pool:
        answers = [future.result() for future in [pool.submit(ask) for _ in range(4)]]
    assert answers == [0, 0, 0, 0]
    assert asked == [0]


def test_an_error_is_not_remembered_and_lets_the_next_one_in():
    with pytest.raises(ZeroDivisionError):
        remembered("answers.json", "key", lambda: 1 // 0)
    assert remembered("answers.json", "key", lambda: 2) == 2
    assert remembered("answers.json", "key", lambda: 3) == 2


def test_without_a_folder_it_is_found_out_each_time(folder):
    folder.write_text("no folder")
    assert [remembered("answers.json", "key", lambda n=n: n) for n in (1, 2)] == [1, 2]


def test_a_damaged_file_is_written_anew(folder):
    folder.mkdir()
    (folder / "answers.json").write_text("{")
    assert remembered("answers.json", "key", lambda: 1) == 1
    assert remembered("answers.json", "key", lambda: 2) == 1
