"""Where PyTorch calls what, while a model runs, and changes of those calls."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch

from parity.diagnosis.suspects import Call, Intercept, Thunk, backward_suspects, suspects


class Site(NamedTuple):
    """A call: the module that it is made in, the function, and its number there."""

    module: str
    function: str
    number: int


class Exchange(NamedTuple):
    """Two entries of the state_dict, each of which is used in the place of the other."""

    one: str
    two: str


class Change(NamedTuple):
    """What a suspect makes of the calls at `sites`, or of all calls of `function` where None.

    `variant` is its number among the suspects of one text; `backward` says that it is one of the
    backward suspects; `mode` is the one that it is made in, None for both; `make`, if there is one,
    gives the changed call in the place of a suspect. The weights `exchanged` are so while the model
    runs.
    """

    text: str
    function: str
    sites: frozenset[Site] | None = None
    variant: int = 0
    backward: bool = False
    mode: str | None = None
    make: Callable[[Call], Thunk | None] | None = None
    exchanged: tuple[Exchange, ...] = ()

    @property
    def cause(self) -> str:
        """What is told of it."""
        return self.text if self.mode is None else f"{self.text}, in {self.mode} mode alone"

    def of(self, call: Call) -> Thunk | None:
        """The changed call, or None where the suspect does not fit."""
        if self.make is not None:
            return self.make(call)
        listed = backward_suspects(call) if self.backward else suspects(call)
        alike = (thunk for text, thunk in listed if text == self.text)
        for number, thunk in enumerate(alike):
            if number == self.variant:
                return thunk
        return None


_active: ContextVar[tuple[Change, ...]] = ContextVar("changes", default=())
_watches: ContextVar[list["Watch"] | None] = ContextVar("watches", default=None)
_listener: ContextVar[Callable[[Site, Call], None] | None] = ContextVar("listener", default=None)


@contextlib.contextmanager
def applied(changes: Sequence[Change]) -> Iterator[None]:
    """PyTorch models that are called inside make these changes too."""
    token = _active.set((*_active.get(), *changes))
    try:
        yield
    finally:
        _active.reset(token)


@contextlib.contextmanager
def observed(listener: Callable[[Site, Call], None] | None = None) -> Iterator[list["Watch"]]:
    """The `Watch` of every call of a model inside; `listener` is told of each call of PyTorch's.

    Within another the listener is that one's by default.
    """
    watches: list[Watch] = []
    first, second = _watches.set(watches), _listener.set(listener or _listener.get())
    try:
        yield watches
    finally:
        _watches.reset(first)
        _listener.reset(second)


def watching(module: torch.nn.Module) -> contextlib.AbstractContextManager[Any]:
    """What a model is called within (`parity.pairs.case.around`), so that the two above work."""
    watches = _watches.get()
    if watches is None and not _active.get():
        return contextlib.nullcontext()
    watch = Watch(module, _active.get(), _listener.get())
    if watches is not None:
        watches.append(watch)
    return watch


class Watch(Intercept):
    """Notes the site of every known call, in order, and makes the changes."""

    def __init__(
        self,
        module: torch.nn.Module,
        changes: Sequence[Change],
        listener: Callable[[Site, Call], None] | None,
    ):
        super().__init__(change=self._changed)
        self.sites: list[Site] = []
        self._root, self._changes, self._listener = module, changes, listener
        self._exchanged = [pair for change in changes for pair in change.exchanged]
        self._stack: list[str] = []
        self._counts: dict[tuple[str, str], int] = {}
        self._handles: list[Any] = []
        self.on_call = self._note

    def __enter__(self) -> Any:
        for name, child in self._root.named_modules():
            self._handles.append(child.register_forward_pre_hook(self._entering(name)))
            self._handles.append(child.register_forward_hook(self._leaving, always_call=True))
        for pair in self._exchanged:
            _exchange(self._root, pair)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        for handle in self._handles:
            handle.remove()
        for pair in reversed(self._exchanged):
            _exchange(self._root, pair)
        # Its own methods, by which it would keep itself and the model until the next collection.
        self.change, self.on_call = None, lambda index, call: None
        super().__exit__(*error)

    def _entering(self, name: str) -> Callable[..., None]:
        def hook(_module: Any, _inputs: Any) -> None:
            self._stack.append(name)

        return hook

    def _leaving(self, _module: Any, _inputs: Any, _output: Any) -> None:
        if self._stack:
            self._stack.pop()

    def _note(self, _index: int, call: Call) -> None:
        place = (self._stack[-1] if self._stack else "", call.name)
        number = self._counts.get(place, 0)
        self._counts[place] = number + 1
        self.sites.append(Site(*place, number))
        if self._listener is not None:
            self._listener(self.sites[-1], call)

    def wanted(self, index: int) -> bool:
        """Whether a change is for the call that was noted last."""
        del index
        return any(self._is_for(change, self.sites[-1]) for change in self._changes)

    def _is_for(self, change: Change, site: Site) -> bool:
        if change.mode is not None and self._root.training is not (change.mode == "train"):
            return False
        return site.function == change.function if change.sites is None else site in change.sites

    def _changed(self, call: Call) -> Any:
        """The call with all of its changes: those that change it, then one that replaces it."""
        wanted = [change for change in self._changes if self._is_for(change, self.sites[-1])]
        replacing = []
        for change in wanted:
            found = change.of(call)
            inner = getattr(found, "call", None)
            if inner is not None:
                call = inner
            elif found is not None:
                replacing.append(change)
        for change in replacing:
            found = change.of(call)
            if found is not None:
                return found()
        return call.plain()


def _exchange(root: torch.nn.Module, pair: Exchange) -> None:
    """Each of the two, a parameter or a buffer, in the other's place."""
    places = []
    for name in pair:
        module, _, leaf = name.rpartition(".")
        owner = root.get_submodule(module)
        places.append((owner._parameters if leaf in owner._parameters else owner._buffers, leaf))
    (first, one), (second, two) = places
    first[one], second[two] = second[two], first[one]
