"""Draws the course's diagrams as SVG files into ``notebooks/diagrams/``: run ``python docs/diagrams.py``.

SVG by hand needs no renderer: the files show on a code host, in JupyterLab and without a network.
"""

from html import escape
from pathlib import Path
from textwrap import wrap

FOLDER = Path(__file__).parent.parent / "notebooks" / "diagrams"
WIDTH, HEIGHT, GAP, MARGIN = 168, 92, 34, 16  # pixels: of a box, between boxes, around all
COLOURS = {"jit": "#0072B2", "input": "#D55E00", "export": "#009E73", "course": "#444444"}

PATHS = {
    "jit": (
        "Path jit: the first call compiles, and later calls may compile again",
        [
            ("model and range", "mark_dynamic(x, 0, min, max) on an example of size opt"),
            ("trace", "Dynamo runs the Python once and writes down a graph with symbols"),
            ("guards", "conditions of the graph, such as 4 <= x.size()[0] <= 32"),
            ("engine", "the backend compiles the graph, tuned for opt"),
            ("call", "guards hold: this engine answers. None holds: trace again, another engine"),
        ],
        (4, 1, "a guard fails"),
    ),
    "input": (
        "Path input: ranges in, one program out",
        [
            ("model and ranges", "torch_tensorrt.Input(min, opt, max) for each input"),
            ("trace", "torch.export behind the scenes, with an example of size opt"),
            ("guards", "of the export: they do not come along into the program"),
            ("engine", "one for the whole range, with a profile min / opt / max"),
            ("call", "the range check refuses what was not promised; nothing compiles"),
        ],
        None,
    ),
    "export": (
        "Path export: export first, then compile the program",
        [
            ("model and Dims", "Dim(min, max), and an example of size opt"),
            ("trace", "torch.export: one graph, or a refusal with a reason"),
            ("guards", "in the exported program; compiling it leaves them behind"),
            ("engine", "one for the whole range; can be saved and loaded"),
            ("call", "the range check refuses what was not promised; nothing compiles"),
        ],
        None,
    ),
}

COURSE = [
    ("first a result", ["00 start here", "01 three paths", "02 what TensorRT gets", "03 the shape studio"]),
    ("is it right?", ["04 outside the range", "05 agreement", "06 several dimensions"]),
    ("what does it cost?", ["07 what a range costs", "11 measured on a GPU", "10 choose min, opt, max"]),
    ("your own", ["08 save, load, serve", "09 your own model", "12 prefill and decode"]),
]


def box(left: float, top: float, title: str, text: str, colour: str, height: float = HEIGHT) -> str:
    """A rounded box with a title and wrapped text."""
    lines = wrap(text, 25)
    rows = [f'<text x="{left + 10}" y="{top + 22}" font-weight="bold" fill="{colour}">{escape(title)}</text>']
    rows += [
        f'<text x="{left + 10}" y="{top + 41 + 14 * row}" font-size="11.5">{escape(line)}</text>'
        for row, line in enumerate(lines)
    ]
    frame = f'<rect x="{left}" y="{top}" width="{WIDTH}" height="{height}" rx="8" fill="#fff" stroke="{colour}"/>'
    return "\n".join([frame, *rows])


def arrow(points: str, colour: str) -> str:
    """A line through ``points`` with a head at its end."""
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6" marker-end="url(#head)"/>'


def svg(width: float, height: float, title: str, description: str, colour: str, parts: list[str]) -> str:
    """A whole file: white ground, so that it also reads on a dark page, with a description for screen readers."""
    head = (
        f'<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 L8 4 L0 8 z" fill="{colour}"/></marker>'
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
            ' role="img" font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#222">',
            f"<title>{escape(title)}</title>",
            f"<desc>{escape(description)}</desc>",
            f"<defs>{head}</defs>",
            f'<rect width="{width}" height="{height}" fill="#fff"/>',
            *parts,
            "</svg>\n",
        ]
    )


def path_diagram(path: str) -> str:
    """Model -> trace -> guards -> engine -> call, for one path."""
    title, steps, back = PATHS[path]
    colour, top = COLOURS[path], 44
    places = [MARGIN + place * (WIDTH + GAP) for place in range(len(steps))]
    width = places[-1] + WIDTH + MARGIN
    height = top + HEIGHT + (44 if back else MARGIN)
    parts = [f'<text x="{MARGIN}" y="27" font-size="15" font-weight="bold">{escape(title)}</text>']
    for left, (name, text) in zip(places, steps, strict=True):
        parts.append(box(left, top, name, text, colour))
    middle = top + HEIGHT / 2
    parts += [arrow(f"{left + WIDTH + 3},{middle} {left + WIDTH + GAP - 4},{middle}", colour) for left in places[:-1]]
    if back:
        start, end, words = back
        below, bottom = top + HEIGHT, height - 18
        x = [places[place] + WIDTH / 2 for place in (start, end)]
        parts.append(arrow(f"{x[0]},{below + 2} {x[0]},{bottom} {x[1]},{bottom} {x[1]},{below + 4}", colour))
        parts.append(f'<text x="{sum(x) / 2 - 35}" y="{bottom - 5}" fill="{colour}">{escape(words)}</text>')
    description = "; then ".join(f"{name}: {text}" for name, text in steps)
    return svg(width, height, title, description, colour, parts)


def course_diagram() -> str:
    """The notebooks by the question that they answer, in the order in which they are read."""
    colour, row = COLOURS["course"], 34
    places = [MARGIN + place * (WIDTH + GAP + 10) for place in range(len(COURSE))]
    rows = max(len(notebooks) for _, notebooks in COURSE)
    parts, colours = [], ("#0072B2", "#D55E00", "#B87400", "#009E73")
    for left, (question, notebooks), tint in zip(places, COURSE, colours, strict=True):
        parts.append(f'<text x="{left}" y="32" font-size="15" font-weight="bold" fill="{tint}">{question}</text>')
        for place, name in enumerate(notebooks):
            top = 46 + place * (row + 8)
            parts.append(
                f'<rect x="{left}" y="{top}" width="{WIDTH}" height="{row}" rx="8" fill="#fff" stroke="{tint}"/>'
            )
            parts.append(f'<text x="{left + 10}" y="{top + 22}">{escape(name)}</text>')
    middle = 46 + row / 2
    for left in places[:-1]:
        parts.append(arrow(f"{left + WIDTH + 4},{middle} {left + WIDTH + GAP + 5},{middle}", colour))
    width, height = places[-1] + WIDTH + MARGIN, 46 + rows * (row + 8) + 8
    title = "The course: four questions, and the notebooks that answer them"
    description = "; ".join(f"{question}: {', '.join(notebooks)}" for question, notebooks in COURSE)
    return svg(width, height, title, description, colour, parts)


def diagrams() -> dict[str, str]:
    """Every file's name and content."""
    return {f"path_{path}.svg": path_diagram(path) for path in PATHS} | {"course.svg": course_diagram()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, content in diagrams().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
