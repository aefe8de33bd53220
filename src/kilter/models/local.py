"""A checkpoint on this machine. Whatever is asked of it at the same time is sampled, or scored, in one batch.

Code above asks for one item at a time. What stands in line when the event loop has nothing else to do goes to a thread
that works on the model, so that the loop stays alive; what is asked meanwhile forms the next batch. Batches form by
what is asked, never by the clock, so that a run that is repeated computes the same.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch

from kilter.engine.batch import Tree, collate, fill
from kilter.engine.sampler import Completion, sample
from kilter.engine.scorer import Scorer
from kilter.engine.template import Dropped, end_ids, prompt_ids, trees
from kilter.errors import KilterError
from kilter.models.load import load_weights
from kilter.models.protocol import Answer, Sampling
from kilter.records import Group, Message, identify

ROWS = 256  # sequences that grow at a time
SCORED_TOKENS = 16384  # tokens that are scored in one forward
QUIET = 16  # turns of the event loop without a new request after which nothing more is expected


@dataclass(slots=True)
class _Ask:
    messages: Sequence[Message]
    sampling: Sampling
    answer: asyncio.Future[Any]


@dataclass(slots=True)
class _Score:
    messages: Sequence[Message]
    response: str
    answer: asyncio.Future[Any]


_Request = _Ask | _Score
_Outcome = tuple[_Request, Any, BaseException | None]


class Local:
    """A causal language model in this process. `tokens` counts what it has computed, prompts and answers."""

    def __init__(self, name: str, *, dtype: torch.dtype | None = None, device: str | None = None) -> None:
        """Load the weights called `name` (see load.py); on a GPU where there is one, there in bfloat16 by default.

        Raises KilterError where they cannot be had.
        """
        self.name = name
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        kind = dtype or (torch.bfloat16 if self.device.type == "cuda" else torch.float32)
        model, self.tokenizer = load_weights(name, kind)
        self.model: Any = model.to(self.device).eval()  # type: ignore[arg-type]
        self.positions: int = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2**31
        self.ends = end_ids(self.tokenizer) | _ids(model.generation_config)
        self.tokens = 0
        self._scorer: Scorer | None = None
        self._queues: dict[asyncio.AbstractEventLoop, list[_Request]] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def ask(self, messages: Sequence[Message], sampling: Sampling) -> list[Answer]:
        """Return `sampling.n` answers. Equal conversations with equal sampling get equal answers.

        A prompt that leaves no room for max_tokens (or half of the model's positions) is cut from the left.
        """
        return await self._answered(_Ask(messages, sampling, asyncio.get_running_loop().create_future()))

    async def score(self, messages: Sequence[Message], response: str) -> list[float]:
        """Return the log-prob (nats) of each token of `response`, with the one that ends the turn.

        Raises KilterError for a response that is empty or longer than the model has positions for.
        """
        return await self._answered(_Score(messages, response, asyncio.get_running_loop().create_future()))

    async def _answered(self, request: _Request) -> Any:
        loop = asyncio.get_running_loop()
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues[loop] = []
            task = loop.create_task(self._serve(queue))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        queue.append(request)
        return await request.answer

    async def _serve(self, queue: list[_Request]) -> None:
        """Work off `queue` until nobody asks any more."""
        loop = asyncio.get_running_loop()
        cancelled = threading.Event()
        batch: list[_Request] = []
        try:
            while True:
                quiet = 0
                while quiet < QUIET:
                    before = len(queue)
                    await asyncio.sleep(0)
                    quiet = quiet + 1 if len(queue) == before else 0
                if not queue:
                    return
                batch, queue[:] = list(queue), []
                outcomes = await loop.run_in_executor(self._thread, self._work, batch, cancelled)
                for request, value, error in outcomes:
                    if not request.answer.done():
                        request.answer.set_exception(error) if error else request.answer.set_result(value)
        except BaseException as error:
            cancelled.set()
            for request in (*batch, *queue):
                if not request.answer.done():
                    request.answer.set_exception(error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._queues.pop(loop, None)

    def _work(self, batch: Sequence[_Request], cancelled: threading.Event) -> list[_Outcome]:
        """Do what `batch` asks for, in the thread."""
        if cancelled.is_set():
            return []
        asks = [request for request in batch if isinstance(request, _Ask)]
        scores = [request for request in batch if isinstance(request, _Score)]
        outcomes: list[_Outcome] = []
        for _, same in groupby(sorted(asks, key=_manner), key=_manner):
            outcomes += _tried(self._ask, list(same), cancelled)
        return outcomes + _tried(self._score, scores, cancelled)

    def _ask(self, asks: list[_Ask], cancelled: threading.Event) -> list[_Outcome]:
        """Sample for requests that differ in conversation, max_tokens and seed only."""
        prompts, refused = self._prompts(asks)
        asks = [ask for ask in asks if id(ask) in prompts]
        if not asks:
            return refused
        manner = asks[0].sampling
        found = sample(
            self.model,
            [prompts[id(ask)] for ask in asks],
            n=manner.n,
            max_tokens=[ask.sampling.max_tokens for ask in asks],
            temperature=manner.temperature,
            top_p=manner.top_p,
            top_k=manner.top_k,
            min_p=manner.min_p,
            stop_ids=self.ends,
            stop=self._stopper(manner.stop) if manner.stop else None,
            keys=[int(identify([m.to_json() for m in ask.messages], ask.sampling.seed), 16) for ask in asks],
            batch_size=ROWS,
            progress=lambda *_: _raise_if(cancelled),
        )
        self.tokens += sum(map(len, prompts.values())) + sum(len(c.tokens) for row in found for c in row)
        texts = iter(self._texts([completion for row in found for completion in row], manner.stop))
        return [(ask, [next(texts) for _ in row], None) for ask, row in zip(asks, found, strict=True)] + refused

    def _prompts(self, asks: Sequence[_Ask]) -> tuple[dict[int, list[int]], list[_Outcome]]:
        """Return the prompt of each request, by its id(), and the requests that the chat template refuses."""
        rooms = [max(self.positions - ask.sampling.max_tokens, self.positions // 2) for ask in asks]
        try:
            whole = prompt_ids(self.tokenizer, [ask.messages for ask in asks], max_length=rooms)
            return {id(ask): ids for ask, ids in zip(asks, whole, strict=True)}, []
        except KilterError as error:
            if len(asks) == 1:
                return {}, [(asks[0], None, error)]
        found: dict[int, list[int]] = {}
        refused: list[_Outcome] = []
        for ask in asks:
            one, failed = self._prompts([ask])
            found |= one
            refused += failed
        return found, refused

    def _texts(self, completions: Sequence[Completion], stop: Sequence[str]) -> list[Answer]:
        bodies = [c.tokens[: -1 if c.tokens[-1] in self.ends else None] for c in completions]
        texts = self.tokenizer.batch_decode(bodies, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        answers = []
        for completion, text in zip(completions, texts, strict=True):
            at = min((text.find(end) for end in stop if end in text), default=len(text))
            length = len(completion.tokens)
            answers.append(Answer(text[:at].strip(), length, completion.logprobs, completion.finish_reason))
        return answers

    def _stopper(self, stop: Sequence[str]) -> Callable[[list[int]], bool]:
        # A character is at most four tokens of a byte-level vocabulary.
        window = 4 * max(map(len, stop)) + 4

        def reached(tokens: list[int]) -> bool:
            text = self.tokenizer.decode(tokens[-window:], clean_up_tokenization_spaces=False)
            return any(end in text for end in stop)

        return reached

    def _score(self, scores: Sequence[_Score], cancelled: threading.Event) -> list[_Outcome]:
        """Score responses; those to one conversation share its computation."""
        by_prompt: dict[tuple[Message, ...], list[_Score]] = {}
        for score in scores:
            by_prompt.setdefault(tuple(score.messages), []).append(score)
        outcomes: list[_Outcome] = []
        wanted: list[tuple[Tree, list[_Score]]] = []
        for messages, requests in by_prompt.items():
            kept, refused = self._tree(list(messages), requests)
            wanted += kept
            outcomes += refused
        for batch in fill([len(tree) for tree, _ in wanted], SCORED_TOKENS):
            _raise_if(cancelled)
            outcomes += self._scored([wanted[i] for i in batch])
        return outcomes

    def _tree(
        self, messages: list[Message], requests: list[_Score]
    ) -> tuple[list[tuple[Tree, list[_Score]]], list[_Outcome]]:
        dropped = Dropped()
        group = Group(messages, [request.response for request in requests], id="-")
        try:
            [tree] = trees(self.tokenizer, [group], max_length=self.positions, dropped=dropped)
        except KilterError as error:
            return [], [(request, None, error) for request in requests]
        kept = tree.info["kept"] if tree else []
        why = KilterError(f"A response cannot be scored by {self.name}: {dropped}; leave it out or shorten it.")
        refused: list[_Outcome] = [(r, None, why) for k, r in enumerate(requests) if k not in kept]
        return ([(tree, [requests[k] for k in kept])] if tree else []), refused

    @torch.no_grad()
    def _scored(self, batch: Sequence[tuple[Tree, list[_Score]]]) -> list[_Outcome]:
        if self._scorer is None:
            self._scorer = Scorer(self.model)
        ragged = collate([tree for tree, _ in batch]).to(self.device)
        logprobs = self._scorer(ragged).tokens.float().tolist()
        self.tokens += len(ragged.tokens)
        outcomes: list[_Outcome] = []
        at = 0
        requests = (request for _, some in batch for request in some)
        for request, length in zip(requests, ragged.lengths.tolist(), strict=True):
            outcomes.append((request, logprobs[at : at + length], None))
            at += length
        return outcomes


def _tried(work: Callable[..., list[_Outcome]], some: list[Any], cancelled: threading.Event) -> list[_Outcome]:
    """What goes wrong with some requests is told to those, and leaves the others alone."""
    try:
        return work(some, cancelled)
    except Exception as error:
        return [(request, None, error) for request in some]


def _manner(ask: _Ask) -> tuple[Any, ...]:
    """What requests have to have in common to be sampled together."""
    s = ask.sampling
    return s.temperature, s.top_p, s.top_k, s.min_p, s.n, s.stop


def _raise_if(cancelled: threading.Event) -> None:
    if cancelled.is_set():
        raise asyncio.CancelledError


def _ids(generation_config: Any) -> set[int]:
    """Return the end-of-sequence ids that a checkpoint's generation_config.json names: none, one or a list."""
    ids = getattr(generation_config, "eos_token_id", None)
    return set(ids if isinstance(ids, Iterable) else [ids]) - {None}
