import pytest

from tagmask.app.label_config import Label, parse_label_config
from tagmask.errors import InputError


def config(controls: str, image: str = '<Image name="i" value="$url"/>') -> str:
    return f"<View>{image}{controls}</View>"


def brush(labels: str, attributes: str = 'name="b" toName="i"') -> str:
    return config(f"<BrushLabels {attributes}>{labels}</BrushLabels>")


def test_a_label_is_its_own_prompt_unless_it_has_another() -> None:
    labels = brush(
        '<Label value="cat"/><Label value="Hund" alias="dog"/><Label value="Boot" hint="boat, ship"/>'
        '<Label value="Haus" alias="house" hint="a red house"/><Label value=" "/><Label value="$dynamic"/>'
    )
    assert parse_label_config(labels).controls[0].labels == (
        Label("cat", "cat"),
        Label("dog", "dog"),  # Label Studio stores the alias in annotations
        Label("Boot", "boat, ship"),
        Label("house", "a red house"),
    )


def test_controls_belong_to_their_image() -> None:
    text = """<?xml version="1.0" encoding="utf-16"?>
    <View>
      <Choices name="kind" toName="second,first"><View><Choice value="a"/></View>
        <Choice value="b"><Choice value="below"/></Choice></Choices>
      <brushlabels name="mask" toName="first"><label value="c"/></brushlabels>
      <Image name="first" value="$one"/><Image name="second" value="$two"/>
      <Label value="stray"/>
    </View>"""
    found = [
        (c.kind, c.from_name, c.to_name, c.image_key, c.prompts) for c in parse_label_config(text).controls
    ]
    assert found == [
        ("choices", "kind", "second", "two", ("a", "b")),
        ("brushlabels", "mask", "first", "one", ("c",)),
    ]


@pytest.mark.parametrize(
    ("attributes", "single"), [("", True), ('choice="single"', True), ('choice="multiple"', False)]
)
def test_choices_are_single_unless_they_say_otherwise(attributes: str, single: bool) -> None:
    text = config(f'<Choices name="c" toName="i" {attributes}><Choice value="a"/></Choices>')
    assert parse_label_config(text).controls[0].single is single


@pytest.mark.parametrize(
    ("text", "unused"),
    [
        ("", ()),
        ("<View/>", ()),
        (
            config('<RectangleLabels name="r" toName="i"><Label value="a"/></RectangleLabels>'),
            "RectangleLabels",
        ),
        (brush('<Label value="a"/>', 'name="b" toName="other"'), "brushlabels"),
        (brush(""), "brushlabels"),
        (config('<Choices name="c" toName="i" perRegion="true"><Choice value="a"/></Choices>'), "Choices"),
        (
            config(
                '<Choices name="c" toName="i"><Choice value="a"/></Choices>',
                '<Image name="i" value="x.png"/>',
            ),
            "choices",
        ),
    ],
)
def test_what_cannot_be_filled(text: str, unused: object) -> None:
    parsed = parse_label_config(text)
    assert parsed.unused == ((unused,) if isinstance(unused, str) else unused)
    with pytest.raises(InputError, match="nothing that tagmask can fill"):
        parsed.check_usable()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<View>", "is no XML"),
        ("<View>\x00</View>", "is no XML"),
        ("<View>\ud800</View>", "is no XML"),
        ("<View>&lol;</View>", "is no XML"),
        ('<!DOCTYPE v [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><View>&b;</View>', "document type"),
        ('<!DOCTYPE v [<!ENTITY x SYSTEM "file:///etc/passwd">]><View>&x;</View>', "document type"),
        ('<!DOCTYPE v SYSTEM "http://127.0.0.1:1/v.dtd"><View/>', "document type"),
        ("<View>" * 65 + "</View>" * 65, "too large: more than 64 levels"),
        (f"<View>{'<View/>' * 5000}</View>", "too large: more than 5000 elements"),
        (f"<View>{' ' * 1_000_000}</View>", "too large: more than 1000000 characters"),
        (brush("".join(f'<Label value="{i}"/>' for i in range(1001))), "too large: more than 1000 labels"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_hostile_xml_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        parse_label_config(text)
