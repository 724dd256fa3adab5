"""Cases for campaigns that run in other processes: tiny, and some of them end the process that makes them."""

import os
import signal
import time
from pathlib import Path

from tutorial_lib import perceptron


def tiny():
    _noted("tiny")
    return perceptron((1, 4, 8), width=16)


def slow():
    """Slow enough to be killed in the middle, by a test that reads the log."""
    _noted("slow")
    time.sleep(1)
    return perceptron((1, 4, 8), width=16)


def dies_once():
    _noted("dies_once")
    if _times("dies_once") == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return perceptron((1, 4, 8), width=16)


def dies():
    _noted("dies")
    os.kill(os.getpid(), signal.SIGKILL)


def _noted(name):
    with open(os.environ["CAMPAIGN_LOG"], "a") as log:
        log.write(f"{name} {os.getpid()}\n")


def _times(name):
    return Path(os.environ["CAMPAIGN_LOG"]).read_text().count(f"{name} ")


CASES = {"tiny": tiny, "slow": slow, "dies-once": dies_once, "dies": dies}
