"""The questions of notebook 1."""

from tutorial_lib.teach.prediction import Question

PATHS = ("jit", "input", "export")

QUESTIONS = {
    "min": Question(
        "You ask each path for batches from 1 on. One of the three dialects will not repeat the 1. Which?",
        choices=PATHS,
        answer="jit",
        why="What is marked as dynamic cannot be 1 while PyTorch traces, so the mark says 2, and batch 1 is compiled "
        "apart.",
    ),
    "batch-one": Question(
        "`jit` has built an engine for 2 to 32 and one for batch 1. From which batch on does the engine of `input` "
        "work?",
        answer=1,
        why="Nothing in front of it sends batch 1 elsewhere: the same engine serves it.",
    ),
    "rounding": Question(
        "Three paths at three sizes: how many of the nine results will have more than 4 times the error that eager "
        "PyTorch has itself?",
        answer=0,
        why="None: another correct matrix product rounds in another order, and that is no error.",
    ),
    "share": Question(
        "How much of an eager call at batch 32 is the matrix product?",
        choices=("a quarter", "about half", "nearly all"),
        answer="nearly all",
        why="Fusing can only gain the rest. More is gained only if the compiled code multiplies with a faster library.",
    ),
    "outside": Question(
        "And without that check: what does a bare `torch.compile` do with a batch of 33?",
        choices=("it raises an error", "it returns a wrong result", "it builds another engine"),
        answer="it builds another engine",
        why="The guard fails, Dynamo traces again, and whoever called waits for the compiler. The next cell allows it.",
    ),
}
