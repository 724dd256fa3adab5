"""The questions of notebook 0."""

from tutorial_lib.teach.prediction import Question

QUESTIONS = {
    "memory": Question(
        "Up to a batch of 32, the engine reserves 86 MB. How many MB will it reserve up to a batch of 256? Then move "
        "the slider.",
        answer=628,
        unit="MB",
        tolerance=0.15,
        why="Memory follows max: eight times the batch takes 7.3 times the memory, even if you only ever call the "
        "engine with one image.",
    ),
    "fused": Question(
        "TensorRT turns the 15 operators of this model into 25 layers of a network, and then fuses them. How many "
        "layers that touch `x` are left?",
        answer=1,
        why="One, whose code TensorRT generates. It reads `x` once and writes the result once; PyTorch without "
        "compiling does that for each operator.",
    ),
    "product": Question(
        "The first model of this course is one matrix product and some reshaping. How much faster will a compiler make "
        "it on the H100?",
        choices=["as much as the model above", "hardly at all"],
        answer="hardly at all",
        why="A library multiplies the matrices, and that is nearly all of the work. Fusing can gain only the rest.",
    ),
    "engines": Question(
        "One model, batches from 1 to 32. How many engines will `jit` have?",
        answer=2,
        why="PyTorch treats size 1 as special, so `jit` has an engine for batch 1 alone beside that for 2 to 32. The "
        "other two paths have one.",
    ),
}
