"""The llama of some thousand weights that tests and recorded fixtures have in common, and what was recorded of it."""

from pathlib import Path

SHAPE = {
    "vocab_size": 48,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
}


def config(**other):
    """Return its LlamaConfig, with `other` settings changed or added."""
    from transformers import LlamaConfig

    return LlamaConfig(**SHAPE | other)


def recorded(name):
    """Return the tensors and the metadata of tests/fixtures/NAME."""
    from safetensors import safe_open

    with safe_open(Path(__file__).parent / "fixtures" / name, "pt") as handle:
        return {key: handle.get_tensor(key) for key in handle.keys()}, handle.metadata()  # noqa: SIM118


def part(values, name):
    """Return the tensors whose names begin with `NAME.`, without that."""
    return {key.removeprefix(f"{name}."): value for key, value in values.items() if key.startswith(f"{name}.")}
