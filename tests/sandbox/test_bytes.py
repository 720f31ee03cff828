"""Names, values and paths with spaces, quotes, newlines, `$`, `;`, backslashes and other scripts arrive byte for byte."""

from __future__ import annotations

import base64
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from fleets import containers, emptied, on
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from stacks import Stack, on_this_set

from ops import sandbox as boxes

ODD = ' it\'s "all" $HOME ${HOME} $$ ; a\\b \\n `id` $(id) #no\n*? ~ -x\t\r\n€ 日本 é é \U0001f511 '
# What YAML, shells, dotenv files and Go's templates would each like to read as something else.
TRAPS = (
    ODD,
    "1e3",
    "0o17",
    "0x1F",
    "0b11",
    "1_000",
    "012",
    "+1.50",
    ".5",
    "-.inf",
    "1:30",
    "2001-01-01",
    "yes",
    "null",
    "~",
    "<<",
    "=",
    "- a",
    "a: b",
    "a #b",
    "!tag",
    "&a *a",
    "%d",
    "@x",
    "{{.ID}}",
    "[b]x[/b]",
    "'",
    '"',
    "\\",
    "$",
    "$$",
    "${",
    "${X:?}",
    "$$$$X",
    "\n",
    " ",
    "",
    "\t",
    "a\r\nb\n\n",
    "\x85\u2028\u2029\xa0\ufeff\x7f\x1b\x01",
    "x" * 3000 + " y" * 700,
)
TEXT = st.one_of(
    st.sampled_from(TRAPS),
    st.text(st.sampled_from("a1 '\"$\\;\n\r\t{}=#&*%!|>-:,[]`~@é日"), max_size=12),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30),
)
LATIN = b"caf\xe9 \xff"  # a file name that is no UTF-8
# A name in a folder. Docker's own `source:target` takes no colon where a path is mounted, so none is asked for there.
NAME = st.text(
    st.one_of(
        st.sampled_from("ab '\"$\\;\n\t{}=#&*%!|>-,[]`~@é日"),
        st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/:"),
    ),
    min_size=1,
    max_size=20,
).filter(lambda name: name.strip(".") != "")

DUMP = """\
import base64, json, os, signal, sys

def b64(data):
    return base64.b64encode(data).decode()

def files(root):
    found = {}
    for folder, _, names in os.walk(os.fsencode(root)):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                found[b64(path)] = b64(file.read())
    return found

out, roots, *words = sys.argv[1:]
document = json.dumps({
    "environment": {b64(key): b64(value) for key, value in os.environb.items()},
    "words": [b64(os.fsencode(word)) for word in words],
    "files": {key: value for root in json.loads(roots) for key, value in files(root).items()},
    "folder": b64(os.getcwdb()),
})
if out == "-":
    print(document, flush=True)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        signal.pause()
with open(out, "w") as file:
    file.write(document)
"""

TOML = """\
stack = "odd"
version = "1.0.0"
ssh_config = "../../.sandbox/ssh_config"
"""

SERVER = """
[environments.test.servers.web1]
address = "web1.sandbox"
"""


class Quoted(yaml.SafeDumper):
    """Writes every string in double quotes, so that the file that is read says what is meant."""


Quoted.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


@dataclass(frozen=True)
class Given:
    """What one deploy carries: values for each way into a container, and names of what is mounted."""

    values: Sequence[str]
    words: Sequence[str]
    names: Sequence[str]
    content: bytes


@dataclass(frozen=True)
class Read:
    """What a container found."""

    environment: dict[bytes, bytes]
    words: list[bytes]
    files: dict[bytes, bytes]
    folder: bytes

    @staticmethod
    def of(text: str) -> Read:
        data, raw = json.loads(text), base64.b64decode
        return Read(
            {raw(key): raw(value) for key, value in data["environment"].items()},
            [raw(word) for word in data["words"]],
            {raw(path): raw(content) for path, content in data["files"].items()},
            raw(data["folder"]),
        )


def written(text: str) -> str:
    """Return a value as a dotenv file takes it literally; raw line ends there are always read as newlines."""
    if "\r" in text:
        escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "\\r").replace("\n", "\\n")
        return f'"{escaped}"'
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{quoted}'"


def dotenv(values: Mapping[str, str]) -> str:
    return "".join(f"{name}={written(value)}\n" for name, value in values.items())


def literal(text: str) -> str:
    """Return text as a compose file takes it literally."""
    return text.replace("$", "$$")


