"""Small models of every architecture that is proven, with weights large enough for attention to matter."""

import random

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BloomConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    GptOssConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Olmo2Config,
    OPTConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from kilter.engine.batch import Tree

VOCABULARY = 97
SHARED = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
OLD = {key: value for key, value in SHARED.items() if key != "num_key_value_heads"}
ALTERNATING = ["sliding_attention", "full_attention"]
IDS = {key: value for key, value in SHARED.items() if key.endswith("_id")}
ARCHITECTURES = {
    "llama": lambda: LlamaConfig(**SHARED),
    "qwen2": lambda: Qwen2Config(**SHARED),
    "qwen3": lambda: Qwen3Config(**SHARED, head_dim=8),
    "mistral": lambda: MistralConfig(**SHARED, sliding_window=6),
    "gemma2": lambda: Gemma2Config(
        **SHARED,
        head_dim=8,
        query_pre_attn_scalar=8,
        sliding_window=6,
        attn_logit_softcapping=5.0,
        final_logit_softcapping=3.0,
    ),
    "gemma3": lambda: Gemma3TextConfig(
        **SHARED,
        head_dim=8,
        query_pre_attn_scalar=8,
        sliding_window=6,
        layer_types=ALTERNATING,
    ),
    "phi3": lambda: Phi3Config(**SHARED),
    "gpt_neox": lambda: GPTNeoXConfig(**OLD),
    "gpt2": lambda: GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=512, **IDS),
    "olmo2": lambda: Olmo2Config(**SHARED),
    "smollm3": lambda: SmolLM3Config(**SHARED),
    "opt": lambda: OPTConfig(**OLD, ffn_dim=64, word_embed_proj_dim=32),
}
# Sinks reach the attention function too; the other two cannot be laid out.
SINKS = {
    "gpt_oss": lambda: GptOssConfig(
        **SHARED, head_dim=8, sliding_window=6, num_local_experts=4, layer_types=ALTERNATING
    )
}
PADDED = {
    "bloom": lambda: BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4, **IDS),
    "mamba": lambda: MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, **IDS),
}


def make(name="llama", seed=0, scale=3.0):
    """Return a model of the architecture in fp32. Fresh weights hardly attend: they are made `scale` times larger."""
    torch.manual_seed(seed)
    config = (ARCHITECTURES | SINKS | PADDED)[name]()
    return _livelier(AutoModelForCausalLM.from_config(config, attn_implementation="eager"), scale)


def make_judge(name="llama", seed=0, scale=3.0):
    """Return a reward model of the architecture in fp32, with weights and a head of some size."""
    torch.manual_seed(seed)
    config = (ARCHITECTURES | SINKS | PADDED)[name]()
    config.num_labels = 1
    model = _livelier(AutoModelForSequenceClassification.from_config(config, attn_implementation="eager"), scale)
    torch.nn.init.normal_(model.score.weight)
    return model


def _livelier(model, scale):
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(scale)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def some_trees(seed=0, shapes=((12, (5, 9, 2)), (0, (7,)), (5, (5,)), (12, (6, 6)), (1, (3, 1)))):
    """Return trees of the given (prompt, responses) lengths with random tokens and masks, prompts scored in part."""
    draw = random.Random(seed)

    def tokens(n):
        return [draw.randrange(3, VOCABULARY) for _ in range(n)]

    def mask(n):
        return [draw.random() < 0.7 for _ in range(n)]

    return [
        Tree(
            tokens(p),
            [tokens(n) for n in lengths],
            [mask(n) for n in lengths],
            prompt_mask=mask(p),
            info={"id": str(i)},
        )
        for i, (p, lengths) in enumerate(shapes)
    ]


def pair_trees(count, seed=0):
    """Return trees with a better and a worse response each."""
    draw = random.Random(seed)
    shapes = [(draw.randrange(3, 12), (draw.randrange(2, 9), draw.randrange(2, 9))) for _ in range(count)]
    trees = some_trees(seed, shapes)
    for tree in trees:
        tree.prompt_mask = None
        tree.masks = [[True] * len(response) for response in tree.responses]
        tree.info |= {"pairs": [(0, 1)], "order": [1.0, 0.0]}
    return trees


def ordinary(model, trees):
    """Return the scored tokens' log-probs by the model's own forward, one sequence at a time, in the batch's order."""
    found = []
    for tree in trees:
        for k, response in enumerate(tree.responses):
            tokens = torch.tensor([[*tree.prompt, *response]])
            logs = torch.log_softmax(model(tokens).logits[0].float(), -1)
            head = tree.prompt_mask if k == 0 and tree.prompt_mask is not None else [False] * len(tree.prompt)
            scored = [t for t, m in enumerate([*head, *tree.masks[k]]) if m and t > 0]
            found.append(logs[[t - 1 for t in scored], tokens[0, scored]])
    return torch.cat(found)


def stirred(model):
    """The model with what it learns made to matter, as after long training."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def greedy(model, prompt, count):
    """Return the likeliest continuation, one forward of the whole sequence a token, and its log-probs."""
    made, logs = [], []
    with torch.no_grad():
        for _ in range(count):
            last = model(input_ids=torch.tensor([[*prompt, *made]])).logits[0, -1].float().log_softmax(-1)
            made.append(int(last.argmax()))
            logs.append(float(last[made[-1]]))
    return made, logs
