"""The questions of notebook 8."""

from tutorial_lib.teach.prediction import Question

QUESTIONS = {
    "fresh": Question(
        "Two saved programs and a `torch.save(model)` of a class that exists in this notebook alone. How many of the "
        "three can another process use?",
        answer=2,
        why="`torch.save(model)` holds the weights and the name of a class, so it needs your code, in the same place, "
        "wherever it is loaded; and nothing in it is compiled. The programs came with their range.",
    ),
    "frozen": Question(
        "A program for batches from 1 to 32 is saved with `torch_tensorrt.save(program, file, inputs=[x])`, x of batch "
        "4. How many of the batches 1, 4 and 32 does the loaded program take?",
        answer=1,
        why="Only 4. The engine would take 1 to 32, but saving exports the program once more, and export keeps fixed "
        "what nobody says is dynamic. All you get is one line in the log.",
    ),
    "refused": Question(
        "A bit flipped, the end cut off, a range edited; a record that tells of another torch, another device, another "
        "CPU. How many of the six copies are refused?",
        answer=6,
        why="All of them, each in one sentence, before anything in the file runs. (Built with `eager`, the file has no "
        "native code, and the CPU does not matter.)",
    ),
    "key": Question(
        "Torch-TensorRT's engine cache: a model with 12 heads and one with 8, whose outputs have another shape. Do "
        "they have the same key?",
        choices=("the same key", "two keys"),
        answer="the same key",
        why="The key names each operator without its arguments, and the number of heads is an argument of reshape. "
        "With a shared cache folder, the second would be given the engine of the first.",
    ),
    "signature": Question(
        "The digests in the file found every damage. Do they also find somebody who wants to change the file?",
        choices=("yes", "no"),
        answer="no",
        why="Whoever changes the record can compute new digests. They are a check for accidents, not a signature.",
    ),
}
