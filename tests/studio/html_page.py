"""What a browser makes of HTML, and text that would break a page."""

from html.parser import HTMLParser

HOSTILE = "<script>alert(1)</script> \" ' & $x"


class Page(HTMLParser):
    """What a browser makes of HTML: text, tags with their attributes, cells by row, and tags that do not close."""

    def __init__(self, html):
        super().__init__()
        self.open, self.wrong, self.tags, self.texts, self.rows = [], [], [], [], []
        self.feed(html)
        assert not self.wrong + self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in ("img", "br"):  # which never close
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        self.texts.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data.strip()

    @property
    def text(self):
        return "".join(self.texts)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]
