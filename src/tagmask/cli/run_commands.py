def export(
    student: Annotated[
        Path, typer.Argument(help="The trained student file.", metavar="STUDENT", show_default=False)
    ],
    out: Annotated[
        Path, typer.Argument(help="The ONNX file to write.", metavar="OUT.onnx", show_default=False)
    ],
    size: Annotated[
        str | None,
        typer.Option(metavar="HxW", help="Fix height and width, as in 512x512. Default: both vary."),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(metavar="N", help="Fix the batch size. Default: it varies.", min=1)
    ] = None,
    output: Annotated[
        str,
        typer.Option(metavar="NAME", help="softmax: probabilities of all classes; labels: the best class."),
    ] = "softmax",
    pixels: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Input format. bytes: uint8 RGB; normalised: float32, normalised by the caller.",
        ),
    ] = "bytes",
    opset: Annotated[int, typer.Option(metavar="N", help="ONNX opset version.", min=18)] = 18,
) -> None:
    """Export a trained student to ONNX and check it with onnxruntime."""
    with report_errors():
        from tagmask.cli.export import export_student, read_size

        export_student(student, out, read_size(size), batch, output, pixels, opset)


