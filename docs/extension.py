"""What the pages are made of besides Markdown: rooms of the package, verbs, references, and equations as MathML.

The build ends with an error where a page would ask another machine for anything.
"""

import pkgutil
import re
import unicodedata
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.addnodes import desc_signature, pending_xref
from sphinx.errors import ExtensionError
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

REFERENCES = Path(__file__).parents[1] / "neuroav" / "references.bib"
ENTRY = re.compile(r"^@\w+\{\s*([^,\s]+)\s*,(.*?)^\}", re.DOTALL | re.MULTILINE)
FIELD = re.compile(r"^\s*(\w+)\s*=\s*\{(.*)\},?$", re.MULTILINE)
ACCENT = re.compile(r"""\{?\\(['`"^~]|[cv](?=[{\s]))\s*\{?\\?(\w)\}?\}?""")
ACCENTS = {"'": "\u0301", "`": "\u0300", '"': "\u0308", "^": "\u0302", "~": "\u0303", "c": "\u0327", "v": "\u030c"}
CITED = re.compile(r"``.*?``|:math:`.*?`|(?<![\w\])`])\[([a-z][a-z0-9_-]*)\](?![\w(_])", re.DOTALL)
FOREIGN = re.compile(r"\s*(https?:)?//")


def modules_of(room):
    """Name a package and all modules in it, private ones aside; of ``neuroav`` itself the files at the top."""
    package = import_module(room)
    if room == "neuroav":
        names = [one.name for one in pkgutil.iter_modules(package.__path__, "neuroav.") if not one.ispkg]
    else:
        names = [one.name for one in pkgutil.walk_packages(package.__path__, f"{room}.")]
    return [room, *(name for name in names if not any(part.startswith("_") for part in name.split(".")))]


def origin(module, name):
    """Full name of the place where ``module.name`` is defined."""
    found = getattr(module, name)
    return f"{getattr(found, '__module__', module.__name__)}.{getattr(found, '__qualname__', name)}"


class Room(SphinxDirective):
    """``.. room:: neuroav.events``: every module of a package under a heading of its own."""

    required_arguments = 1

    def run(self):
        return self.parse_text_to_nodes(
            "\n".join(self.part(name) for name in modules_of(self.arguments[0])), allow_section_headings=True
        )

    def part(self, name):
        """One module; of a package, its docstring and where its names are."""
        module = import_module(name)
        text = f"{name}\n{'-' * len(name)}\n\n.. automodule:: {name}\n"
        if not hasattr(module, "__path__"):
            return text
        names = [one for one in getattr(module, "__all__", ()) if not one.startswith("_")]
        links = ", ".join(f":py:obj:`{one} <{origin(module, one)}>`" for one in names)
        return f"{text}   :no-members:\n\n{'Its names: ' * bool(links)}{links}\n"


class Verbs(SphinxDirective):
    """``.. verbs::``: what each verb's ``--help`` prints."""

    def run(self):
        from neuroav.cli import build_parser

        parser = build_parser()
        verbs = next(action for action in parser._actions if action.dest == "verb").choices
        found = [help_text(parser)]
        for name, verb in verbs.items():
            found.append(nodes.section("", nodes.title("", f"neuroav {name}"), help_text(verb), ids=[name]))
        return found


def help_text(parser):
    """What ``--help`` prints, as a block."""
    return nodes.literal_block("", parser.format_help(), language="text")


def plain(text):
    """Turn a BibTeX value into Unicode: accents composed, braces dropped."""
    text = ACCENT.sub(lambda found: unicodedata.normalize("NFC", found[2] + ACCENTS[found[1]]), text)
    return re.sub(r"[{}]", "", text).replace("\\&", "&").replace("~", " ").replace("--", "–")


def entries():
    """Yield ``(key, fields)`` of the package's references."""
    for found in ENTRY.finditer(REFERENCES.read_text(encoding="utf-8")):
        yield found[1], {name.lower(): plain(value) for name, value in FIELD.findall(found[2])}


def described(fields):
    """Author, title, place and year of an entry, as one line."""
    place = next((fields[one] for one in ("journal", "booktitle", "publisher", "note") if one in fields), "")
    parts = (fields.get("author"), fields.get("title"), f"{place} {fields.get('volume', '')}", fields.get("year"))
    return " ".join(f"{part.strip().rstrip('.')}." for part in parts if part and part.strip())


class References(SphinxDirective):
    """``.. references::``: the entries of ``references.bib`` as citations, targets of every ``[key]``."""

    def run(self):
        return self.parse_text_to_nodes("\n".join(f".. [{key}] {described(fields)}" for key, fields in entries()))


def cite(app, what, name, of, options, lines):
    """Make ``[key]`` in a docstring a citation, where the key is known."""
    known = {key for key, _ in entries()}
    text = CITED.sub(lambda found: f"{found[0]}_" if found[1] in known else found[0], "\n".join(lines))
    lines[:] = text.split("\n")


class OwnNames(SphinxPostTransform):
    """A name in a signature means what it means in its module; what is not ours is text, and not searched for."""

    default_priority = 5  # before references are resolved

    def run(self, **kwargs):
        known = self.env.domains.python_domain.objects
        for signature in self.document.findall(desc_signature):
            for node in list(signature.findall(pending_xref)):
                module, name = import_module(node["py:module"]), node["reftarget"]
                full = origin(module, name) if name in vars(module) else name
                if full in known:
                    node["reftarget"] = full
                else:
                    node.replace_self(node.children)


def inline_math(writer, node):
    """Write an equation within a line."""
    writer.body.append(convert(node.astext()))
    raise nodes.SkipNode


def block_math(writer, node):
    """Write an equation on its own."""
    writer.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


class Requests(HTMLParser):
    """What a browser would fetch from elsewhere to show a page; links that a reader may follow are none."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        asks = {"src", "srcset", "data", "poster"} | ({"href"} if tag in ("link", "image", "use") else set())
        self.found += [value for name, value in attributes if name in asks and value and FOREIGN.match(value)]
        self.found += [one for name, value in attributes if name == "style" for one in requests_of_style(value or "")]


def requests_of_style(text):
    """Addresses elsewhere that a style sheet would fetch."""
    return [found[1] for found in re.finditer(r"""(?:url\(|@import)\s*["']?((?:https?:)?//[^"')\s]+)""", text)]


def requests(path):
    """Addresses elsewhere that a page or style sheet would fetch."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".css":
        return requests_of_style(text)
    parser = Requests()
    parser.feed(text)
    return parser.found


def stay_here(app, error):
    """Fail where a page would fetch something from elsewhere."""
    files = [path for suffix in ("html", "css") for path in sorted(Path(app.outdir).rglob(f"*.{suffix}"))]
    found = [f"{path.relative_to(app.outdir)}: {one}" for path in files for one in requests(path)]
    if error is None and found:
        raise ExtensionError("pages must not ask other machines for anything:\n" + "\n".join(found))


def setup(app):
    """Register all of it with Sphinx."""
    app.add_directive("room", Room)
    app.add_directive("verbs", Verbs)
    app.add_directive("references", References)
    app.add_post_transform(OwnNames)
    app.connect("autodoc-process-docstring", cite)
    app.connect("build-finished", stay_here)
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
