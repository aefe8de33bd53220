"""What the recipe's and the command line's tests run on: a real model, small, and some records."""

from pathlib import Path

import tiny_llama
from jsonl import write

RECIPE = """
name: small
description: A short path through every kind of stage.
inputs:
  model: MODEL
  demonstrations: DEMONSTRATIONS
  n: 24
stages:
  more:
    data: world-demonstrations
    options: {n: "${n}"}
  sft:
    train: sft
    model: ${model}
    records: ${demonstrations}
    options: {steps: 6, batch_size: 4, checkpoint_every: 2, log_every: 1, max_length: 128}
  dpo:
    train: dpo
    model: sft
    records: PREFERENCES
    options: {steps: 4, batch_size: 4, checkpoint_every: 2, log_every: 1, max_length: 128}
  held:
    eval: heldout
    records: PREFERENCES
    models: {base: "${model}", sft: sft, dpo: dpo}
"""


def make_model(folder: Path) -> Path:
    """Save a llama of 20,000 random parameters with a byte-level tokenizer, as an ordinary checkpoint."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    core.train_from_iterator(["what is the colour of the sky? it is blue."] * 4, trainer)
    PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    torch.manual_seed(0)
    larger = {"vocab_size": 300, "intermediate_size": 32, "num_key_value_heads": 2, "max_position_embeddings": 256}
    LlamaForCausalLM(tiny_llama.config(**larger, bos_token_id=0, eos_token_id=1)).save_pretrained(folder)
    return folder


def half_written(model: Path, out: Path) -> Path:
    """Copy a checkpoint with the second half of its weights missing."""
    out.mkdir()
    for file in model.iterdir():
        content = file.read_bytes()
        (out / file.name).write_bytes(content[: len(content) // 2] if file.suffix == ".safetensors" else content)
    return out


def demonstrations(path: Path, count: int = 16) -> Path:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"what is {i} + 1?"},
                {"role": "assistant", "content": f"it is {i + 1}. 好"},
            ]
        }
        for i in range(count)
    ]
    return lines(path, rows)


def preferences(path: Path, count: int = 16) -> Path:
    rows = [
        {
            "prompt": [{"role": "user", "content": f"what is {i} + 1?"}],
            "chosen": [{"role": "assistant", "content": f"it is {i + 1}."}],
            "rejected": [{"role": "assistant", "content": f"it is not {i}, 不"}],
        }
        for i in range(count)
    ]
    return lines(path, rows)


def every_third_broken(path: Path, out: Path) -> Path:
    """Copy `path` with the second half of every third line missing."""
    good = path.read_text(encoding="utf-8").splitlines()
    broken = [line[: len(line) // 2] if i % 3 == 2 else line for i, line in enumerate(good)]
    out.write_text("\n".join(broken), encoding="utf-8")
    return out


def lines(path: Path, rows: list) -> Path:
    return Path(write(path, rows))


def make_recipe(folder: Path, model: Path) -> Path:
    """Write RECIPE and the files that it names into `folder`."""
    names = {
        "MODEL": model,
        "DEMONSTRATIONS": demonstrations(folder / "demonstrations.jsonl"),
        "PREFERENCES": preferences(folder / "preferences.jsonl"),
    }
    text = RECIPE
    for name, path in names.items():
        text = text.replace(name, str(path))
    (folder / "small.yaml").write_text(text, encoding="utf-8")
    return folder / "small.yaml"
