"""W2, the token world: a language so small that every response can be written down, so that expectations are exact.

The vocabulary is the end of a turn, the mark that ends a prompt, two prompts and some words: `a` is good, `b` is bad,
the others are neither. A response is up to `length` tokens, of which the end of the turn is the last one wherever it
stands. What it is worth: the number of good tokens less twice the number of bad ones (and `ease` by prompt).
"""

from dataclasses import dataclass
from itertools import product

import torch

from kilter.engine import Tree
from kilter.feedback.protocol import Signal
from kilter.records import Group, Message, Prompt
from worlds.llama import small_llama

END, MARK = "<end>", ":"
PROMPTS = ("x", "y")
WORDS = ("a", "b", "c", "d", "e", "f", "g", "h")
GOOD, BAD = "a", "b"
TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + ' ' + eos_token }}{% endgeneration %}{{ ' ' }}"
    "{% else %}{{ message['content'] + ' : ' }}{% endif %}{% endfor %}"
)


@dataclass
class Exact:
    """What a policy does with a prompt, exactly: means over all responses, in nats where they are log-probs."""

    reward: torch.Tensor
    entropy: torch.Tensor
    kl: torch.Tensor | None
    log_probs: torch.Tensor


class TokenWorld:
    """`words` words beside the four other tokens; responses of up to `length` tokens, the end among them.

    `ids` [N, length] are all responses, filled up with the end; `lengths` [N]; `rewards` [N], without `ease`.
    """

    def __init__(self, words=5, length=4, ease=(0.0, 0.0)):
        self.vocabulary = (END, MARK, *PROMPTS, *WORDS[:words])
        self.length, self.ease = length, dict(zip(PROMPTS, ease, strict=True))
        others = range(1, len(self.vocabulary))
        whole = [(*row, 0) for n in range(length) for row in product(others, repeat=n)]
        whole += list(product(others, repeat=length))
        self.lengths = torch.tensor([len(row) for row in whole])
        self.ids = torch.tensor([[*row, *[0] * (length - len(row))] for row in whole])
        good, bad = self.vocabulary.index(GOOD), self.vocabulary.index(BAD)
        self.rewards = (self.ids == good).sum(1).double() - 2 * (self.ids == bad).sum(1).double()

    def __len__(self):
        return len(self.ids)

    def prompt_ids(self, prompt):
        """Return the token ids of a prompt, "x" or "y"."""
        return [self.vocabulary.index(prompt), 1]

    def text(self, n):
        """Return response `n` as text, without the end of the turn."""
        return " ".join(self.vocabulary[i] for i in self.ids[n, : self.lengths[n]].tolist() if i)

    def ended(self, n):
        """Whether response `n` ends by itself, not by its length."""
        return int(self.ids[n, self.lengths[n] - 1]) == 0

    def reward(self, prompt, text):
        """Return what a response is worth as an answer to a prompt; both are texts."""
        said = text.split()
        return said.count(GOOD) - 2.0 * said.count(BAD) + self.ease[prompt]

    def tokenizer(self):
        """Return a transformers tokenizer of the language, with a chat template."""
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(self.vocabulary)}, unk_token=MARK))
        core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=END, pad_token=END)
        made.chat_template = TEMPLATE
        return made

    def model(self, seed=0, scale=1.0):
        """Return a llama of two layers of width 32, with fresh weights made `scale` times larger."""
        return small_llama(len(self.vocabulary), seed, scale)

    def save(self, folder, model=None, seed=0):
        """Save `model`, or a fresh one, as a checkpoint that `kilter train` takes, and return the folder."""
        (model or self.model(seed)).save_pretrained(folder)
        self.tokenizer().save_pretrained(folder)
        return folder

    def log_probs(self, model, prompt="x"):
        """Return [N]: the log-prob of every response to `prompt`, by the model's ordinary forward; differentiable."""
        head = torch.tensor(self.prompt_ids(prompt))
        rows = torch.cat((head.expand(len(self), -1), self.ids[:, :-1]), 1)
        logs = torch.log_softmax(model(rows).logits[:, len(head) - 1 :].double(), -1)
        tokens = logs.gather(2, self.ids[..., None])[..., 0]
        return (tokens * (torch.arange(self.length) < self.lengths[:, None])).sum(1)

    def exact(self, model, prompt="x", reference=None):
        """Return the expected reward, entropy and KL(pi || reference) of `model` on `prompt`; differentiable."""
        logs = self.log_probs(model, prompt)
        chance = logs.exp()
        kl = None
        if reference is not None:
            with torch.no_grad():
                held = self.log_probs(reference, prompt)
            kl = (chance * (logs - held)).sum()
        return Exact((chance * (self.rewards + self.ease[prompt])).sum(), -(chance * logs).sum(), kl, logs)

    def sample(self, model, count, prompt="x", seed=0):
        """Return the numbers [count] of responses drawn from `model`."""
        with torch.no_grad():
            chance = self.log_probs(model, prompt).exp()
        return torch.multinomial(chance, count, replacement=True, generator=torch.Generator().manual_seed(seed))

    def tree(self, numbers, prompt="x", **info):
        """Return a tree of the responses of these numbers; `info` as in `Tree.info` (order, pairs, labels)."""
        responses = [self.ids[n, : self.lengths[n]].tolist() for n in map(int, numbers)]
        return Tree(self.prompt_ids(prompt), responses, [[True] * len(row) for row in responses], info=info)

    def group(self, numbers, prompt="x", **known):
        """Return the record of these responses with their rewards as scores, or with what is given instead."""
        texts = [self.text(n) for n in map(int, numbers)]
        known = known or {"scores": [self.reward(prompt, text) for text in texts]}
        return Group([Message("user", prompt)], texts, **known)

    def prompts(self, copies=1):
        """Return the prompts as records."""
        return [Prompt([Message("user", prompt)], id=f"{prompt}{i}") for i in range(copies) for prompt in PROMPTS]


class Gold:
    """The world's truth as feedback: the reward of each response."""

    name = "gold"

    def __init__(self, world):
        self.world = world

    async def __call__(self, prompt, responses):
        asked = prompt.messages[-1].content
        return [Signal(score=self.world.reward(asked, response)) for response in responses]
