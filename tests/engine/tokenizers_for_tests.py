"""Small tokenizers of the two great kinds, and chat templates that behave as the well-known ones do."""

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# Marks that take in the header of the turn from the newline on.
WIDE_MARKS = MARKED.replace(
    "m['role'] + '\\n' }}", "m['role'] }}{% if m['role'] != 'assistant' %}{{ '\\n' }}{% endif %}", 1
).replace("{% generation %}{{ m", "{% generation %}{{ '\\n' + m")
# Qwen 3: the last answer gets an empty block of reasoning, earlier ones lose it.
QWEN3 = (
    "{%- set ns = namespace(last=0) %}{%- for m in messages %}{%- if m['role'] == 'user' %}"
    "{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}"
    "{%- for m in messages %}{{- '<|im_start|>' + m['role'] + '\\n' }}"
    "{%- if m['role'] == 'assistant' and loop.index0 > ns.last %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{{- m['content'] + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
# Phi 3: an end-of-sequence token behind the last message only.
PHI3 = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"
)
# Mistral: no generation prompt, a space before the answer, strict alternation.
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate.') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] | trim + eos_token }}{% endif %}{% endfor %}"
)
# DeepSeek R1: the generation prompt opens a block of reasoning that the history does not have.
DEEPSEEK = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}"
)
TEMPLATES = {
    "chatml": CHATML,
    "marked": MARKED,
    "wide marks": WIDE_MARKS,
    "qwen3": QWEN3,
    "phi3": PHI3,
    "mistral": MISTRAL,
    "fallback": None,
}
CORPUS = [
    "The quick brown fox jumps over the lazy dog. Hello there, how are you? I am fine, thank you.",
    "User: what is the capital?\nAssistant: The capital is Orim.\n\n[INST] and then [/INST]",
    "你好，首都是哪里？我不知道。",
] * 4
SPECIALS = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]


def byte_level(template: str | None = None) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, as GPT-2, Llama 3 and Qwen have."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIALS, initial_alphabet=alphabet)
    )
    return _wrapped(core, template)


def spaced(template: str | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer that puts a space before the first word, as those of Llama 2 and Mistral do."""
    core = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    core.pre_tokenizer = pre_tokenizers.Split(
        "▁", "merged_with_next"
    )  # no merges across words, as SentencePiece trains
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    core.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=500, special_tokens=[*SPECIALS, *fallback]))
    core.pre_tokenizer = None
    return _wrapped(core, template)


def _wrapped(core: Tokenizer, template: str | None) -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=SPECIALS[3:],
    )
    tokenizer.chat_template = template
    return tokenizer


KINDS = {"byte level": byte_level, "spaced": spaced}