def toml(text: str) -> str:
    """Return text as a string of TOML: what JSON leaves alone is escaped there too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def stack_in(folder: Path, sandbox: boxes.Sandbox, more: str = "", tables: str = "") -> Stack:
    """Write the fixed part of a stack whose one service tells what it finds."""
    (folder / "reader").mkdir(parents=True)
    (folder / "reader" / "dump.py").write_text(DUMP)
    (folder / "ops.toml").write_text(on_this_set(TOML + more + "\n" + SERVER + tables, sandbox))
    return Stack(folder, "test")


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@dataclass
class Project:
    """A stack folder that is filled anew for each example."""

    stack: Stack
    number: int = 0
    expected: dict[bytes, bytes] = field(default_factory=dict)

    def fill(self, given: Given) -> None:
        """Write compose.yaml, .env, an env file, content, configs, secrets and a mounted data folder."""
        folder = self.stack.folder
        self.number += 1
        values = dict(enumerate(given.values))
        (folder / ".env").write_text(
            dotenv({f"V{n}": value for n, value in values.items()})
            + dotenv({f"S{n}": value or "-" for n, value in values.items()})
        )
        (folder / "service.env").write_text(dotenv({f"F{n}": value for n, value in values.items()}))
        first, second, third, fourth = given.names
        base = f"content-{self.number} {first}"
        write(folder / base / second / third, given.content)
        write(folder / base / fourth, b"two")
        write(folder / base / os.fsdecode(LATIN), b"three")
        write(folder / f"config-{self.number} {first}", given.content)
        write(folder / f"secret-{self.number} {second}", given.content)
        write(folder / f"alone-{self.number} {third}", given.content)
        data = f"data {fourth}"
        (folder / "ops.toml").write_text(
            (folder / "ops.toml").read_text().partition("\n[secrets]")[0]
            + f"\n[secrets]\nrequired = {json.dumps([f'S{n}' for n in values])}\n"
            + f"[persist]\ndata = [{toml(data)}]\n"
        )
        roots = ["/content", f"/to {first}", "/run/secrets", "/configs", f"/data {fourth}"]
        environment = {f"V{n}": f"${{V{n}}}" for n in values}
        environment |= {f"S{n}": f"${{S{n}}}" for n in values}
        environment |= {f"B{n}": f"<${{V{n}}}>${{S{n}}}" for n in values}
        environment |= {f"L{n}": literal(value) for n, value in values.items()}
        environment |= {f"dotted.{first}": "dotted"} if "=" not in first else {}
        labels = {f"odd.l{n}": literal(value) for n, value in values.items()}
        labels |= {f"odd.v{n}": f"${{V{n}}}" for n in values}

        def mount(source: str, target: str, read_only: bool = True) -> dict[str, object]:
            return {
                "type": "bind",
                "source": literal(f"./{source}"),
                "target": literal(target),
                "read_only": read_only,
            }

        service = {
            "image": "python:3.13-slim",
            "command": [
                *("python", "/reader/dump.py", "-", literal(json.dumps(roots))),
                *map(literal, given.words),
                *(f"${{V{n}}}" for n in values),
            ],
            "working_dir": literal(f"/work {third}"),
            "environment": environment,
            "env_file": ["service.env"],
            "labels": labels,
            "stop_grace_period": "2s",
            "volumes": [
                mount("reader", "/reader"),
                mount(base, "/content"),
                mount(f"alone-{self.number} {third}", f"/to {first}/alone {second}"),
                mount(data, f"/data {fourth}", read_only=False),
                {"type": "volume", "source": "kept", "target": literal(f"/volume {second}")},
            ],
            "configs": [{"source": "one", "target": literal(f"/configs/{second}")}],
            "secrets": ["two", "three"],
        }
        model = {
            "services": {"reader": service},
            "volumes": {"kept": {}},
            "configs": {"one": {"file": literal(f"./config-{self.number} {first}")}},
            "secrets": {
                "two": {"file": literal(f"./secret-{self.number} {second}")},
                "three": {"environment": "S0"},
            },
        }
        (folder / "compose.yaml").write_text(
            yaml.dump(model, Dumper=Quoted, allow_unicode=False, sort_keys=False)
        )
        content = given.content
        expected = {
            f"/content/{second}/{third}": content,
            f"/content/{fourth}": b"two",
            f"/to {first}/alone {second}": content,
            f"/configs/{second}": content,
            "/run/secrets/two": content,
            "/run/secrets/three": (values[0] or "-").encode(),
        }
        self.expected = {path.encode(): data for path, data in expected.items()}
        self.expected[b"/content/" + LATIN] = b"three"


def found(project: str = "odd-test", service: str = "reader") -> Read:
    (one,) = containers("web1", project, service)
    return Read.of(on("web1", f"docker logs {one.id} 2>/dev/null"))


@pytest.fixture(scope="module")
def project(sandbox: boxes.Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("odd") / 'it\'s a "stack"; $HOME ü\\ \nfolder'
    return Project(stack_in(folder, emptied("web1")))


@pytest.mark.holds(11)
@example(Given(TRAPS, TRAPS, ("a 'b' \"c\"", "$x;${y}", "ü\\n\né", "日本 #*?"), bytes(range(256))))
@given(
    st.builds(
        Given,
        values=st.lists(TEXT, min_size=30, max_size=40),
        words=st.lists(TEXT, max_size=10),
        names=st.lists(NAME, min_size=4, max_size=4, unique=True),
        content=st.binary(max_size=300),
    )
)
@settings(
    max_examples=int(os.environ.get("OPS_BYTES_EXAMPLES", "2")),
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    deadline=None,
)
def test_what_is_written_is_what_a_container_reads(project: Project, given: Given) -> None:
    """Values from .env, secrets, env files and the compose file itself, words, labels, names and content arrive as they are."""
    project.fill(given)
    project.stack.run("deploy", "--version", f"1.0.{project.number}")
    read = found()
    wanted: dict[str, str] = {}
    for number, value in enumerate(given.values):
        secret = value or "-"
        wanted |= {f"V{number}": value, f"L{number}": value, f"F{number}": value, f"S{number}": secret}
        wanted[f"B{number}"] = f"<{value}>{secret}"
    if "=" not in given.names[0]:
        wanted[f"dotted.{given.names[0]}"] = "dotted"
    got = {name: read.environment.get(name.encode()) for name in wanted}
    assert got == {name: value.encode() for name, value in wanted.items()}
    assert read.words == [word.encode() for word in (*given.words, *given.values)]
    assert read.files == project.expected
    assert read.folder == f"/work {given.names[2]}".encode()
    (one,) = containers("web1", "odd-test")
    labels = json.loads(on("web1", f"docker inspect --format '{{{{json .Config.Labels}}}}' {one.id}"))
    assert {key: labels[key] for key in labels if key.startswith("odd.")} == {
        f"odd.{kind}{number}": value for number, value in enumerate(given.values) for kind in "lv"
    }


BASE = '/opt/it\'s "all" of $HOME; ü'
HOOK = """
[[hooks]]
on = "before"
phase = "switch"
where = "{where}"
run = {run}
environment = {{ {environment} }}
"""


@pytest.mark.holds(11)
@pytest.mark.parity("D11")
def test_hooks_migrations_and_commands_get_their_words_and_values_as_written(
    sandbox: boxes.Sandbox, tmp_path: Path
) -> None:
    """What a hook sees here and on a server, a migration's words, and a command for a container: all as written."""
    seen = {f"ODD{n}": value for n, value in enumerate(TRAPS)}
    inline = ", ".join(f"{name} = {toml(value)}" for name, value in seen.items())
    run = f'env -0 > "$OUT"; printf %s {shlex.quote(ODD)} > "$OUT.word"'
    tables = "".join(
        HOOK.format(
            where=where,
            run=toml(run),
            environment=f"{inline}, OUT = {toml(out)}, TAKEN = 'env:ODD_VALUE', SECRET = 'env:ODD_SECRET'",
        )
        for where, out in (("operator", str(tmp_path / "here ü")), ("servers", "/tmp/there ü"))
    )
    words = ", ".join(map(toml, ("python", "/reader/dump.py", "/data/out.json", "[]", *TRAPS)))
    tables += f"\n[migrate]\nservice = 'reader'\ncommand = [{words}]\n"
    tables += "\n[secrets]\nrequired = ['ODD_SECRET']\n[persist]\ndata = ['data']\n"
    folder = tmp_path / "it's $HOME \\ ü\nx"
    stack = stack_in(folder, emptied("web1"), f"base = {toml(BASE)}\n", tables)
    service = {
        "image": "python:3.13-slim",
        "command": ["python", "/reader/dump.py", "-", "[]"],
        "environment": {"ODD_SECRET": "${ODD_SECRET}", "ODD_VALUE": "${ODD_VALUE}"},
        "stop_grace_period": "2s",
        "volumes": ["./reader:/reader:ro", "./data:/data"],
    }
    (folder / "compose.yaml").write_text(
        yaml.dump({"services": {"reader": service}}, Dumper=Quoted, allow_unicode=False)
    )
    (folder / ".env").write_text(dotenv({"ODD_VALUE": ODD, "ODD_SECRET": ODD + "s"}))
    (folder / ".env").chmod(0o600)
    stack.run("deploy")
    wanted = {**seen, "TAKEN": ODD, "SECRET": f"{ODD}s", "OPS_STACK": "odd"}
    here = (tmp_path / "here ü").read_bytes(), (tmp_path / "here ü.word").read_bytes()
    there = on("web1", "base64 -w0 '/tmp/there ü'; echo; base64 -w0 '/tmp/there ü.word'").split("\n")
    for environment, word in (here, map(base64.b64decode, there)):
        pairs = (entry.partition(b"=") for entry in environment.split(b"\0"))
        got = {name: value for name, _, value in pairs}
        assert {name: got.get(name.encode()) for name in wanted} == {
            name: value.encode() for name, value in wanted.items()
        }
        assert word == ODD.encode()
    shared = f"{BASE}/odd/test/shared/data/out.json"
    migration = Read.of(on("web1", f"cat {shlex.quote(shared)}"))
    assert migration.words == [word.encode() for word in TRAPS]
    assert migration.environment[b"ODD_SECRET"] == f"{ODD}s".encode()
    line = f"printf %s {shlex.quote(ODD)} | base64 -w0"
    assert (
        base64.b64decode(stack.run("stack.exec", "--service", "reader", "--command", line).stdout)
        == ODD.encode()
    )
    assert stack.json("deploy")["targets"]["web1"]["result"] == "unchanged"
