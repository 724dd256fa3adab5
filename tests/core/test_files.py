"""Files that are written whole or not at all, and answers that are computed once."""

import os
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tutorial_lib.core.files import FolderError, out_folder, remembered, save


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TUTORIAL_LIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_who_asks_at_once_waits_for_the_first_and_has_its_answer():
    start, asked = threading.Barrier(4), []

    def compute():
        asked.append(len(asked))
        time.sleep(0.05)
        return asked[-1]

    def ask():
        start.wait()
        return remembered("answers.json", "key", compute)

    with ThreadPoolExecutor(4) as pool:
        answers = [future.result() for future in [pool.submit(ask) for _ in range(4)]]
    assert answers == [0, 0, 0, 0]
    assert asked == [0]


def test_an_error_is_not_remembered_and_lets_the_next_one_in():
    with pytest.raises(ZeroDivisionError):
        remembered("answers.json", "key", lambda: 1 // 0)
    assert remembered("answers.json", "key", lambda: 2) == 2
    assert remembered("answers.json", "key", lambda: 3) == 2


def test_one_answer_does_not_replace_another():
    assert remembered("answers.json", "a", lambda: 1) == 1
    assert remembered("answers.json", "b", lambda: 2) == 2
    assert remembered("answers.json", "a", lambda: 3) == 1


def test_without_a_folder_it_is_computed_each_time(folder):
    folder.write_text("no folder")
    assert [remembered("answers.json", "key", lambda n=n: n) for n in (1, 2)] == [1, 2]


@pytest.mark.parametrize("content", ["", "{", "\x00\xff", "[]", "null", "5", '{"other": null}'])
def test_a_damaged_file_is_written_anew(folder, content):
    folder.mkdir()
    (folder / "answers.json").write_text(content, encoding="latin-1")
    assert remembered("answers.json", "key", lambda: 1) == 1
    assert remembered("answers.json", "key", lambda: 2) == 1


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    file = tmp_path / "file.json"
    save(file, "old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save(file, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]
    assert file.read_text() == "old"


def test_a_file_has_the_permissions_of_any_other_new_file(tmp_path):
    save(tmp_path / "saved", "")
    (tmp_path / "other").touch()
    assert (tmp_path / "saved").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a file"):
        save(tmp_path / "pipe", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)


def test_a_folder_for_results_need_not_be_there_yet_and_nothing_is_left_in_its_parent(tmp_path):
    assert out_folder(str(tmp_path / "a" / "b")) == tmp_path / "a" / "b"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="this system has no folder that even root cannot write to")
def test_a_folder_that_even_root_cannot_write_to_is_refused_before_anything_is_built():
    with pytest.raises(FolderError, match=r"^--out /proc/nowhere: /proc cannot be written to \(.+\)"):
        out_folder("/proc/nowhere")
