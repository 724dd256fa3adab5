"""The questions of notebook 3."""

from tutorial_lib.teach.prediction import Question

QUESTIONS = {
    "engines": Question(
        "How many engines will there be in all, for `jit` and `export` together?",
        answer=3,
        why="`jit` has one for 2 to 32 and one for batch 1 alone; `export` serves 1 from the only one.",
    ),
    "opt": Question(
        "The model is nearly all matrix product. How much faster does batch 16 get when the engine is tuned for 16 "
        "instead of 4?",
        choices=("hardly at all", "about twice as fast", "four times as fast"),
        answer="hardly at all",
        why="The same library multiplies the same matrices, and does not ask for opt.",
    ),
    "who": Question(
        "Now the compiler has a choice for each product: the library's, or a kernel that it generates. On the CPU of "
        "the outputs that come with this notebook, which won when it was tuned for 1024 tokens?",
        choices=("the library", "the generated kernel"),
        answer="the library",
        why="With many rows nothing beats the library; with one or two rows, what a library does around a product "
        "weighs more than the product, and the generated kernel won.",
    ),
    "outside": Question(
        "With permission to build, `jit` builds another engine for a batch of 33. Up to which max does it go?",
        choices=("32", "33", "none: it has no upper end"),
        answer="none: it has no upper end",
        why="Having seen a second range of sizes, PyTorch gives up your bound.",
    ),
    "min": Question(
        "You type a min of 2. Which min does the engine of TensorRT get on `export`?",
        answer=1,
        why="Torch-TensorRT turns a lower bound of exactly 2 into 1: notebook 2 explains it.",
    ),
    "sooner": Question(
        "Two compilers build the same two models. Which of them was done sooner on the machine of this notebook's "
        "outputs?",
        choices=("inductor", "openvino"),
        answer="openvino",
        why="It chooses among kernels that it brings along. Inductor writes C++ and waits for a C++ compiler.",
    ),
}
