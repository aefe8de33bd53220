"""Closed-set suites beside the Language Model Evaluation Harness with its own Hugging Face backend, item by item.

The harness runs its own task definitions on local copies of the data. Kilter's engine has to give the same log-probs
(within 1e-3) and the same answers as a model of the harness, and Kilter's own suites have to ask the same questions.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from kilter.evaluation.humaneval import humaneval
from kilter.evaluation.lm_eval_tasks import lm_eval
from kilter.evaluation.symbolic import symbolic
from kilter.models.local import Local
from kilter.models.protocol import Answer

pytest.importorskip("lm_eval", reason="lm-eval is not installed (extra eval)")
ITEMS = 10
TASKS = {
    "mmlu_anatomy": 5,
    "cmmlu_anatomy": 5,
    "truthfulqa_mc1": 0,
    "truthfulqa_mc2": 0,
    "leaderboard_bbh_date_understanding": 3,
    "leaderboard_bbh_causal_judgement": 3,
    "gsm8k": 5,
}
OURS = ("mmlu_anatomy", "cmmlu_anatomy", "truthfulqa_mc1", "truthfulqa_mc2", "gsm8k")


@pytest.fixture(scope="module")
def data(shared: Path, tmp_path_factory) -> Path:
    """The data in the columns that the hub's copies have, which the harness' definitions read."""
    folder, source = tmp_path_factory.mktemp("hub"), shared / "data/evaluation"

    def copy(name: str, origin: Path, change) -> None:
        rows = [change(json.loads(line)) for line in origin.read_text(encoding="utf-8").splitlines()]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / name).write_text(text, encoding="utf-8")

    def hub(row: dict[str, Any]) -> dict[str, Any]:
        return {"question": row["question"], "choices": [row[c] for c in "ABCD"], "answer": "ABCD".index(row["answer"])}

    def truths(row: dict[str, Any]) -> dict[str, Any]:
        right, wrong = (
            [part.strip() for part in row[name].split(";") if part.strip()]
            for name in ("Correct Answers", "Incorrect Answers")
        )
        one, many = [row["Best Answer"].strip(), *wrong], [*right, *wrong]
        return {
            "question": row["Question"],
            "mc1_targets": {"choices": one, "labels": [1] + [0] * len(wrong)},
            "mc2_targets": {"choices": many, "labels": [1] * len(right) + [0] * len(wrong)},
        }

    for split in ("test", "dev"):
        copy(f"anatomy_{split}.jsonl", source / f"mmlu/anatomy_{split}.jsonl", hub)
        (folder / "cmmlu").mkdir(exist_ok=True)
        copy(f"cmmlu/anatomy_{split}.jsonl", source / f"cmmlu/anatomy_{split}.jsonl", lambda row: row)
    for name in ("multiple_choice_validation", "truthfulqa"):
        copy(f"{name}.jsonl", source / "truthfulqa_817.jsonl", truths)
    for name in ("date_understanding", "causal_judgement"):
        copy(f"{name}_test.jsonl", source / f"bbh/{name}.jsonl", lambda row: row)
    copy("gsm8k_test.jsonl", source / "gsm8k_test.jsonl", lambda row: row)
    copy("gsm8k_train.jsonl", source / "gsm8k_train_1500.jsonl", lambda row: row)
    return folder


@pytest.fixture(scope="module", params=["stories260K", "babyllama-0.9M", "random-llama", "random-gpt2"])
def local(request, shared: Path, tiny_model: Path, tmp_path_factory) -> Local:
    if not request.param.startswith("random"):
        return Local(str(shared / "models" / request.param))
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

    import tiny_llama

    folder = tmp_path_factory.mktemp("models") / request.param
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    torch.manual_seed(1)
    ends = {"vocab_size": 300, "bos_token_id": 0, "eos_token_id": 1}
    if request.param == "random-llama":
        model = LlamaForCausalLM(tiny_llama.config(**ends, intermediate_size=32, max_position_embeddings=600))
    else:
        model = GPT2LMHeadModel(GPT2Config(**ends, n_embd=32, n_layer=2, n_head=4, n_positions=400))
    for name, weight in model.named_parameters():
        if "norm" not in name and "ln_" not in name:
            weight.data *= 3  # so that no two words are nearly as likely
    model.save_pretrained(folder)
    return Local(str(folder))


@pytest.fixture(scope="module")
def theirs(local: Local, data: Path) -> dict[str, list[dict[str, Any]]]:
    """The harness' own samples by task, with its Hugging Face backend."""
    from lm_eval import evaluator
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from kilter.evaluation.harness import _local, _manager

    backend = HFLM(
        pretrained=AutoModelForCausalLM.from_pretrained(local.name),
        tokenizer=AutoTokenizer.from_pretrained(local.name),
        batch_size=4,
        device="cpu",
    )
    found = {}
    for name, shots in TASKS.items():
        if not fits(local, name):
            continue
        manager = _manager([name], "")
        place = data / "cmmlu" if name.startswith("cmmlu") else data
        run = evaluator.simple_evaluate(
            model=backend,
            tasks=[_local(manager, name, place)],
            num_fewshot=shots,
            limit=ITEMS if name != "gsm8k" else 4,
            bootstrap_iters=0,
            log_samples=True,
            task_manager=manager,
        )
        found[name] = run["samples"][name]
    return found


