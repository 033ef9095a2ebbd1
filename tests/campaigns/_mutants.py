"""Where C source can be changed by one small step, and into what: the mutants of `make mutate`.

A reader of tokens, not of C: it knows comments, strings, directives, brackets and the names of functions, and takes
the layout of clang-format for granted (a binary `*` or `&` has a space on both sides, that of a pointer has not). What
comes out wrong does not compile, and is not counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

TOKENS = re.compile(
    r"""(?P<comment>/\*.*?\*/|//[^\n]*)
    |(?P<directive>^[ \t]*\#(?:\\\n|[^\n])*)
    |(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
    |(?P<number>(?:0[xX][0-9a-fA-F]+|\d+)[uUlL]*(?![\w.]))
    |(?P<word>\w[\w.]*)
    |(?P<sign><<=|>>=|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|\.\.\.|[-+*/%&|^~!<>=?:;,.(){}\[\]])
    |(?P<other>\S)""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
MACRO = re.compile(r"[ \t]*#define (\w+)\([^)]*\)(?=[ \t])")

RELATIONS = {"<": ("<=", ">="), "<=": ("<", ">"), ">": (">=", "<="), ">=": (">", "<"), "==": ("!=",), "!=": ("==",)}
ARITHMETIC = {"+": "-", "-": "+", "*": "+", "/": "*", "%": "*", "<<": ">>", ">>": "<<", "&": "|", "|": "&", "^": "|"}
ASSIGNMENTS = {"+=": "-=", "-=": "+=", "|=": "&=", "&=": "|=", "^=": "|=", "<<=": ">>=", ">>=": "<<=", "*=": "/="}
STEPS = {"++": "--", "--": "++"}
LOGIC = {"&&": "||", "||": "&&"}
TRUTH = {"true": "false", "false": "true"}
# What is in their brackets states what holds, or is a hint to the processor: no test could tell.
LEFT_OUT = {"CHECK", "static_assert", "__builtin_prefetch"}
KEYWORDS = {"if", "for", "while", "switch", "return", "sizeof", "do", "else", "case", "default", "break", "continue"}
OPENING = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Mutant:
    """One change to one file."""

    file: str  # its name in core/src
    function: str
    line: int
    operator: str
    start: int
    end: int
    text: str  # what stands there instead
    before: str  # the line as it is, stripped
    after: str  # and as it becomes; of a change that goes over lines the first

    def applied(self, source: str) -> str:
        return source[: self.start] + self.text + source[self.end :]


def tokens_of(source: str, start: int, end: int) -> Iterator[Token]:
    """The tokens in a part of the source. Of directives only the bodies of macros with parameters are code."""
    for found in TOKENS.finditer(source, start, end):
        kind = found.lastgroup or "other"
        if kind == "directive" and (macro := MACRO.match(found[0])):
            yield Token("macro", macro[1], found.start(), found.end())
        elif kind not in ("comment", "directive") and found[0] != "\\":
            yield Token(kind, found[0], found.start(), found.end())


def partners(tokens: list[Token]) -> dict[int, int]:
    """Index of the bracket that closes each one that opens, and the other way round."""
    found: dict[int, int] = {}
    opened: list[int] = []
    for i, token in enumerate(tokens):
        if token.text in OPENING:
            opened.append(i)
        elif opened and token.text == OPENING[tokens[opened[-1]].text]:
            found[i] = opened[-1]
            found[opened.pop()] = i
    return found


def functions(tokens: list[Token], closes: dict[int, int]) -> Iterator[tuple[str, int, int]]:
    """Name, and the indices of the braces, of every function that is defined here."""
    i = 0
    while i < len(tokens):
        if tokens[i].text == "{":
            if i > 0 and tokens[i - 1].text == ")" and (opening := closes.get(i - 1, 0)) > 0:
                yield tokens[opening - 1].text, i, closes.get(i, i)
            i = closes.get(i, i)
        i += 1


class Reader:
    """Finds the mutants in one run of tokens: a function's body, or a macro's."""

    def __init__(self, file: str, function: str, source: str, tokens: list[Token]) -> None:
        self.file, self.function, self.source, self.tokens = file, function, source, tokens
        self.closes = partners(tokens)

    def mutant(self, operator: str, first: int, last: int, text: str) -> Mutant:
        """Tokens first .. last become `text`."""
        start, end = self.tokens[first].start, self.tokens[last].end
        line_start = self.source.rfind("\n", 0, start) + 1
        line_end = self.source.find("\n", start)
        before = self.source[line_start:line_end]
        after = (self.source[line_start:start] + text + self.source[end:line_end]).split("\n")[0]
        line = self.source.count("\n", 0, start) + 1
        looks = [" ".join(each.rstrip("\\").split()) for each in (before, after)]
        return Mutant(self.file, self.function, line, operator, start, end, text, looks[0], looks[1])

    def left_out(self) -> set[int]:
        found: set[int] = set()
        for i, token in enumerate(self.tokens):
            if token.text in LEFT_OUT and i + 1 in self.closes:
                found.update(range(i, self.closes[i + 1] + 1))
        return found

    def is_binary(self, i: int) -> bool:
        token = self.tokens[i]
        return i > 0 and self.source[token.start - 1].isspace() and self.source[token.end].isspace()

    def all(self) -> Iterator[Mutant]:
        left_out = self.left_out()
        for i, token in enumerate(self.tokens):
            if i in left_out:
                continue
            text = token.text
            if token.kind == "number":
                yield from self.constant(i)
            elif text in TRUTH:
                yield self.mutant("truth", i, i, TRUTH[text])
            elif text in RELATIONS and self.is_binary(i):
                for other in RELATIONS[text]:
                    yield self.mutant("relation", i, i, other)
            elif text in ARITHMETIC and self.is_binary(i):
                yield self.mutant("arithmetic", i, i, ARITHMETIC[text])
            elif text in ASSIGNMENTS:
                yield self.mutant("assignment", i, i, ASSIGNMENTS[text])
            elif text in STEPS:
                yield self.mutant("step", i, i, STEPS[text])
            elif text in LOGIC:
                yield self.mutant("logic", i, i, LOGIC[text])
            elif text == "!":
                yield self.mutant("negation", i, i, "")
            elif text == "if" and i + 1 in self.closes:
                inside = self.source[token.end : self.tokens[self.closes[i + 1]].end].lstrip()
                yield self.mutant("condition", i, self.closes[i + 1], f"if (!{inside})")
            elif text == "?":
                yield from self.choice(i)
            if self.begins_statement(i):
                yield from self.removal(i)

    def constant(self, i: int) -> Iterator[Mutant]:
        text = self.tokens[i].text
        digits = text.rstrip("uUlL")
        number, suffix = int(digits, 0), text[len(digits) :]
        for other in (number + 1, number - 1):
            if other >= 0:
                yield self.mutant("constant", i, i, (hex(other) if digits[:2].lower() == "0x" else str(other)) + suffix)

    def choice(self, i: int) -> Iterator[Mutant]:
        """a ? b : c becomes a ? c : b."""
        depth, colon, j = 0, -1, i + 1
        while j < len(self.tokens):
            text = self.tokens[j].text
            if text in OPENING and j in self.closes:
                j = self.closes[j]
            elif text in (")", "]", "}", ";") or (text == "," and colon >= 0):
                break
            elif text == "?":
                depth += 1
            elif text == ":":
                if depth == 0 and colon < 0:
                    colon = j
                elif depth == 0:
                    break
                else:
                    depth -= 1
            j += 1
        if colon >= 0 and j > colon + 1:
            first = self.source[self.tokens[i + 1].start : self.tokens[colon - 1].end]
            second = self.source[self.tokens[colon + 1].start : self.tokens[j - 1].end]
            yield self.mutant("choice", i, j - 1, f"? {second} : {first}")

    def begins_statement(self, i: int) -> bool:
        if i == 0 or self.tokens[i].kind not in ("word", "sign") or self.tokens[i].text in ("{", "}", ";"):
            return False
        before = self.tokens[i - 1].text
        if before == ")":  # of if, for, while
            opening = self.closes.get(i - 1, 0)
            return opening > 0 and self.tokens[opening - 1].text in ("if", "for", "while")
        return before in (";", "{", "}", "else", "do") or (before == ":" and self.tokens[i - 2].kind == "word")

    def removal(self, i: int) -> Iterator[Mutant]:
        """The statement that begins here is left out: a call, an assignment, break or continue."""
        if self.tokens[i].text in KEYWORDS - {"break", "continue"}:
            return
        j, does = i, self.tokens[i].text in ("break", "continue")
        while j < len(self.tokens) and self.tokens[j].text != ";":
            text = self.tokens[j].text
            if text == "(" and j > i and self.tokens[j - 1].kind == "word":
                does = True
            if text in STEPS or text == "=" or text in ASSIGNMENTS:
                does = True
            if text in ("{", "}", ")", "]") or (j == i and text in ("(", "*") and not does and j not in self.closes):
                if text != "*":
                    return
            if j > i and self.tokens[j].kind == "word" and self.tokens[j - 1].kind == "word":
                return  # a declaration
            j = self.closes[j] if text in OPENING and j in self.closes else j
            j += 1
        if does and j < len(self.tokens) and not self.is_declaration(i):
            yield self.mutant("removal", i, j, ";")

    def is_declaration(self, i: int) -> bool:
        """`type *name`, as clang-format writes it."""
        if self.tokens[i].kind != "word" or i + 2 >= len(self.tokens) or self.tokens[i + 1].text != "*":
            return False
        return not self.source[self.tokens[i + 1].end].isspace()


def mutants_of(file: str, source: str) -> list[Mutant]:
    """All mutants of one file, in the order of its lines."""
    everything = list(tokens_of(source, 0, len(source)))
    code = [token for token in everything if token.kind != "macro"]
    closes = partners(code)
    found: list[Mutant] = []
    for name, first, last in functions(code, closes):
        found.extend(Reader(file, name, source, code[first : last + 1]).all())
    for macro in everything:
        if macro.kind == "macro":
            head = MACRO.match(source, macro.start, macro.end)
            body = list(tokens_of(source, head.end() if head else macro.end, macro.end))
            found.extend(Reader(file, macro.text, source, body).all())
    return sorted(set(found), key=lambda each: (each.start, each.end, each.text))
