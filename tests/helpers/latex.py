"""LaTeX checked without LaTeX."""

import re

COMMAND = re.compile(r"\\(?:[a-zA-Z]+\*?|[&%$#_{}\\])")


def problems(text):
    """What a LaTeX run would trip over."""
    found, depth, environments = [], 0, []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            environments.append(name)
        elif not environments or environments.pop() != name:
            found.append(f"end of {name}")
    found += [f"no end of {name}" for name in environments]
    bare = COMMAND.sub("", text)
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth < 0:
            found.append("a brace too many")
            break
    if depth > 0:
        found.append("a brace too few")
    if bare.count("$") % 2:
        found.append("mathematics left open")
    outside = re.sub(r"\$[^$]*\$", "", COMMAND.sub("", text))
    found += [f"bare {c}" for c in "#%^_~\\" if c in outside]
    found += [f"unknown {c}" for c in outside if not c.isascii() and not c.isalpha()]
    if re.search(r"\\\\\s*[\[*]", text):
        found.append("an option after the end of a line")
    return found
