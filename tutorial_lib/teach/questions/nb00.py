"""The questions of notebook 0."""

from tutorial_lib.teach.prediction import Question

QUESTIONS = {
    "engines": Question(
        "How many engines will `jit` have for batches from 1 to 32?",
        answer=2,
        why="PyTorch treats size 1 as special, so `jit` builds an engine for batch 1 alone beside that for 2 to 32. "
        "The other two paths build one.",
    ),
}
