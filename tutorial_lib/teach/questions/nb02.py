"""The questions of notebook 2."""

from tutorial_lib.teach.prediction import Question

QUESTIONS = {
    "min": Question(
        "With a min of 2, what happens at batch 1 on a path that compiles ahead of time?",
        choices=("it is refused by the engine", "it is served", "another engine is built"),
        answer="it is served",
        why="The profile starts at 1, although 2 was typed. The next two cells show it.",
    ),
    "opt": Question(
        "The model is exported with a batch of 4, and `dynamo.compile` is told `opt_shape=16`. Which opt does the "
        "engine get?",
        answer=4,
        why="opt is always the size of the tensor that the graph was traced with.",
    ),
    "surprise": Question(
        "The engine for 2 to 32 wants 86 MB of activation memory. How many MB does the one want that `jit` builds when "
        "a batch of 33 comes?",
        answer=9_924,
        unit="MB",
        tolerance=0.3,
        why="Having been surprised, PyTorch forgets the range, and Torch-TensorRT (2.12 or newer) asks for a max of "
        "4096.",
    ),
    "layers": Question(
        "Of these 36 layers, how many only compute sizes, and are gone if the batch is always 4?",
        answer=26,
        tolerance=0.15,
        why="Ten are enough for a known batch.",
    ),
    "five": Question(
        "For a fixed batch the graph has 3 operators, and `min_block_size` is 5. What happens?",
        choices=(
            "an engine with 3 operators",
            "an error",
            "no engine, and the result differs from PyTorch's",
            "no engine, and the result agrees with PyTorch's",
        ),
        answer="no engine, and the result agrees with PyTorch's",
        why="The model stays in PyTorch, so of course its result agrees. All you get is a line in the log.",
    ),
}
