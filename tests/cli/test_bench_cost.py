"""`tagmask bench cost`: SCLIP's five modes, and what is refused."""

import pytest
from typer.testing import CliRunner, Result

from tagmask.cli.main import app


def cost(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["bench", "cost", *arguments])


def test_the_five_modes_of_table_4_are_counted() -> None:
    result = cost()
    assert result.exit_code == 0, result.output
    rows = [[field.strip() for field in line.split("|")[1:-1]] for line in result.stdout.splitlines()[2:]]
    assert [row[0].partition(":")[0] for row in rows] == [f"mode {i}" for i in range(1, 6)]
    assert [row[2] for row in rows] == [
        "2 of 224 x 224",
        "6 of 224 x 224",
        "1 of 336 x 448",
        "15 of 224 x 224",
        "2 of 448 x 448",
    ]
    assert rows[1][4:] == ["17.68", "106.1", "212.1"]
    assert "4480 sentences, 13.3 TMAC at full length, once" in result.stderr
    assert "--refine pamr, 56 maps: 1.68 GMAC and 23 MiB more." in result.stderr
    assert "--refine tlp, 56 maps: 0.09 GMAC and 11 MiB more." in result.stderr


def test_other_recipes_and_sizes() -> None:
    result = cost("naclip/cityscapes", "--size", "1024x2048")
    assert "36 of 224 x 224" in result.stdout
    assert "The last block of naclip is counted as CLIP's own." in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tagclip-2",), "No dense recipe matches 'tagclip-2'"),
        (("--size", "375"), "Invalid --size '375'. Give HEIGHTxWIDTH in pixels, as in 375x500"),
        (("--size", "0x9"), "Invalid --size '0x9'"),
    ],
)
def test_wrong_arguments_are_refused(arguments: tuple[str, ...], message: str) -> None:
    result = cost(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
