"""The house itself: its files, its command line, its README, and how lightly it is imported."""

import re
import shlex
import subprocess
import sys

import pytest

import neuroav
from neuroav.cli import build_parser

NINE_VERBS = {"demo", "run", "eval", "events", "extract", "energy", "bench", "table", "classify"}
NAMELESS = {"utils", "common", "helpers", "misc", "util", "helper"}
TEST_COMMAND = 'python -m pip install -c constraints.txt -e ".[test]" && pytest'
LARGE = 200_000
# Written in two parts, so that this file does not hold what it looks for.
FOREIGN_PATHS = ("/" + "work/", "/tmp" + "/v", "/" + "root/", "/" + "home/")
TORCH_HEADER = re.compile(r"#\s*include\s*[<\"](?:torch|ATen|c10|caffe2|THC)\b")
HEAVY = ("torch", "numpy", "h5py", "av", "librosa", "matplotlib", "scipy")


def verbs(parser):
    """The names of a parser's sub-commands."""
    return {verb for action in parser._actions if isinstance(action.choices, dict) for verb in action.choices}


def nameless_files(names):
    """Python files whose name says nothing about what is in them."""
    return [name for name in names if name.rsplit("/", 1)[-1].removesuffix(".py").strip("_") in NAMELESS]


def foreign_paths(text):
    """Absolute paths of somebody's machine in ``text``."""
    return [word for word in FOREIGN_PATHS if re.search(rf"(?<![\w.\-/]){re.escape(word)}", text)]


def command_problems(readme):
    """Commands of the README's code blocks that the command line does not understand."""
    problems = []
    for line in re.findall(r"^(?:\$ )?neuroav (.*)$", "\n".join(code_blocks(readme)), re.MULTILINE):
        try:
            build_parser().parse_args(shlex.split(line, comments=True))
        except SystemExit as end:
            if end.code:
                problems.append(line)
    return problems


def code_blocks(text):
    """Contents of the fenced code blocks of a Markdown text."""
    return re.findall(r"^```[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_the_verbs_are_frozen():
    assert verbs(build_parser()) == NINE_VERBS


def test_no_file_is_called_utils(root):
    names = [str(path.relative_to(root)) for path in (root / "neuroav").rglob("*.py")]
    assert nameless_files(names) == []
    assert nameless_files(["neuroav/utils.py", "neuroav/nn/_common.py", "neuroav/nn/encoder.py"]) == [
        "neuroav/utils.py",
        "neuroav/nn/_common.py",
    ]


def test_files_are_small(root, repository_files):
    golden = root / "tests" / "golden"
    large = [path for path in repository_files if path.stat().st_size >= LARGE and golden not in path.parents]
    assert large == []


def test_no_file_names_somebodys_machine(root, repository_files):
    found = []
    for path in repository_files:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(root)}: {word}" for word in foreign_paths(text)]
    assert found == []


@pytest.mark.parametrize("text", ["open('" + "/" + "work/x')", "# see /tmp" + "/v", "cd " + "/" + "home/me"])
def test_the_path_check_can_fail(text):
    assert len(foreign_paths(text)) == 1
    assert foreign_paths("the network/homework/ of tests/work/ and /usr/bin") == []


def test_compiled_code_needs_no_torch_headers(root):
    sources = [path for path in (root / "csrc").rglob("*") if path.is_file()]
    assert [path for path in sources if TORCH_HEADER.search(path.read_text(encoding="utf-8"))] == []
    assert "torch" not in re.findall(r"^\s*(?:import|from)\s+(\w+)", (root / "setup.py").read_text(), re.MULTILINE)
    assert TORCH_HEADER.search("#include <torch/extension.h>")
    assert TORCH_HEADER.search('# include "ATen/ATen.h"')
    assert not TORCH_HEADER.search("#include <pybind11/pybind11.h>  // no torch")


def test_the_readme_says_how_to_test_and_what_to_try(root):
    readme = (root / "README.md").read_text(encoding="utf-8")
    lines = [line for block in code_blocks(readme) for line in block.splitlines()]
    assert TEST_COMMAND in lines, "the test command, as .ci/run runs it"
    assert TEST_COMMAND.replace("pytest", "neuroav demo") in lines


def test_the_commands_of_the_readme_are_understood(root):
    assert command_problems((root / "README.md").read_text(encoding="utf-8")) == []


def test_the_command_check_can_fail(capsys):
    assert command_problems("```bash\n$ neuroav demo --sise tiny\nneuroav demo --out x  # note\n```") == [
        "demo --sise tiny"
    ]
    assert command_problems("neuroav is no command here") == []


def loaded_by(code):
    """Names of the heavy packages that ``code`` loads in a new interpreter."""
    check = f"{code}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True)
    return done.stdout.splitlines()[-1].split()


@pytest.mark.parametrize(
    "code",
    [
        "import neuroav",
        "from neuroav.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass",
        "from neuroav.cli import main\nassert main([]) == 2",
    ],
)
def test_importing_and_asking_for_help_load_nothing_heavy(code):
    assert loaded_by(code) == []


def test_the_import_check_can_fail():
    assert loaded_by("import neuroav.gzsl.metrics") == ["numpy"]


@pytest.mark.parametrize("name", neuroav.__all__)
def test_every_public_name_loads(name):
    assert getattr(neuroav, name) is not None
