"""The command `tagmask serve`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tagmask.app.limits import MAX_BODY, PhotoLimits
from tagmask.checks import check_installed
from tagmask.cli.arguments import background_words, load_weights
from tagmask.cli.console import message, report_errors
from tagmask.cli.options import (
    ActivationOption,
    Background,
    Device,
    NoBackground,
    Precision,
    PrecisionOption,
    Refine,
    Regions,
    Weights,
)
from tagmask.errors import InputError

if TYPE_CHECKING:
    from tagmask.app.guards import Credentials

__all__ = ["serve"]

_SERVER, _IMAGES, _RESULTS = "Server", "Images", "Results"
_LIMITS = PhotoLimits()


def serve(
    label_studio: Annotated[
        bool,
        typer.Option(
            "--label-studio", help="Answer as an ML backend of Label Studio.", rich_help_panel=_SERVER
        ),
    ] = False,
    port: Annotated[
        int, typer.Option(metavar="N", help="0: any free port.", min=0, max=65535, rich_help_panel=_SERVER)
    ] = 9090,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Address to listen at. Any but the local machine's needs --user.",
            rich_help_panel=_SERVER,
        ),
    ] = "127.0.0.1",
    user: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Ask for this name and the password in TAGMASK_PASSWORD.",
            rich_help_panel=_SERVER,
        ),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Another name of this machine, for use without --user; may be repeated.",
            rich_help_panel=_SERVER,
        ),
    ] = None,
    time_limit: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="Answer by then; Label Studio, which waits for 100 s, gets the predictions that are ready.",
            min=1,
            rich_help_panel=_SERVER,
        ),
    ] = _LIMITS.seconds,
    waiting: Annotated[
        int,
        typer.Option(
            metavar="N", help="Requests that may wait; more are refused.", min=1, rich_help_panel=_SERVER
        ),
    ] = _LIMITS.waiting,
    max_bytes: Annotated[
        int, typer.Option(metavar="N", help="Largest request.", min=1000, rich_help_panel=_SERVER)
    ] = MAX_BODY,
    max_pixels: Annotated[
        int, typer.Option(metavar="N", help="Largest photo.", min=1, rich_help_panel=_SERVER)
    ] = _LIMITS.pixels,
    max_words: Annotated[
        int, typer.Option(metavar="N", help="Most words of a request.", min=1, rich_help_panel=_SERVER)
    ] = _LIMITS.words,
    weights: Weights = None,
    activation: ActivationOption = None,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Mask method: sclip, naclip, cls-seg, ... (see `tagmask methods`).",
            rich_help_panel=_RESULTS,
        ),
    ] = None,
    refine: Annotated[
        Refine | None,
        typer.Option(metavar="NAME", help="Refine masks: none, pamr, tlp or crf.", rich_help_panel=_RESULTS),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="SCORE",
            help="Pixels whose best score is below it become background.",
            min=0,
            max=1,
            rich_help_panel=_RESULTS,
        ),
    ] = None,
    background: Background = None,
    no_background: NoBackground = False,
    regions: Annotated[
        Regions,
        typer.Option(
            metavar="KIND",
            help="class: one region per label; component: one per connected part.",
            rich_help_panel=_RESULTS,
        ),
    ] = Regions.by_class,
    min_area: Annotated[
        int,
        typer.Option(metavar="PIXELS", help="Leave out smaller regions.", min=1, rich_help_panel=_RESULTS),
    ] = 1,
    label_studio_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="LABEL_STUDIO_URL",
            help="Label Studio's address, to fetch uploads with the key in LABEL_STUDIO_API_KEY.",
            rich_help_panel=_IMAGES,
            show_default=False,
        ),
    ] = None,
    local_files_root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of tasks' local files (LOCAL_FILES_DOCUMENT_ROOT).",
            rich_help_panel=_IMAGES,
        ),
    ] = None,
    allow_image_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST[:PORT]",
            help="Fetch images from this host too; may be repeated. If its address is private, repeat the "
            "option with the address.",
            rich_help_panel=_IMAGES,
        ),
    ] = None,
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Serve tags and masks over HTTP.

    Open the address in a browser to drop a photo and type words, or post to
    /v1/tag and /v1/mask. With --label-studio, pre-labels for Label Studio:
    the words come from the project's labeling configuration. A label is its
    own prompt, or has one in `hint`: <Label value="Pet" hint="cat, kitten"/>.
    """
    with report_errors():
        check_installed("`tagmask serve`", "app")
        from contextlib import closing
        from functools import partial

        from tagmask.api import Segmenter, Tagger
        from tagmask.app.addresses import parse_allowed_host
        from tagmask.app.image_access import ImageAccess
        from tagmask.app.label_studio import label_studio_router
        from tagmask.app.label_studio_backend import LabelStudioBackend
        from tagmask.app.label_studio_files import LabelStudioServer
        from tagmask.app.model_worker import ModelWorker
        from tagmask.app.page_files import package_page, page_files, page_router
        from tagmask.app.photo_routes import photo_router
        from tagmask.app.photo_service import PhotoService
        from tagmask.app.predictions import RegionOptions
        from tagmask.app.server import create_app, listen, run_server
        from tagmask.cli.mask import mask_settings
        from tagmask.clip.sources import DEFAULT_WEIGHTS
        from tagmask.resolve import mask_recipe

        if not label_studio and (local_files_root is not None or allow_image_host):
            raise InputError("--local-files-root and --allow-image-host are for --label-studio. Add it.")
        credentials = _credentials(user)
        settings = mask_settings(method, threshold, False, refine)
        texts = background_words(background, no_background)
        recipe = mask_recipe(None, ["cat"], texts, None, settings)  # refuses invalid settings now
        name = weights or DEFAULT_WEIGHTS
        model = ModelWorker(
            lambda: load_weights(weights, activation, device, precision),
            lambda clip, words: partial(
                Segmenter(
                    clip, words, recipe=None, background=texts, as_=None, head=None, engine=None, **settings
                ),
                confidence=True,
            ),
            lambda clip, words: Tagger(clip, words, background=texts),
        )
        stops = [model.stop]
        if label_studio:
            images = ImageAccess(
                LabelStudioServer(label_studio_url, os.environ.get("LABEL_STUDIO_API_KEY", "").strip())
                if label_studio_url
                else None,
                local_files_root,
                tuple(map(parse_allowed_host, allow_image_host or ())),
            )
            backend = LabelStudioBackend(
                model,
                images,
                version=f"tagmask {recipe.method} {Path(name).stem if Path(name).exists() else name}",
                time_limit=time_limit,
                regions=RegionOptions(regions.value, min_area),
            )
            routers = [label_studio_router(backend)]
            stops.insert(0, backend.stop)
        else:
            limits = PhotoLimits(max_pixels, max_words, waiting, time_limit)
            routers = [
                photo_router(PhotoService(model, limits)),
                page_router(page_files(package_page()), "photo.html"),
            ]

        def stop() -> None:
            for each in stops:
                each()

        with closing(listen(host, port, has_password=credentials is not None)) as bound:
            shown = f"[{host}]" if ":" in host else host
            url = f"http://{shown}:{bound.getsockname()[1]}"
            message(f"ML backend for Label Studio: {url}" if label_studio else f"Open {url}")
            run_server(
                lambda fail: create_app(
                    routers,
                    credentials=credentials,
                    allowed_hosts=allowed_host or (),
                    max_body=max_bytes,
                    start=lambda: model.start(fail),
                    stop=stop,
                ),
                bound,
            )


def _credentials(user: str | None) -> "Credentials | None":
    """Return what --user and TAGMASK_PASSWORD set.

    Raises:
        InputError: only one of them is given.
    """
    from tagmask.app.guards import Credentials

    password = os.environ.get("TAGMASK_PASSWORD", "")
    if user is None and password:
        raise InputError("TAGMASK_PASSWORD is set without a name. Give --user NAME.")
    if user is None:
        return None
    if not user or ":" in user:
        raise InputError("The name of --user is empty or has a colon. Give another.")
    if not password:
        raise InputError("--user needs a password. Set TAGMASK_PASSWORD.")
    return Credentials(user, password)
