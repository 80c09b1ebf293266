"""The command `tagmask review`."""

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tagmask.checks import check_installed
from tagmask.cli.arguments import load_run_weights
from tagmask.cli.console import report_errors, show
from tagmask.cli.options import Device, MaskRun, RunWeights

if TYPE_CHECKING:
    from tagmask.clip.load import Clip
    from tagmask.runs.reader import Run

__all__ = ["review"]


def review(
    run: MaskRun,
    port: Annotated[int, typer.Option(metavar="N", help="0: any free port.", min=0, max=65535)] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    weights: RunWeights = None,
    memory: Annotated[
        int, typer.Option(metavar="MB", help="Memory for features of the images seen last.", min=1)
    ] = 1024,
    keep_features: Annotated[
        bool,
        typer.Option("--keep-features", help="Write them to RUN/features too: the next review reads them."),
    ] = False,
    device: Device = "auto",
) -> None:
    """See, correct and improve a run in the browser.

    Serves a page on this machine alone, and prints its address. It shows the
    run's images, least confident first, and redraws their masks as you change
    words and thresholds. Masks that you correct there go to RUN/corrected.
    A run that is still being made can be reviewed too. Ctrl-C ends it.
    """
    with report_errors():
        check_installed("`tagmask review`", "app")
        from contextlib import closing

        from tagmask.app.review_app import review_app
        from tagmask.app.review_session import ReviewSession
        from tagmask.app.reviewed_run import ReviewedRun
        from tagmask.app.server import listen, run_server

        def load(of: "Run") -> "Clip":
            return load_run_weights(of, weights, device)

        options = [f"--device={device}", *([] if weights is None else [f"--weights={weights}"])]
        session = ReviewSession()
        with closing(listen("127.0.0.1", port, has_password=False)) as bound:
            reviewed = ReviewedRun(run)
            address = f"http://127.0.0.1:{bound.getsockname()[1]}/?token={session.token}"
            show(f"Review {run}: {address}")
            sys.stdout.flush()
            if browser:
                _open_browser(address)
            run_server(
                lambda _: review_app(
                    reviewed,
                    load,
                    session,
                    memory=memory << 20,
                    keep_features=keep_features,
                    model_options=options,
                ),
                bound,
            )


def _open_browser(address: str) -> None:
    """Open the page where there is a screen: elsewhere Python would start a browser of text."""
    import threading
    import webbrowser

    screen = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    if screen or not sys.platform.startswith("linux"):
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
