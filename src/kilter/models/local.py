"""A checkpoint on this machine. Whatever is asked of it at the same time is sampled, or scored, in one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch

from kilter.engine.batch import Tree, collate, fill
from kilter.engine.sampler import Completion, sample
from kilter.engine.template import Dropped, cut_left, end_ids, prompt_ids, trees
from kilter.engine.virtual import room
from kilter.engine.weigher import Pair, Weigher, Weight
from kilter.errors import KilterError, SetAside
from kilter.models import plain
from kilter.models.gather import Gatherer, Request
from kilter.models.load import folders, load_weights
from kilter.models.protocol import Answer, Sampling, Usage
from kilter.records import Group, Message, identify

ROWS = 256  # sequences that grow at a time
SCORED_TOKENS = 16384  # tokens that are scored in one forward


class _Ask(NamedTuple):
    messages: tuple[Message, ...] | str  # a conversation, or plain text to go on from
    sampling: Sampling


class _Fitting(NamedTuple):
    """A request, the ids of its prompt, and whether it lost some to fit."""

    request: Request[_Ask]
    prompt: list[int]
    cut: bool


class _Score(NamedTuple):
    messages: tuple[Message, ...]
    response: str


class _Weigh(NamedTuple):
    pairs: tuple[tuple[str, str | None], ...]  # without a continuation: a whole text
    progress: Callable[[int], None]


Asks = list[Request[_Ask]]
Scores = list[Request[_Score]]
Check = Callable[[], None]


class Local:
    """A causal language model in this process. `usage` counts what it has computed, prompts and answers."""

    def __init__(self, name: str, *, dtype: torch.dtype | None = None, device: str | None = None) -> None:
        """Load the weights called `name` (see load.py); on a GPU where there is one, there in bfloat16 by default.

        Raises KilterError where they cannot be had.
        """
        self.name = name
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        kind = dtype or (torch.bfloat16 if self.device.type == "cuda" else torch.float32)
        model, self.tokenizer = load_weights(name, kind)
        self.dtype = model.dtype
        self.model: Any = model.to(self.device).eval()  # type: ignore[arg-type]
        self.positions = room(model)
        self.ends = end_ids(self.tokenizer) | generation_ends(model)
        self.usage = Usage()
        self._scorer: Weigher | None = None
        self._gatherer = Gatherer(self._work, name)

    @property
    def tokens(self) -> int:
        """Tokens computed so far."""
        return self.usage.tokens

    async def identity(self) -> str:
        """Return a text that is another for other weights: where the files are, their sizes and dates, the precision.

        Reading the weights for a hash would take longer than many a question.
        """
        own = [folder.resolve() for name in self.folder_names() for folder in folders(name)]
        files = [file for folder in own for file in sorted(folder.iterdir()) if file.is_file()]
        told = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
        return f"{own[0]} {identify(told)} {self.dtype}"

    def folder_names(self) -> list[str]:
        """Return the names of the checkpoints whose files the identity is made of."""
        return [self.name]

    async def ask(self, messages: Sequence[Message], sampling: Sampling) -> list[Answer]:
        """Return `sampling.n` answers. Equal conversations with equal sampling get equal answers.

        A prompt that leaves no room for max_tokens (or half of the model's positions) is cut from the left.
        """
        found: list[Answer] = await self._gatherer.ask(_Ask(tuple(messages), sampling))
        return found

    async def score(self, messages: Sequence[Message], response: str) -> list[float]:
        """Return the log-prob (nats) of each token of `response`, with the one that ends the turn.

        Raises KilterError for a response that is longer than the model has positions for.
        """
        found: list[float] = await self._gatherer.ask(_Score(tuple(messages), response))
        return found

    async def complete(self, text: str, sampling: Sampling) -> list[Answer]:
        """Return `sampling.n` continuations of plain text, without a chat template, spaces and all.

        A text that leaves no room for max_tokens is cut from the left; where these are more than the model's positions,
        to half of them.
        """
        found: list[Answer] = await self._gatherer.ask(_Ask(text, sampling))
        return found

    async def weigh(
        self, pairs: Sequence[tuple[str, str | None]], *, progress: Callable[[int], None] = lambda done: None
    ) -> list[Weight | SetAside]:
        """Return how likely each continuation is after its context, both plain text, or why that cannot be told.

        A text without continuation (None) is weighed as a whole, in windows where it is longer than the model. The
        context may be empty, and is cut from the left where it is too long. `progress` is told, in another thread, how
        many pairs are done. Give as many pairs at once as there are: what they begin with alike is computed once.
        """
        found: list[Weight | SetAside] = await self._gatherer.ask(_Weigh(tuple(pairs), progress))
        return found

    def _work(self, batch: Sequence[Request[Any]], check: Check) -> None:
        """Do what `batch` asks for, in the gatherer's thread. What goes wrong with some leaves the others alone."""
        # In an order of their own, for requests may come in any.
        asks = sorted((r for r in batch if isinstance(r.item, _Ask)), key=lambda r: (_manner(r), _key(r)))
        for _, same in groupby(asks, key=_manner):
            _try(self._ask, list(same), check)
        _try(self._score, [r for r in batch if isinstance(r.item, _Score)], check)
        for request in batch:
            if isinstance(request.item, _Weigh):
                _try(self._weigh, [request], check)

    def _ask(self, asks: Asks, check: Check) -> None:
        """Sample for requests that differ in conversation, max_tokens and seed only."""
        fitting = self._prompts(asks)
        if not fitting:
            return
        asks, prompts = [one.request for one in fitting], [one.prompt for one in fitting]
        manner = asks[0].item.sampling

        def ready(at: int, completions: list[Completion]) -> None:
            self.usage.requests += 1
            self.usage.prompt_tokens += len(prompts[at])
            self.usage.cut += fitting[at].cut
            self.usage.completion_tokens += sum(len(completion.tokens) for completion in completions)
            asks[at].settle(self._answers(completions, manner.stop, plain=isinstance(asks[at].item.messages, str)))

        self._sample(
            prompts,
            asks,
            n=manner.n,
            max_tokens=[ask.item.sampling.max_tokens for ask in asks],
            temperature=manner.temperature,
            top_p=manner.top_p,
            top_k=manner.top_k,
            min_p=manner.min_p,
            stop_ids=self.ends,
            stop=self._stopper(manner.stop) if manner.stop else None,
            keys=[_key(ask) for ask in asks],
            batch_size=ROWS,
            progress=lambda *_: check(),
            ready=ready,
        )

    def _sample(self, prompts: Sequence[Sequence[int]], asks: Asks, **how: Any) -> None:
        """Sample completions of `prompts`, which belong to `asks`, and tell how["ready"] of each prompt's."""
        sample(self.model, prompts, **how)

    def _prompts(self, asks: Asks) -> list[_Fitting]:
        """Return the requests with their prompts' ids, but for those that the chat template refuses."""
        rooms = [max(self.positions - ask.item.sampling.max_tokens, self.positions // 2) for ask in asks]
        if isinstance(asks[0].item.messages, str):
            # As the harness cuts it, so that texts compare.
            wanted = [ask.item.sampling.max_tokens for ask in asks]
            rooms = [self.positions - n if n < self.positions else self.positions // 2 for n in wanted]
            rows = plain.ids(self.tokenizer, [str(ask.item.messages) for ask in asks])
            rows = [row or [plain.beginning(self.tokenizer)] for row in rows]
            return [
                _Fitting(ask, row[-room:], len(row) > room) for ask, row, room in zip(asks, rows, rooms, strict=True)
            ]
        prompts: list[Any] = [ask.item.messages for ask in asks]
        try:
            found = zip(asks, prompt_ids(self.tokenizer, prompts), rooms, strict=True)
            return [_Fitting(ask, cut_left(self.tokenizer, ids, room), len(ids) > room) for ask, ids, room in found]
        except KilterError as error:
            if len(asks) > 1:
                return [one for ask in asks for one in self._prompts([ask])]
            asks[0].settle(error=SetAside(str(error), "refused"))
            return []

    def _answers(self, completions: Sequence[Completion], stop: Sequence[str], *, plain: bool = False) -> list[Answer]:
        bodies = [c.tokens[: -1 if c.tokens[-1] in self.ends else None] for c in completions]
        texts = self.tokenizer.batch_decode(bodies, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        answers = []
        for completion, text in zip(completions, texts, strict=True):
            at = min((text.find(end) for end in stop if end in text), default=len(text))
            text = text[:at] if plain else text[:at].strip()
            length = len(completion.tokens)
            answers.append(Answer(text, length, completion.logprobs, completion.finish_reason, self.name))
        return answers

    def _stopper(self, stop: Sequence[str]) -> Callable[[list[int]], bool]:
        # A character is at most four tokens of a byte-level vocabulary.
        window = 4 * max(map(len, stop)) + 4

        def reached(tokens: list[int]) -> bool:
            text = self.tokenizer.decode(tokens[-window:], clean_up_tokenization_spaces=False)
            return any(end in text for end in stop)

        return reached

    def _score(self, scores: Scores, check: Check) -> None:
        """Score responses; those to one conversation share its computation."""
        by_prompt: dict[tuple[Message, ...], Scores] = {}
        for score in scores:
            by_prompt.setdefault(score.item.messages, []).append(score)
        wanted = [found for same in by_prompt.values() if (found := self._tree(same)) is not None]
        for batch in fill([len(tree) for tree, _ in wanted], SCORED_TOKENS):
            check()
            self._score_batch([wanted[i] for i in batch])

    def _tree(self, scores: Scores) -> tuple[Tree, Scores] | None:
        """Return the tree of responses to one conversation, and the requests that it answers."""
        dropped = Dropped()
        group = Group(list(scores[0].item.messages), [score.item.response for score in scores], id="-")
        try:
            [tree] = trees(self.tokenizer, [group], max_length=self.positions, dropped=dropped)
        except KilterError as error:
            for score in scores:
                score.settle(error=SetAside(str(error), "refused"))
            return None
        self.usage.cut += dropped.cut
        kept = tree.info["kept"] if tree else []
        for k, score in enumerate(scores):
            if k not in kept:
                why = f"A response cannot be scored by {self.name}: {dropped}; leave it out."
                score.settle(error=SetAside(why, "refused"))
        return (tree, [scores[k] for k in kept]) if tree else None

    def _weigh(self, requests: list[Request[_Weigh]], check: Check) -> None:
        """Weigh the pairs of the one request that is given."""
        [request] = requests
        texts, tell = request.item
        whole = [i for i, (_, continuation) in enumerate(texts) if continuation is None]
        apart = [i for i, (_, continuation) in enumerate(texts) if continuation is not None]
        found: list[Weight | SetAside] = [Weight(0.0, True, 0) for _ in texts]
        wanted: list[Pair] = []
        owner: list[int] = []
        for i in whole:
            some = plain.windows(self.tokenizer, texts[i][0], self.positions)
            wanted, owner = wanted + some, owner + [i] * len(some)
        encoded, cut = plain.encode(self.tokenizer, [(texts[i][0], texts[i][1] or "") for i in apart], self.positions)
        self.usage.cut += cut
        for i, pair in zip(apart, encoded, strict=True):
            if isinstance(pair, SetAside):
                found[i] = pair
            else:
                wanted.append(pair)
                owner.append(i)

        def due(tokens: int) -> None:
            check()
            self.usage.prompt_tokens += tokens

        for done, (at, weight) in enumerate(self._weigher().weigh(wanted, progress=due), 1):
            before = found[owner[at]]
            assert isinstance(before, Weight)
            found[owner[at]] = Weight(
                before.logprob + weight.logprob, before.greedy and weight.greedy, before.tokens + weight.tokens
            )
            tell(done)
        self.usage.requests += len(texts)
        request.settle(found)

    def _weigher(self) -> Weigher:
        if self._scorer is None:
            self._scorer = Weigher(self.model)
        return self._scorer

    @torch.no_grad()
    def _score_batch(self, batch: Sequence[tuple[Tree, Scores]]) -> None:
        ragged = collate([tree for tree, _ in batch]).to(self.device)
        logprobs = iter(self._weigher()(ragged).tokens.float().tolist())
        self.usage.prompt_tokens += len(ragged.tokens)
        scores = (score for _, some in batch for score in some)
        for score, length in zip(scores, ragged.lengths.tolist(), strict=True):
            score.settle([next(logprobs) for _ in range(length)])


def _try(work: Callable[[list[Any], Check], None], requests: list[Any], check: Check) -> None:
    try:
        if requests:
            work(requests, check)
    except Exception as error:
        for request in requests:
            request.settle(error=error)


def _manner(ask: Request[_Ask]) -> tuple[Any, ...]:
    """What requests have to have in common to be sampled together."""
    s = ask.item.sampling
    return isinstance(ask.item.messages, str), s.temperature, s.top_p, s.top_k, s.min_p, s.n, s.stop


def _key(ask: Request[_Ask]) -> int:
    """Return what the noise of a request depends on, its conversation and its seed, as a number."""
    asked = ask.item.messages
    told = asked if isinstance(asked, str) else [message.to_json() for message in asked]
    return int(identify(told, ask.item.sampling.seed), 16)


def generation_ends(model: Any) -> set[int]:
    """Return the end-of-sequence ids that a checkpoint's generation_config.json names: none, one or a list."""
    ids = getattr(model.generation_config, "eos_token_id", None)
    return set(ids if isinstance(ids, Iterable) else [ids]) - {None}
