#!/usr/bin/env python3
"""Writes a folder of documents that look like source code: each has names of its own that recur in it, so that what learns from the
tokens just read has something to learn. The same arguments give the same bytes on every machine and for ever.

    write_corpus.py FOLDER [--documents N] [--bytes MEAN] [--seed SEED]
"""
import argparse
import pathlib

WORDS = """account angle answer batch branch buffer cache carrier channel circle column copper corner cursor delta device door edge engine entry field
figure filter flag forest frame garden gate glass grain group handle harbour height index island item judge kernel label ladder layer leaf ledger length
letter level limit line lock margin market matrix member memory meter mirror model moment monitor morning motor number object office orbit order packet
page paper parcel parent part path pattern phase picture piece pilot plane planet plate point port price prism process queue radius range reader record
region report ring river road root route sample scale screen season section sensor series shadow shelf signal sketch socket source spring square stage
station store stream street string surface switch symbol system table target tower track trade tree valley value vector vessel village voice volume
wagon wall watch water wave weight wheel window winter writer yard""".split()
VERBS = "add build check clear close count copy draw fill find fold join keep load mark merge move open pack place print push read reset scan send sort split store take turn write".split()
TYPES = ["int", "double", "bool", "size_t", "std::string", "uint32_t"]


class Draw:
    """Numbers of a 64-bit linear congruential generator (Knuth's MMIX constants)."""

    def __init__(self, seed):
        self.state = seed * 2 + 1

    def below(self, n):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) * n >> 31

    def one_of(self, items):
        return items[self.below(len(items))]


class Document:
    def __init__(self, draw):
        self.draw = draw
        self.names = ["_".join(draw.one_of(WORDS) for _ in range(1 + draw.below(2))) for _ in range(6 + draw.below(5))]
        self.owner = "".join(draw.one_of(WORDS).title() for _ in range(2))

    def name(self):
        return self.draw.one_of(self.names)

    def sentence(self):
        words = [self.draw.one_of(("the", "a", "each", "no", "every")), self.name().replace("_", " "), self.draw.one_of(("of", "for", "before", "after", "in")), "the",
                 self.draw.one_of(WORDS), self.draw.one_of(("is", "was", "has been")), self.draw.one_of(("kept", "empty", "ready", "lost", "read", "sent", "gleich groß"))]
        return " ".join(words).capitalize() + "."

    def statement(self, depth):
        d, pad, kind = self.draw, "  " * depth, self.draw.below(7)
        if kind == 0 and depth < 4:
            return f"{pad}if ({self.name()} {d.one_of(('<', '>', '==', '!='))} {d.one_of((self.name(), str(d.below(100))))}) {{\n{self.statement(depth + 1)}{pad}}}\n"
        if kind == 1 and depth < 4:
            return f"{pad}for (int i = 0; i < {self.name()}; ++i) {{\n{self.statement(depth + 1)}{self.statement(depth + 1)}{pad}}}\n"
        if kind == 2:
            return f"{pad}// {self.sentence()}\n"
        if kind == 3:
            return f"{pad}{d.one_of(VERBS)}_{self.name()}({self.name()}, {self.name()});\n"
        if kind == 4:
            return f'{pad}print("{self.name()} is ", {self.name()}, "\\n");\n'
        return f"{pad}{self.name()} {d.one_of(('=', '+=', '-='))} {self.name()} {d.one_of('+-*/')} {d.one_of((self.name(), str(d.below(1000))))};\n"

    def function(self):
        d = self.draw
        arguments = ", ".join(f"{d.one_of(TYPES)} {self.name()}" for _ in range(1 + d.below(3)))
        body = "".join(self.statement(1) for _ in range(2 + d.below(6)))
        return f"// {self.sentence()}\n{d.one_of(TYPES)} {self.owner}::{d.one_of(VERBS)}_{self.name()}({arguments}) {{\n{body}  return {self.name()};\n}}\n\n"

    def text(self, least):
        text = f"// {self.owner}: {self.sentence()}\n\n"
        while len(text.encode()) < least:
            text += self.function()
        return text


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", type=pathlib.Path)
    p.add_argument("--documents", type=int, default=100)
    p.add_argument("--bytes", type=int, default=3500, help="mean of a document; they differ by factors")
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    a.folder.mkdir(parents=True, exist_ok=True)
    draw = Draw(a.seed)
    for i in range(a.documents):
        least = a.bytes * (20 + draw.below(161)) // 100
        (a.folder / f"{i:04d}.txt").write_bytes(Document(draw).text(least).encode())


if __name__ == "__main__":
    main()
