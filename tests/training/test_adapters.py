"""Adapters by name: from records to an adapter's folder, and that folder wherever Kilter takes a model."""

import json
import math
import shutil
import subprocess
import sys

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

import kilter
from kilter.engine.adapters import AdapterOptions
from kilter.engine.plain import obstacle
from kilter.engine.sampler import sample
from kilter.errors import KilterError
from kilter.models.load import checkpoint, folders, load_weights
from kilter.models.rewarder import Rewarder
from kilter.recipe.fingerprint import Files
from kilter.records import Message, Prompt
from kilter.registry import methods
from kilter.training.course import course_of
from kilter.training.run import options_of
from small import demonstrations, make_model, preferences

FAST = {"steps": 4, "batch_size": 4, "max_length": 64, "log_every": 1, "learning_rate": 1e-2, "precision": "fp32"}
KINDS = {
    "lora": {},
    "dora": {"adapter_rank": 2},
    "adalora": {"adapter_rank": 2},
    "prefix": {"virtual_tokens": 3},
    "prompt": {"virtual_tokens": 3},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model `tiny`, pairs and demonstrations, and an adapter of every kind trained on them by dpo."""
    folder = tmp_path_factory.mktemp("adapters")
    make_model(folder / "tiny")
    data = preferences(folder / "pairs.jsonl")
    demonstrations(folder / "talks.jsonl")
    for kind, more in KINDS.items():
        done = kilter.train(
            "dpo", model=folder / "tiny", data=data, out=folder / kind, adapter=kind, **FAST | {"steps": 8}, **more
        )
        assert done.losses[-1] < done.losses[0]
        if kind not in ("prefix", "prompt"):
            assert done.losses[0] == pytest.approx(math.log(2), abs=1e-6)
    kilter.train("reward", model=folder / "tiny", data=data, out=folder / "judge", **FAST)
    return folder


@pytest.fixture
def moved(place, tmp_path):
    """The model and its LoRA elsewhere, to be spoilt."""
    for name in ("tiny", "lora"):
        shutil.copytree(place / name, tmp_path / "there" / name)
    config = tmp_path / "there" / "lora" / "adapter_config.json"
    told = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps(told | {"base_model_name_or_path": "/no/such/folder"}), encoding="utf-8")
    return tmp_path / "there"


def test_every_training_method_takes_an_adapter():
    for method in methods("training"):
        if course_of(method.function) is not None:
            continue  # no run of the loop
        fields = options_of(method).model_fields
        assert AdapterOptions.model_fields.keys() <= fields.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_s_folder_is_a_model(place, kind):
    folder, prompt = str(place / kind), "what is 1 + 1?"
    assert not list((place / kind).glob("model*.safetensors"))
    assert AutoTokenizer.from_pretrained(folder).chat_template
    [scores] = kilter.score(folder, [prompt], ["it is 2."])
    [base] = kilter.score(str(place / "tiny"), [prompt], ["it is 2."])
    assert max(abs(one - two) for one, two in zip(scores, base, strict=True)) > 1e-4
    [[text]] = kilter.sample(folder, [prompt], max_tokens=6)
    [[again]] = kilter.sample(folder, [prompt], max_tokens=6)
    assert text == again
    found = kilter.evaluate("heldout", model=folder, records=str(place / "pairs.jsonl"))
    assert found.measures["preference_accuracy"].n == 16

    from peft import AutoPeftModelForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(folder)
    loaded = AutoPeftModelForCausalLM.from_pretrained(folder).eval()
    whole = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}, {"role": "assistant", "content": "it is 2."}], return_dict=False
    )
    with torch.no_grad():
        logs = loaded(torch.tensor([whole])).logits[0, -len(whole) :].log_softmax(-1)
    expected = [float(logs[at - 1, whole[at]]) for at in range(len(whole))]
    start = next(i for i in range(1, len(whole)) if expected[i] == pytest.approx(scores[0], abs=2e-5))
    assert expected[start : start + len(scores)] == pytest.approx(scores, abs=2e-5)


def test_what_a_run_tells_of_an_adapter(place):
    told = json.loads((place / "dora" / "training.json").read_text(encoding="utf-8"))
    assert told["options"]["adapter"] == "dora"
    assert told["options"]["adapter_rank"] == 2
    again = kilter.train(
        "dpo",
        model=place / "tiny",
        data=place / "pairs.jsonl",
        out=place / "dora",
        adapter="dora",
        adapter_rank=2,
        **FAST | {"steps": 8},
    )
    assert again.kept
    with pytest.raises(KilterError, match="adapter_rank is 2 there and 3 here"):
        kilter.train(
            "dpo",
            model=place / "tiny",
            data=place / "pairs.jsonl",
            out=place / "dora",
            adapter="dora",
            adapter_rank=3,
            **FAST | {"steps": 8},
        )


@pytest.mark.parametrize("kind", ["lora", "dora", "prefix", "prompt"])
def test_the_next_stage_continues_it_or_trains_all(place, tmp_path, kind):
    more = kilter.train("sft", model=place / kind, data=place / "talks.jsonl", out=tmp_path / "a", adapter=kind, **FAST)
    assert more.losses[-1] < more.losses[0]
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == str((place / "tiny").resolve())

    def whole(out):
        return kilter.train("sft", model=place / kind, data=place / "talks.jsonl", out=tmp_path / out, **FAST)

    if kind in ("prefix", "prompt"):
        with pytest.raises(KilterError, match=f"a {kind} adapter, which cannot be merged"):
            whole("b")
    else:
        assert whole("b").losses[0] == pytest.approx(more.losses[0], abs=0.05)
        assert AutoModelForCausalLM.from_pretrained(tmp_path / "b").num_parameters() > 0


def test_dpo_on_an_adapter_of_sft_compares_with_that(place, tmp_path):
    options = FAST | {"adapter": "lora", "adapter_dropout": 0.0, "adapter_targets": "all"}
    kilter.train("sft", model=place / "tiny", data=place / "talks.jsonl", out=tmp_path / "sft", **options)
    done = kilter.train(
        "dpo", model=tmp_path / "sft", data=place / "pairs.jsonl", out=tmp_path / "dpo", **FAST, adapter="lora"
    )
    assert done.losses[0] == pytest.approx(math.log(2), abs=1e-6)


def test_merged_it_scores_the_same(place, tmp_path):
    kilter.train(
        "dpo",
        model=place / "tiny",
        data=place / "pairs.jsonl",
        out=tmp_path / "whole",
        adapter="lora",
        merge=True,
        **FAST | {"steps": 8},
    )
    LlamaForCausalLM.from_pretrained(tmp_path / "whole")
    asked = (["what is 1 + 1?"], ["it is 2."])
    [merged], [apart] = kilter.score(str(tmp_path / "whole"), *asked), kilter.score(str(place / "lora"), *asked)
    assert merged == pytest.approx(apart, abs=2e-5)


def test_a_base_is_found_where_it_stood_beside_the_adapter(moved):
    assert [folder.resolve() for folder in folders(str(moved / "lora"))] == [moved / "lora", moved / "tiny"]
    load_weights(str(moved / "lora"))


def test_a_base_that_is_gone_is_said(moved):
    shutil.rmtree(moved / "tiny")
    with pytest.raises(
        KilterError, match=r"is an adapter for '/no/such/folder', which cannot be had .*base_model_name"
    ):
        checkpoint(str(moved / "lora"))


def test_another_base_of_the_same_shape_is_said(moved):
    weights = load_file(moved / "tiny" / "model.safetensors")
    save_file(
        {name: value * 1.5 for name, value in weights.items()}, moved / "tiny" / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(KilterError, match=r"adapter for another base than what is now in .*whose weights differ"):
        load_weights(str(moved / "lora"))


@pytest.mark.parametrize("what", ["shape", "layers"])
def test_another_program_s_adapter_for_another_base_is_said(moved, what):
    weights = load_file(moved / "lora" / "adapter_model.safetensors")
    if what == "shape":
        weights = {name: torch.cat((value, value), dim=-1) for name, value in weights.items()}
    else:
        weights = {name: value for name, value in weights.items() if "layers.1" not in name}
    save_file(weights, moved / "lora" / "adapter_model.safetensors", {"format": "pt"})
    config = moved / "lora" / "adapter_config.json"
    told = json.loads(config.read_text(encoding="utf-8")) | {"base_model_name_or_path": str(moved / "tiny")}
    config.write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(KilterError, match="does not fit its base") as caught:
        load_weights(str(moved / "lora"))
    assert "\n" not in str(caught.value)
    config.write_text(json.dumps(told | {"target_modules": ["nothing"]}), encoding="utf-8")
    with pytest.raises(KilterError, match="does not fit its base"):
        load_weights(str(moved / "lora"))


def test_what_is_half_written_or_names_no_base_is_said(moved):
    config = moved / "lora" / "adapter_config.json"
    told = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps(told | {"base_model_name_or_path": None}), encoding="utf-8")
    with pytest.raises(KilterError, match="is an adapter without its model"):
        checkpoint(str(moved / "lora"))
    config.write_text(json.dumps(told | {"base_model_name_or_path": str(moved / "lora")}), encoding="utf-8")
    with pytest.raises(KilterError, match="is an adapter itself; merge that one first"):
        checkpoint(str(moved / "lora"))
    config.write_text("{", encoding="utf-8")
    with pytest.raises(KilterError, match="half written"):
        checkpoint(str(moved / "lora"))
    (moved / "lora" / "adapter_model.safetensors").write_bytes(b"half")
    with pytest.raises(KilterError, match="half written"):
        checkpoint(str(moved / "lora"))


def test_an_adapter_is_never_trained_into_its_base(place):
    with pytest.raises(KilterError, match="is the model that training starts from"):
        kilter.train(
            "sft", model=place / "lora", data=place / "talks.jsonl", out=place / "tiny", overwrite=True, **FAST
        )


def test_a_fingerprint_covers_the_base(moved):
    before = Files().model(str(moved / "lora"))
    (moved / "tiny" / "note.txt").write_text("another", encoding="utf-8")
    assert Files().model(str(moved / "lora")) != before


def test_a_sequence_leaves_room_for_virtual_tokens(place, tmp_path, capfd):
    options = FAST | {"steps": 1, "max_length": 1024}
    kilter.train(
        "sft",
        model=place / "tiny",
        data=place / "talks.jsonl",
        out=tmp_path,
        adapter="prompt",
        virtual_tokens=56,
        **options,
    )
    assert "cut to 200 tokens" in capfd.readouterr().err


RECIPE = """
name: adapters
stages:
  sft:
    train: sft
    model: TINY
    records: TALKS
    options: {adapter: lora, adapter_targets: "q_proj,v_proj", checkpoint_every: 2}
  dpo:
    train: dpo
    model: sft
    records: PAIRS
    options: {adapter: lora, merge: true}
  held:
    eval: heldout
    records: PAIRS
    models: {base: TINY, sft: sft, dpo: dpo}
"""


def test_a_recipe_of_adapters(place, tmp_path):
    text = RECIPE.replace("TINY", str(place / "tiny")).replace("TALKS", str(place / "talks.jsonl"))
    recipe = yaml.safe_load(text.replace("PAIRS", str(place / "pairs.jsonl")))
    for stage in ("sft", "dpo"):
        recipe["stages"][stage]["options"] |= FAST
    page = kilter.run(recipe, out=tmp_path / "run")
    stages = page.parent / "stages"
    assert (stages / "sft" / "adapter_model.safetensors").is_file()
    assert (stages / "dpo" / "model.safetensors").is_file()
    told = json.loads((page.parent / "report.json").read_text(encoding="utf-8"))
    assert set(told["results"]) == {"base", "sft", "dpo"}
    assert kilter.sample(str(stages / "sft"), ["what is 1 + 1?"], max_tokens=2)


def test_a_recipe_with_settings_that_exclude_each_other_does_not_begin(place, tmp_path):
    recipe = yaml.safe_load(RECIPE.replace("TINY", str(place / "tiny")).replace("TALKS", str(place / "talks.jsonl")))
    recipe["stages"]["dpo"]["options"] = {"adapter": "prompt", "merge": True}
    with pytest.raises(KilterError, match="Stage 'dpo': merge puts an adapter into the weights"):
        kilter.run(recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_command_line(place, tmp_path):
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in FAST.items()]
    words = ["train", "dpo", "--model", place / "tiny", "--data", place / "pairs.jsonl", "--out", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-m", "kilter.cli", *words, "--adapter", "lora", "--adapter-targets=qproj", *flags],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "has no linear layer 'qproj' to adapt; it has down_proj" in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("method", ["grpo", "ppo"])
def test_a_policy_that_samples_learns_by_its_adapter(place, tmp_path, method):
    """Dropout is off there: what learns is what sampled, also once the adapter has changed something."""
    prompts = [Prompt([Message("user", f"what is {i} + 1?")]) for i in range(6)]
    for start, settings in (("tiny", {"adapter_targets": "all"}), ("lora", {})):
        done = kilter.train(
            method,
            model=place / start,
            data=prompts,
            out=tmp_path / start,
            adapter="lora",
            feedback=str(place / "judge"),
            max_tokens=8,
            **FAST | {"steps": 3, "batch_size": 2},
            **settings,
        )
        lines = [json.loads(line) for line in done.metrics.read_text(encoding="utf-8").splitlines()]
        assert all(line.get("mismatch", 0.0) <= 1e-5 for line in lines)
        assert lines[0]["mismatch"] >= 0.0
        assert (tmp_path / start / "adapter_model.safetensors").is_file()
        if method == "ppo":
            config = json.loads((tmp_path / start / "critic" / "adapter_config.json").read_text(encoding="utf-8"))
            assert config["task_type"] == "SEQ_CLS"
            assert isinstance(kilter.load(str(tmp_path / start / "critic")), Rewarder)


@pytest.mark.parametrize("kind", ["lora", "prefix"])
def test_a_reward_model_learns_by_an_adapter(place, tmp_path, kind):
    data, settings = place / "pairs.jsonl", FAST | {"steps": 8} | KINDS[kind]
    for start in ("tiny", "lora") if kind == "lora" else ("tiny",):
        out = tmp_path / start
        done = kilter.train("reward", model=place / start, data=data, out=out, adapter=kind, **settings)
        assert done.losses[0] == pytest.approx(math.log(2), abs=1e-6)
        assert done.losses[-1] < 0.69
        judge = kilter.load(str(out))
        assert isinstance(judge, Rewarder)
        held = kilter.evaluate("reward-accuracy", model=str(out), records=str(data))
        assert held.measures["reward_accuracy"].value > 0.5
    with pytest.raises(KilterError, match="is a reward model, which writes no text"):
        load_weights(str(out))


@pytest.mark.parametrize("kind", KINDS)
def test_in_another_precision_it_stays_beside_the_weights(place, kind):
    model, _ = load_weights(str(place / kind), torch.bfloat16)
    exact, _ = load_weights(str(place / kind))
    assert hasattr(model, "peft_config")
    assert hasattr(exact, "peft_config") == (kind in ("prefix", "prompt"))
    tokens = torch.tensor([[5, 6, 7, 8, 9]])
    with torch.no_grad():
        one, two = (each(tokens).logits[0, -1].float().log_softmax(-1) for each in (model, exact))
    assert float((one - two).abs().max()) < 0.1
    assert obstacle(model) == ""
    [[completion]] = sample(model, [[5, 6, 7]], max_tokens=4, temperature=0.0)
    assert len(completion.tokens) == 4
