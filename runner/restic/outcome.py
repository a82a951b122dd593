"""What one restic command did: its end, and what of its output matters. Memory is bounded."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from runner.restic import backend
from runner.restic.exits import Exit
from runner.restic.messages import (
    LONGEST_LINE_BYTES,
    Changed,
    ExitError,
    Initialized,
    ItemError,
    LineSplitter,
    Message,
    Summary,
    Text,
    parse_line,
)
from runner.restic.process import Ending, Stop

TAIL_LINES = 25
TAIL_CHARACTERS = 500
ITEMS = 20
_CUT_BYTES = LONGEST_LINE_BYTES // 2
"""Of a line that was cut only this much is looked at: a secret may have been cut with it."""
DOCUMENT_BYTES = 64 << 20
"""About 30,000 snapshots in the output of `forget`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`items` are the first files with an error, `item_count` counts all such errors.

    `backend_error` is the last error of a request that restic retries. `outage` is the first read
    that it gave up where nothing shows a loss: the backend refused it, or was not reached.
    `damage` is the first line by which `check` proves that something is lost.
    """

    exit: Exit
    code: int
    stop: Stop = Stop.NO
    killed: bool = False
    summary: Summary | None = None
    error: str = ""
    items: tuple[ItemError, ...] = ()
    item_count: int = 0
    tail: tuple[str, ...] = ()
    backend_error: str = ""
    outage: str = ""
    damage: str = ""
    initialized_id: str = ""
    changed: tuple[Changed, ...] = ()
    document: bytes = b""

    @property
    def succeeded(self) -> bool:
        """Tell whether restic ended by itself with 0."""
        return self.exit is Exit.OK and self.stop is Stop.NO

    def last_words(self) -> str:
        """Return the best explanation at hand, on one line."""
        parts = []
        if self.stop is not Stop.PATIENCE and self.error:
            parts.append(self.error)
        cause = self.outage or self.backend_error
        if cause and cause not in parts:
            parts.append(cause)
        text = "; ".join(parts) or "; ".join(self.tail[-3:]) or "restic printed nothing"
        return " ".join(text.split())


class Collector:
    """Takes a command's output in chunks and keeps what `Outcome` shows.

    Texts are redacted before they are cut: half a secret would not be recognised any more.
    """

    def __init__(
        self,
        on_message: Callable[[Message], None],
        *,
        redact: Callable[[str], str],
        keep_document: bool,
    ) -> None:
        self._on_message = on_message
        self._redact = redact
        self._keep_document = keep_document
        self._stdout = LineSplitter()
        self._stderr = LineSplitter()
        self._document = bytearray()
        self._overflow = False
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._items: list[ItemError] = []
        self._item_count = 0
        self._summary: Summary | None = None
        self._error = ""
        self._initialized = ""
        self._changed: list[Changed] = []
        self._outage = ""
        self._loss = ""
        self._lost_pack = ""
        self._is_unlisted = False
        self.backend_error = ""
        self.spoke = False
        """Something came on stdout: the repository is open."""

    def stdout(self, chunk: bytes) -> None:
        """Take what restic wrote to stdout."""
        self.spoke = True
        if self._keep_document:
            self._overflow |= len(self._document) + len(chunk) > DOCUMENT_BYTES
            if not self._overflow:
                self._document += chunk
        else:
            for line in self._stdout.feed(chunk):
                self._take(line)

    def stderr(self, chunk: bytes) -> None:
        """Take what restic wrote to stderr."""
        for line in self._stderr.feed(chunk):
            self._take(line)

    def outcome(self, ending: Ending) -> Outcome:
        """Return the whole after the end."""
        for splitter in (self._stdout, self._stderr):
            for line in splitter.finish():
                self._take(line)
        if self._overflow:
            self._tail.append(f"restic's output is longer than {DOCUMENT_BYTES} bytes")
        return Outcome(
            exit=Exit.of(ending.code) if not self._overflow else Exit.UNKNOWN,
            code=ending.code,
            stop=ending.stop,
            killed=ending.killed,
            summary=self._summary,
            error=self._error,
            items=tuple(self._items),
            item_count=self._item_count,
            tail=tuple(self._tail),
            backend_error=self.backend_error,
            outage=self._outage,
            damage=("" if self._is_unlisted else self._lost_pack) or self._loss,
            initialized_id=self._initialized,
            changed=tuple(self._changed),
            document=bytes(self._document),
        )

    def _take(self, line: bytes) -> None:
        message = parse_line(line if len(line) < LONGEST_LINE_BYTES else line[:_CUT_BYTES])
        match message:
            case Summary():
                self._summary = message
            case ItemError():
                self._item_error(message)
            case ExitError():
                self._error = message.message
            case Initialized():
                self._initialized = message.id
            case Changed():
                self._changed.append(message)
            case Text() if message.text.strip():
                text = self._redact(message.text)
                self._tail.append(text[:TAIL_CHARACTERS])
                self._backend(text)
        self._on_message(message)

    def _backend(self, text: str) -> None:
        shown = text[:TAIL_CHARACTERS]
        if retried := backend.retried(text):
            self.backend_error = retried[:TAIL_CHARACTERS]
        elif backend.is_outage(text):
            self._outage = self._outage or shown
            self._is_unlisted = self._is_unlisted or backend.is_unlisted(text)
        elif backend.is_lost_pack(text):
            self._lost_pack = self._lost_pack or shown
        elif backend.is_loss(text):
            self._loss = self._loss or shown

    def _item_error(self, error: ItemError) -> None:
        # A folder that cannot be listed is reported by the scan and again by the backup itself.
        if any(known.item == error.item for known in self._items):
            return
        self._item_count += 1
        if len(self._items) < ITEMS:
            self._items.append(error)
