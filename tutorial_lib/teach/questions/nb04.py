"""The questions of notebook 4."""

from tutorial_lib.teach.prediction import Question

QUESTIONS = {
    "model": Question(
        "How many of the nine requests can the model itself answer, without a compiler?",
        answer=7,
        why="It takes any batch, any number of tokens, any strides. float16 passes because the concatenation with a "
        "float32 token makes it float32; float64 stays float64, and the product refuses it. A tensor without a batch "
        "axis cannot be concatenated either. These outcomes are the measure for the rest.",
    ),
    "compile": Question(
        "Now the range is marked with `mark_dynamic(min=4, max=32)`. How many requests does bare `torch.compile` "
        "refuse *because of the range*?",
        answer=0,
        why="For bare `torch.compile` a range is a hint about what to compile, not a limit on what to run. A call that "
        "fails the guard compiles another graph, and whoever sent it waits. What is refused is what the model refuses.",
    ),
    "package": Question(
        "The same requests go to a bare AOTInductor package. How many of the nine does it refuse?",
        answer=0,
        why="Nothing is refused: the check of dtypes, sizes, strides and device that it has is off by default. The "
        "code reads memory as it was told to when it was compiled, and what comes back has the right shape or not, and "
        "the wrong numbers.",
    ),
    "limit": Question(
        "A program that may not use dynamic sizes sees batches of 2, 3, 4, ... 13. How many graphs are compiled?",
        answer=8,
        why="Eight, `torch._dynamo.config.recompile_limit`. After that PyTorch runs the model uncompiled, with a "
        "warning in "
        "the log. Sizes that have a graph keep it; every other one is as fast as if nothing had been compiled.",
    ),
    "add": Question(
        "The smallest graph there is: `x + y`, both with a dynamic first dimension. How many graphs do calls with rows "
        "(6, 6), (6, 1), (1, 6) and (1, 1) need?",
        answer=4,
        why="Where both have n rows, the loop walks through both; where one has 1, it reads the same row again and "
        "again. That is other code. A graph that is right for every n including 1 would have to ask at every addition; "
        "PyTorch asks once, in the guard.",
    ),
}
