"""W5, the edit world: short texts over ten words, an answer to each of which some words are wrong.

The right answer says the words of the prompt in their order; the source has up to `most` of them replaced by a wrong
word, left out, or followed by one too many.
"""

import random

from kilter.records import Group, Message, Prompt
from kilter.training.second_thoughts import PROMPTS
from worlds.llama import small_llama

WORDS = ("ash", "bay", "cob", "dew", "elm", "fir", "gum", "hay", "ivy", "jam")
END, TURN = "<end>", "<turn>"
MARKS = ("<keep>", "<replace>", "<by>", "<delete>", "<insert>", "<answer>")
TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<turn>' }}{% endif %}{% endfor %}"
)


class EditWorld:
    """Pairs of a right answer and one that few edits away is wrong, by a seed."""

    def __init__(self, length=4, most=2, words=10):
        self.length, self.most, self.words = length, most, WORDS[:words]

    def pair(self, draw):
        """Return (target, source)."""
        target = [draw.choice(self.words) for _ in range(self.length)]
        source = list(target)
        for _ in range(draw.randint(1, self.most)):
            at = draw.randrange(len(source))
            kind = draw.choice(("replace", "delete", "insert")) if len(source) > 1 else "replace"
            if kind == "delete":
                del source[at]
            else:
                source[at : at + (kind == "replace")] = [draw.choice(self.words)]
        return " ".join(target), " ".join(source)

    def group(self, draw):
        """Return the record: asked to say the words, the right and the wrong answer."""
        target, source = self.pair(draw)
        return Group([Message("user", f"say {target}")], [target, source], ranking=[0, 1])

    def groups(self, count, seed=0):
        draw = random.Random(f"edits {seed}")
        found = (self.group(draw) for _ in range(10 * count))
        return [group for group in found if group.responses[0] != group.responses[1]][:count]

    def asked(self, groups):
        """Return the prompts by which a model edits the wrong answers of `groups`; meta has both answers."""
        found = []
        for group in groups:
            target, source = group.responses
            edit = list(PROMPTS("edit", conversation=group.prompt, draft=source))
            found.append(Prompt(edit, id=group.id, meta={"target": target, "source": source}))
        return found

    @property
    def vocabulary(self):
        """A word is another token behind a space, so that texts come back to the letter."""
        return (END, TURN, "say", *MARKS, *self.words, *(f" {word}" for word in self.words))

    def tokenizer(self):
        """Return a transformers tokenizer of the language, to which being asked to edit is one token."""
        from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(self.vocabulary)}, unk_token=TURN))
        core.pre_tokenizer = pre_tokenizers.Split(Regex(r"<[a-z]+>| ?[^ <]+"), "isolated")
        core.decoder = decoders.Fuse()
        made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=END, pad_token=END)
        *_, edit = PROMPTS("edit", conversation=[], draft="")
        made.add_tokens([AddedToken(edit.content, normalized=False)])
        made.chat_template = TEMPLATE
        return made

    def save(self, folder, seed=0, scale=2.0):
        """Save a fresh llama of two layers of width 32, its weights made `scale` times larger; return the folder."""
        made = small_llama(len(self.vocabulary) + 1, seed, scale, heads=4, positions=64)
        made.save_pretrained(folder)
        self.tokenizer().save_pretrained(folder)
        return folder
