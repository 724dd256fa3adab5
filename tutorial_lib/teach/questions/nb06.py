"""The questions of notebook 6."""

from tutorial_lib.teach.prediction import Question

QUESTIONS = {
    "padding": Question(
        "The model takes token ids and a mask. Every token under the padding is replaced by another. What changes?",
        choices=("nothing", "the rows with padding", "everything"),
        answer="nothing",
        why="Attention does not look at padding, and the mean at the end leaves it out. So padding a sentence is "
        "allowed here.",
    ),
    "told": Question(
        "`ids` and `mask` have the same batch. Which paths have to be told so?",
        choices=("none", "jit", "input and export", "all three"),
        answer="input and export",
        why="jit finds out while it traces. export is told by using the same Dim twice, input by a shared name.",
    ),
    "engines": Question(
        "How many engines will `jit` have for batch from 1 and length from 8?",
        answer=2,
        why="Only batch includes 1, so there is one engine more. Each dimension that starts at 1 doubles their number; "
        "ahead of time it stays one.",
    ),
    "broadcast": Question(
        "Four bad calls: a mask that is too short, a mask with one row for four sentences, a batch above max, a "
        "length below min. "
        "In which is each tensor by itself in range, and does the model answer, uncompiled, without complaint?",
        choices=("mask too short", "mask with one row", "batch too large", "length too small"),
        answer="mask with one row",
        why="PyTorch broadcasts it to all four sentences: probably a bug in the caller, and nothing says so.",
    ),
    "patch": Question(
        "A vision transformer with patches of 16 gets an image of height 40. How many of its rows reach the model?",
        answer=32,
        unit="rows",
        why="The convolution drops what does not fill a patch, without a word. A refusal is better than an image that "
        "is cut in secret, so declare the step.",
    ),
}
