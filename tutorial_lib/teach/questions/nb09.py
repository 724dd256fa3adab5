"""The questions of notebook 9."""

from tutorial_lib.teach.prediction import Question

QUESTIONS = {
    "if": Question(
        "`peak` is a tensor, and `if peak > 3:` decides on it. What does `jit` do?",
        choices=("it refuses", "it compiles one graph", "it cuts the model in pieces"),
        answer="it cuts the model in pieces",
        why="It cuts at the `if`, runs Python in between, and compiles each piece. Ahead of time there are no values, "
        "only shapes, and export refuses.",
    ),
    "nonzero": Question(
        "`sound[sound > 1]` has as many elements as there are large ones. Who refuses to build that?",
        choices=("export", "jit", "both", "neither"),
        answer="neither",
        why="Export gives the unknown count a symbol of its own, `u0`, as long as nothing asks how large it is. jit "
        "cuts the model there.",
    ),
    "print": Question(
        "`forward` prints a line. The model is built on `export` and called three times. How often is the line printed "
        "in these calls?",
        answer=0,
        why="`export` runs forward once, while it traces. What leaves no trace in the graph is gone, and nothing "
        "warns you.",
    ),
    "spellings": Question(
        "Seven spellings with the batch in them, all of which eager runs at every batch. How many build on all "
        "three paths?",
        answer=2,
        why="Those that keep the size as it is, or write -1. `int()`, `len()`, a loop or a stored number make a "
        "constant of it; an `if` on a size cuts the range in two.",
    ),
    "inputs": Question(
        "A model says `sound *= 2`. On how many of the three paths does the caller's tensor survive?",
        answer=0,
        why="They all do what the model says. Whoever calls twice with one tensor gets another answer.",
    ),
    "dropout": Question(
        "`F.dropout(x, 0.2)` stays on in eval mode, so the program and eager draw their own random numbers. What does "
        "a careless comparison with float64 say?",
        choices=("agrees", "DIFFERS"),
        answer="agrees",
        why="It asks whether the program is about as far from float64 as eager is, and both are far. Eager's own error "
        "gives it away, and two equal calls find it.",
    ),
}
