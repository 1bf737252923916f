"""Pipelines whose sandboxed nodes are recorded: what fails names its file, and the file's calls, batches among them, can be made again."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

import cloche
from cloche import Source
from cloche.pipeline import Checkpoint, DeadLetter, NodeSpec, Pipeline, PipelineError, PlacementError, Restore, Skip
from cloche.replay import Record, Recording, replay
from tests.limits import patient

ADD = Source("""
import random
class Add:
    def __init__(self):
        self.seen = []
    def process(self, x):
        self.seen.append((x, random.random()))
        if x < 0:
            raise ValueError(f"{x} is negative")
        return x + 1
    def flush(self):
        return len(self.seen)
""")
SPLIT = Source("""
class Split:
    is_streaming = True
    async def process(self, items):
        async for x in items:
            yield x
            yield x
""")


def run(pipeline: Pipeline, items: Any, **options: Any) -> tuple[list[Any], PipelineError | None]:
    """The outputs, and the error after them."""
    outputs = []
    try:
        for output in pipeline.run(items, **options):
            outputs.append(output)
    except PipelineError as error:
        return outputs, error
    return outputs, None


def test_a_failure_names_its_file_and_the_file_replays(runtime: cloche.Runtime, tmp_path: Path) -> None:
    """Also after batches of many items, behind a node that takes the whole stream."""
    specs = [NodeSpec(SPLIT, id="split"), NodeSpec(ADD, id="Add"), NodeSpec(abs, placement="inline")]
    with Pipeline(specs, runtime=runtime, record=tmp_path) as pipeline:
        outputs, error = run(pipeline, [*range(200), -5, 1])
        recordings = dict(pipeline.recordings)
    assert error is not None and error.node == "Add" and len(outputs) == 400
    assert error.recording == str(next(tmp_path.iterdir())) == getattr(error.__cause__, "recording", None)
    assert any("cloche replay" in note and error.recording in note for note in error.__notes__)
    assert pickle.loads(pickle.dumps(error)).recording == error.recording
    found = Recording.open(error.recording)
    assert (found.name, found.error) == ("Add", "NodeRaisedError")
    batches = [call for call in found.calls if call.op == "stream_batch"]
    assert max(len(call.operands[0]) for call in batches) > 1
    assert sorted(recordings) == ["Add", "split"]
    for one in (error.recording, *recordings.values()):
        report = replay(one, runtime=runtime)
        assert report and report.memory is True, str(report)


def test_items_that_are_left_out_have_their_files(runtime: cloche.Runtime, tmp_path: Path, logs: Any) -> None:
    """Dead letters carry them, and so do warnings; a node that is set back each time leaves no more files than it may."""
    letters: list[Any] = []
    items = [1, -1, -2, 2, -3, -4]
    spec = NodeSpec(ADD, id="add", on_error=DeadLetter(), record=Record(folder=tmp_path / "letters"))
    with Pipeline([spec], runtime=runtime) as pipeline:
        run(pipeline, items, dead_letters=letters.append)
    assert [letter.item for letter in letters] == [1, 2, 4, 5]
    assert len({letter.recording for letter in letters}) == 4
    assert all(Path(letter.recording).exists() for letter in letters)
    assert replay(letters[2].recording, runtime=runtime).memory is True
    for rule in (Restore(then=Skip()), Restore(then=DeadLetter())):
        folder = tmp_path / type(rule.then).__name__
        settings = Record(folder=folder, max_files=2)
        with Pipeline([NodeSpec(ADD, id="Add", on_error=rule)], runtime=runtime, record=settings) as pipeline:
            for _ in range(2):
                run(pipeline, items, dead_letters=letters.append)
            assert len(list(folder.iterdir())) == 2
            assert replay(pipeline.recordings["Add"], runtime=runtime).memory is True


def test_outcomes_that_are_taken_one_by_one_leave_a_file_for_what_has_failed(
    runtime: cloche.Runtime, tmp_path: Path
) -> None:
    """A batch whose outputs are too large together is no failure; nor is one with a value that cannot be sent more than one."""
    source = Source("def many(x): return object() if x == 30 else [0] * 600")
    letters: list[Any] = []
    spec = NodeSpec(source, id="many", limits=patient(value_nodes=1000), on_error=DeadLetter())
    with Pipeline([spec], runtime=runtime, record=tmp_path) as pipeline:
        outputs, _ = run(pipeline, range(40), dead_letters=letters.append)
        calls = [call.op for call in pipeline.recordings["many"].calls]
        report = replay(pipeline.recordings["many"], runtime=runtime)
    assert len(outputs) == 39 and "stream_take" in calls
    assert [str(path) for path in tmp_path.iterdir()] == [letters[0].recording]
    assert report.memory is True, str(report)


def test_true_keeps_recordings_of_each_copy_and_false_none(runtime: cloche.Runtime) -> None:
    specs = [
        NodeSpec(ADD, id="many", workers=2),
        NodeSpec(ADD, id="secret", record=False),
        NodeSpec(ADD, id="one", record=True),
    ]
    with Pipeline(specs, runtime=runtime, record=True) as pipeline:
        assert not pipeline.recordings
        run(pipeline, range(9))
        assert sorted(pipeline.recordings) == ["many.0", "many.1", "one"]
        for recording in pipeline.recordings.values():
            assert replay(recording, runtime=runtime).memory is True


def test_a_run_that_goes_on_is_recorded_from_its_checkpoint(runtime: cloche.Runtime) -> None:
    points: list[Checkpoint] = []
    with Pipeline([NodeSpec(ADD, id="Add")], runtime=runtime, record=True) as pipeline:
        list(pipeline.run([1, 2, 3, 4], checkpoint_every=2, on_checkpoint=points.append))
        assert list(pipeline.resume(points[0], [3, 4])) == [4, 5, 4]
        report = replay(pipeline.recordings["Add"], runtime=runtime)
        assert report.memory is True and report.calls == len(pipeline.recordings["Add"].calls)


def test_a_node_that_breaks_names_its_file(runtime: cloche.Runtime, tmp_path: Path) -> None:
    """Whether it ends the pipeline or is brought back."""
    ends = Source("import os\ndef ends(x):\n    if x: os._exit(3)\n    return x")
    letters: list[Any] = []
    with Pipeline([NodeSpec(ends)], runtime=runtime, record=tmp_path) as pipeline:
        _, error = run(pipeline, [0, 1])
    assert error is not None and Path(error.recording).exists()
    spec = NodeSpec(ends, on_error=DeadLetter(), on_break="restart")
    with Pipeline([spec], runtime=runtime, record=tmp_path) as pipeline:
        outputs, error = run(pipeline, [0, 1, 0], dead_letters=letters.append)
    assert error is None and outputs == [0, 0]
    assert Path(letters[0].recording).exists()


def test_what_cannot_be_recorded_is_refused(runtime: cloche.Runtime) -> None:
    """Before anything is started."""
    for place in ("process", "native", "inline"):
        with pytest.raises(
            ValueError, match="only a sandbox can be recorded. Give placement='wasm', or leave record out"
        ):
            NodeSpec(str, placement=place, record=True)  # type: ignore[arg-type]
        NodeSpec(str, placement=place, record=False)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="record"):
        NodeSpec(ADD, record=7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="record"):
        Pipeline([NodeSpec(ADD)], record=7)  # type: ignore[arg-type]
    with pytest.raises(PlacementError, match="no node of the pipeline runs in a sandbox"):
        Pipeline([NodeSpec(str, placement="native")], record=True)
    Pipeline([NodeSpec(ADD, record=False)], runtime=runtime).close()


def test_settings_are_plain_data(tmp_path: Path) -> None:
    spec = NodeSpec(ADD, record=Record(folder=tmp_path, calls=7))
    assert pickle.loads(pickle.dumps(spec)).record == spec.record
