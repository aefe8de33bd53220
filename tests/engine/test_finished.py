"""Training into a folder that holds something: never over it without being told, never again what is done."""

import json
import os
import signal
from functools import partial

import pytest

from kilter.engine import checkpoint, finished
from kilter.engine.loop import LoopOptions, train
from kilter.errors import KilterError
from kilter.models.load import checkpoint as whole
from kilter.training.dpo import dpo
from kilter.training.sft import sft
from tiny_models import make, pair_trees

OPTIONS = LoopOptions(
    steps=4, learning_rate=1e-2, batch_size=4, log_every=1, precision="fp32", checkpoint_every=1, warmup=0
)


def run(out, *, options=OPTIONS, seed=0, trees=None, objective=sft, **more):
    return train(make(seed=seed), trees or pair_trees(8), objective, options, out, **more)


def content(out):
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}


def changed(**values):
    return LoopOptions(**OPTIONS.model_dump() | values)


def test_the_same_run_is_not_trained_again(tmp_path):
    first = run(tmp_path, notes=["2 of 8 left out."])
    before = content(tmp_path)
    again = run(tmp_path)
    assert (first.kept, again.kept) == (False, True)
    assert content(tmp_path) == before
    assert again.losses == first.losses
    assert (again.steps, again.tokens, again.metrics) == (4, first.tokens, first.metrics)
    assert first.notes == again.notes == ["2 of 8 left out."]
    # How often it logs or keeps a state is no part of what a run is.
    assert run(tmp_path, options=changed(log_every=2, checkpoint_every=0)).kept


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"options": changed(learning_rate=0.5)}, r"learning_rate is 0\.01 there and 0\.5 here"),
        ({"options": changed(steps=5, seed=3)}, r"steps is 4 there and 5 here, seed is 0 there and 3 here\)"),
        ({"objective": partial(dpo, beta=0.2)}, "method is sft there and dpo here"),
        ({"trees": pair_trees(8, seed=1)}, "another model or other data"),
        ({"seed": 1}, "another model or other data"),
    ],
)
def test_another_run_is_refused_and_the_finished_one_stays(tmp_path, other, said):
    run(tmp_path)
    before = content(tmp_path)
    with pytest.raises(KilterError, match=f"holds a finished run with .*{said}.*--overwrite"):
        run(tmp_path, **other)
    assert content(tmp_path) == before


def test_a_model_that_was_not_trained_here_is_not_trained_over(tmp_path):
    make().save_pretrained(tmp_path)
    before = content(tmp_path)
    with pytest.raises(KilterError, match="holds a model; choose another folder"):
        run(tmp_path)
    assert content(tmp_path) == before
    assert not run(tmp_path, overwrite=True).kept


def test_only_a_whole_model_is_retracted(tmp_path, monkeypatch):
    killed_at(2, tmp_path, monkeypatch)
    finished.retract(tmp_path)
    assert checkpoint.find_state(tmp_path)
    run(tmp_path)
    finished.retract(tmp_path)
    assert not run(tmp_path).kept


def test_overwriting_gives_what_an_empty_folder_gives(tmp_path):
    both, alone = tmp_path / "both", tmp_path / "alone"
    run(both)
    other = changed(learning_rate=0.5)
    found, expected = run(both, options=other, overwrite=True), run(alone, options=other)
    assert found.losses == expected.losses
    assert (both / "model.safetensors").read_bytes() == (alone / "model.safetensors").read_bytes()
    assert sorted(content(both)) == sorted(content(alone))
    assert run(both, options=other).kept


def killed_at(step, out, monkeypatch, **more):
    """Interrupt a run when it keeps the state of `step`."""
    save, left = checkpoint.save_state, [step]

    def stopping(*args, **more):
        save(*args, **more)
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_state", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(out, **more)


def test_while_it_is_overwritten_the_old_model_does_not_look_complete(tmp_path, monkeypatch):
    run(tmp_path)
    other = changed(learning_rate=0.5)
    killed_at(2, tmp_path, monkeypatch, options=other, overwrite=True)
    with pytest.raises(KilterError, match="training that is not finished"):
        whole(str(tmp_path))
    with pytest.raises(KilterError, match="holds an unfinished run with another model, data or options"):
        run(tmp_path)
    # The same command, and the same without the word, go on from the state.
    killed_at(1, tmp_path, monkeypatch, options=other, overwrite=True)
    assert checkpoint.find_state(tmp_path).name.endswith("3")
    found = run(tmp_path, options=other)
    assert not found.kept
    assert found.losses == run(tmp_path / "alone", options=other).losses
    assert whole(str(tmp_path)) == tmp_path


def test_overwriting_an_unfinished_run_starts_anew(tmp_path, monkeypatch):
    killed_at(2, tmp_path, monkeypatch)
    other = changed(learning_rate=0.5)
    assert run(tmp_path, options=other, overwrite=True).losses == run(tmp_path / "alone", options=other).losses


def test_killed_between_the_result_and_the_model_it_is_not_finished(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_model", stop)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, options=changed(checkpoint_every=0))
    assert (tmp_path / "training.json").exists()
    found = run(tmp_path)
    assert not found.kept
    assert found.losses == run(tmp_path / "alone").losses


def test_killed_before_it_could_tidy_up_it_is_finished(tmp_path, monkeypatch):
    run(tmp_path)
    (tmp_path / "state-000000003").mkdir()
    (tmp_path / "state-000000003" / "facts.json").write_text(json.dumps({"mark": "old", "step": 3}), encoding="utf-8")
    assert run(tmp_path).kept
    assert not list(tmp_path.glob("state-*"))


def test_another_reference_is_another_run(tmp_path, monkeypatch):
    references = [make(seed=seed) for seed in (1, 2)]
    killed_at(2, tmp_path, monkeypatch, objective=dpo, reference=references[0])
    with pytest.raises(KilterError, match="another model, data or options"):
        run(tmp_path, objective=dpo, reference=references[1])
    with pytest.raises(KilterError, match="another model, data or options"):
        run(tmp_path, objective=dpo)
    run(tmp_path, objective=dpo, reference=references[0])


def test_a_source_that_makes_nothing_for_a_step_is_said(tmp_path):
    trees = pair_trees(4)
    with pytest.raises(KilterError, match="nothing to learn from for step 3"):
        run(tmp_path, trees=lambda step: trees if step < 2 else [])
    assert checkpoint.find_state(tmp_path).name.endswith("2")
