"""Report the progress of the hub's client through a callback."""

from typing import Any

from tagmask.clip.download import Progress

__all__ = ["silent_bar"]


def silent_bar(name: str, progress: Progress | None) -> Any:  # noqa: ANN401 - the client expects tqdm's type
    """Return a class with tqdm's interface that draws nothing and reports bytes to `progress`."""

    class Bar:
        format_dict: dict[str, object] = {}  # noqa: RUF012 - read by the client, never changed

        def __init__(self, *_: object, total: int | None = None, initial: int = 0, **__: object) -> None:
            self.n, self.total = initial, total

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_: object) -> None:
            self.close()

        def update(self, n: int | float | None = 1) -> None:
            self.n += int(n or 0)
            if progress:
                progress(name, self.n, self.total or None)

        def update_transfer(self, _: int | float | None = 1) -> None:
            """Ignore bytes sent over the network: fewer than the file's if parts of it were cached."""

        def _ignore(self, *_: object, **__: object) -> None:
            pass

        close = refresh = set_description = set_postfix_str = set_transfer_postfix_str = _ignore

    return Bar