def fits(local: Local, name: str) -> bool:
    """Whether the harness has room for the 256 tokens that it lets a model write of GSM8K."""
    return name != "gsm8k" or local.positions > 256


def ours(local: Local, data: Path, name: str, *, by_kilter: bool) -> list[dict[str, Any]]:
    place = data / "cmmlu" if name.startswith("cmmlu") else data
    n = ITEMS if name != "gsm8k" else 4
    found = asyncio.run(lm_eval(local, task=name, data=str(place), shots=TASKS[name], n=n, ours=by_kilter))
    return found.samples


@pytest.mark.parametrize("name", TASKS)
def test_log_probs_and_answers_are_the_harness_own(local: Local, theirs, data: Path, name: str) -> None:
    if not fits(local, name):
        pytest.skip("the model has no room for what the harness lets it write")
    mine = {sample["id"]: sample for sample in ours(local, data, name, by_kilter=False)}
    assert mine
    for sample in theirs[name]:
        own = mine[f"{name}/{sample['doc_id']}"]
        compare(own, sample, name)


@pytest.mark.parametrize("name", OURS)
def test_our_own_suites_ask_and_score_the_same(local: Local, theirs, data: Path, name: str) -> None:
    if not fits(local, name):
        pytest.skip("the model has no room for what the harness lets it write")
    mine = ours(local, data, name, by_kilter=True)
    by_document: dict[int, dict[str, Any]] = {}
    for sample in theirs[name]:
        if sample.get("filter") != "flexible-extract":
            by_document[sample["doc_id"]] = sample
    assert len(mine) == len(by_document)
    for own, (_, sample) in zip(mine, sorted(by_document.items()), strict=True):
        assert own["prompt"][0]["content"] == sample["arguments"][0][0]
        compare(own, sample, name)


def compare(own: dict[str, Any], sample: dict[str, Any], name: str) -> None:
    if "logprobs" not in own:
        assert own["response"] == sample["resps"][0][0]
        value = own["outcomes"].get("exact_match", own["outcomes"].get("exact_match_strict_match"))
        if sample["filter"] == "strict-match":
            assert value == sample["exact_match"]
        return
    logprobs = [float(response[0][0]) for response in sample["resps"]]
    assert own["logprobs"] == pytest.approx(logprobs, abs=1e-3)
    for metric in sample["metrics"]:
        if metric in own["outcomes"]:
            assert own["outcomes"][metric] == pytest.approx(sample[metric], abs=1e-3)
    assert set(own["outcomes"]) & set(sample["metrics"])


def test_the_authors_programs_pass_and_their_labels_are_the_rule(shared: Path, tmp_path: Path) -> None:
    source = shared / "data/evaluation"
    rows = [json.loads(line) for line in (source / "humaneval_164.jsonl").read_text().splitlines()][:30]
    said = [{"task_id": row["task_id"], "completion": row["canonical_solution"]} for row in rows]
    stored = tmp_path / "said.jsonl"
    stored.write_text("".join(json.dumps(row) + "\n" for row in said))
    found = asyncio.run(humaneval(None, data=str(source), completions=str(stored), n=30))
    assert found.measures["pass@1"].value == 1

    class Silent:
        name = "silent"

        async def ask(self, messages, sampling):
            return [Answer("", 0, None, "stop")]

    labels = asyncio.run(symbolic(Silent(), data=str(source), shots=0))
    assert labels.measures["exact_match"].n == 1000
    # Fifteen of the authors' names have an inner space, and count as one word there.
    assert any("15 of 1,000 labels are not what the rule says" in note for note in labels.notes)
    flips = [sample["expected"] for sample in labels.samples if sample["family"] == "coin_flip"]
    assert (flips.count("yes"), flips.count("no")) == (253, 247)
